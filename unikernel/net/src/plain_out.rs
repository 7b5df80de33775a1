//! The way out for connections without an engine ([`crate::plain`]): each segment is written once, header and
//! payload, into the place where it is sent from.

use smoltcp::phy::{ChecksumCapabilities, Device, TxToken};
use smoltcp::time::{Duration, Instant};

use crate::counters::Traffic;
use crate::flow::{Flow, Path};
use crate::id::TcpId;
use crate::phy::{HEADER_LEN, Header};
use crate::plain::Step;
use crate::stack::Stack;
use crate::template::Template;
use crate::timers::NEVER;
use crate::wire::{self, Plan};

/// How long a connection waits that needs an engine when there is no memory for one.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where a flow's segments go.
struct Exit<'a, D: ?Sized> {
    device: &'a mut D,
    header: Option<Header>,
    checksums: &'a ChecksumCapabilities,
    traffic: Option<&'a Traffic>,
}

/// What a visit has done.
struct Visit {
    /// When to come again; none if the device had no room.
    next: Option<Instant>,
    sent: u64,
    repeated: u64,
}

impl Stack {
    /// Visits a connection without an engine. False if it must be visited again when the device has room, none
    /// if it has to have an engine now.
    #[inline]
    pub(crate) fn plain_out<D: Device + ?Sized>(&mut self, id: TcpId, device: &mut D) -> Option<bool> {
        let now = self.now;
        let flow = self.flows.get_mut(id)?;
        if flow.needs_engine(now) {
            return self.trade_for_engine(id);
        }
        if flow.congestion.due <= now && flow.track.in_flight() > 0 {
            flow.time_out(now);
            self.counters.retransmit_timeouts += 1;
        } else if flow.has_board() {
            flow.look_for_losses(now);
        }
        let visit = match flow.path {
            Path::Link(header) => {
                let (header, traffic) = (Some(header), Some(&self.traffic));
                let exit = Exit { device, header, checksums: &self.checksums, traffic };
                exit.visit(flow, now)
            }
            Path::Loopback => {
                let checksums = &ChecksumCapabilities::ignored();
                let exit = Exit { device: &mut self.loopback, header: None, checksums, traffic: None };
                exit.visit(flow, now)
            }
            Path::Resolving => Visit { next: Some(NEVER), sent: 0, repeated: 0 },
        };
        self.counters.retransmits += visit.repeated;
        let has_fired = core::mem::take(&mut flow.timer_fired);
        if visit.sent > 0 || !has_fired {
            flow.active_at = now;
        }
        let Some(next) = visit.next else { return Some(false) };
        flow.is_dirty = false;
        let next = match flow.calm_until(now, self.config.idle_after) {
            Some(at) => next.min(at),
            None => next.min(self.rest(id)),
        };
        if let Some(flow) = self.flows.get_mut(id) {
            self.timers.ensure(id, &mut flow.timer_at, next);
        }
        Some(true)
    }

    /// None if there is an engine now.
    #[cold]
    fn trade_for_engine(&mut self, id: TcpId) -> Option<bool> {
        let now = self.now;
        if self.flows.awake(id, now).is_some() {
            return None;
        }
        self.counters.no_memory += 1;
        let flow = self.flows.get_mut(id)?;
        flow.is_dirty = false;
        self.timers.ensure(id, &mut flow.timer_at, now + PATIENCE);
        Some(true)
    }
}

impl<D: Device + ?Sized> Exit<'_, D> {
    /// Lets a flow send until it has nothing more that may go.
    #[inline]
    fn visit(self, flow: &mut Flow, now: Instant) -> Visit {
        let mut visit = Visit { next: None, sent: 0, repeated: 0 };
        loop {
            match flow.step(now) {
                Step::Wait(until) => {
                    visit.next = Some(until);
                    return visit;
                }
                Step::Send { offset, len } => {
                    let Some(token) = self.device.transmit(now) else { return visit };
                    emit(flow, (offset, len), (token, self.header), self.checksums);
                    if let Some(traffic) = self.traffic {
                        traffic.count(HEADER_LEN + wire::headers_len(flow.local) + len);
                    }
                    visit.repeated += u64::from(flow.stepped(now, offset, len));
                    visit.sent += 1;
                    if flow.track.in_flight() == flow.send_queue() && !flow.has_board() {
                        // The usual response: all there was, and the acknowledgement with it.
                        visit.next = Some(flow.congestion.due);
                        return visit;
                    }
                }
            }
        }
    }
}

/// Writes a segment with `len` bytes of what is written, from `offset`, to where the device wants it.
#[inline]
fn emit<T: TxToken>(
    flow: &mut Flow,
    (offset, len): (usize, usize),
    (token, header): (T, Option<Header>),
    checksums: &ChecksumCapabilities,
) {
    let window = flow.told_window();
    let hop_limit = flow.hop_limit.unwrap_or(wire::HOP_LIMIT);
    let Some(plain) = &mut flow.plain else { return };
    let plan = Plan {
        local: flow.local,
        remote: flow.remote,
        hop_limit,
        sequence: flow.track.una + offset,
        acknowledged: flow.track.received,
        window,
        is_pushed: len > 0 && offset + len == plain.sending.len(),
    };
    let headers = wire::headers_len(flow.local);
    let Some(header) = header else {
        return token.consume(headers + len, |packet| {
            plain.sending.copy_out(offset, &mut packet[headers..]);
            plan.write(packet, checksums);
        });
    };
    if !plain.template.as_ref().is_some_and(|template| template.is_for(&header, hop_limit)) {
        plain.template = Template::new(&header, &plan);
    }
    token.consume(HEADER_LEN + headers + len, |frame| {
        plain.sending.copy_out(offset, &mut frame[HEADER_LEN + headers..]);
        match &plain.template {
            Some(template) => template.write(&plan, frame, checksums),
            None => {
                frame[..HEADER_LEN].copy_from_slice(&header);
                plan.write(&mut frame[HEADER_LEN..], checksums);
            }
        }
    });
}
