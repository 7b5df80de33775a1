//! The way out for connections without an engine ([`crate::plain`]): each segment is written once, header and
//! payload, into the place where it is sent from.

use core::num::NonZeroU8;
use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::time::{Duration, Instant};

use crate::counters::Traffic;
use crate::flow::{Flow, Path};
use crate::id::TcpId;
use crate::phy::{HEADER_LEN, Header};
use crate::plain::Step;
use crate::segmenter::Segmenter;
use crate::stack::Stack;
use crate::template::Template;
use crate::timers::NEVER;
use crate::tracer;
use crate::wire::{self, Ends, Plan};

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
    /// if it has an engine, or has to have one now.
    #[inline]
    pub(crate) fn plain_out<D: Segmenter + ?Sized>(&mut self, id: TcpId, device: &mut D) -> Option<bool> {
        let now = self.now;
        let flow = self.flows.get_mut(id).filter(|flow| flow.engine.is_none())?;
        flow.forget_urgent();
        if flow.needs_engine(now) {
            return self.trade_for_engine(id);
        }
        if flow.congestion.due <= now && flow.track.in_flight() > 0 {
            match flow.time_out(now) {
                true => self.counters.retransmit_timeouts += 1,
                false => self.counters.loss_probes += u64::from(flow.congestion.wants_probe()),
            }
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
        if visit.repeated > 0 {
            self.counters.retransmits += visit.repeated;
            tracer::tell_resent(self.tracer, flow, visit.repeated);
        }
        let has_fired = core::mem::take(&mut flow.timer_fired);
        if visit.sent > 0 || !has_fired {
            flow.active_at = now;
        }
        let Some(next) = visit.next else { return Some(false) };
        flow.is_dirty = false;
        if let Some(at) = flow.calm_until(now, self.config.idle_after) {
            self.timers.ensure(id, &mut flow.timer_at, next.min(at));
            return Some(true);
        }
        let next = next.min(self.rest(id));
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

impl<D: Segmenter + ?Sized> Exit<'_, D> {
    /// Lets a flow send until it has nothing more that may go.
    #[inline]
    fn visit(mut self, flow: &mut Flow, now: Instant) -> Visit {
        let mut visit = Visit { next: None, sent: 0, repeated: 0 };
        loop {
            let mut step = flow.step(now);
            let is_long = flow.send_queue() > usize::from(flow.track.mss);
            // Each segment has a pointer of its own.
            if is_long && self.header.is_some() && flow.urgent_end().is_none() {
                step = self.enlarged(flow, step);
            }
            match step {
                Step::Wait(until) => {
                    visit.next = Some(until);
                    return visit;
                }
                Step::Send { offset, len } => {
                    if !self.send(flow, offset, len, now) {
                        return visit;
                    }
                    if let Some(traffic) = self.traffic {
                        traffic.count(HEADER_LEN + wire::headers_len(flow.local) + len);
                    }
                    let mss = usize::from(flow.track.mss);
                    // A division is dear, and most sends are one segment.
                    let segments = if len <= mss { 1 } else { len.div_ceil(mss) as u64 };
                    visit.repeated += if flow.stepped(now, offset, len) { segments } else { 0 };
                    visit.sent += segments;
                    if flow.track.in_flight() == flow.send_queue() && !flow.has_board() {
                        // The usual response: all there was, and the acknowledgement with it.
                        visit.next = Some(flow.congestion.due);
                        return visit;
                    }
                }
            }
        }
    }

    /// A step that sends as much as the device takes at once.
    fn enlarged(&mut self, flow: &Flow, step: Step) -> Step {
        let most = self.device.largest_frame(flow.local.is_ipv4());
        flow.enlarged(step, most.saturating_sub(flow.cut().header_bytes.into()))
    }

    /// Sends `len` bytes from `offset`. False if the device has no room.
    #[inline]
    fn send(&mut self, flow: &mut Flow, offset: usize, len: usize, now: Instant) -> bool {
        if len > usize::from(flow.track.mss)
            && let Some(header) = self.header
        {
            return self.send_large(flow, (offset, len), &header);
        }
        let Some(token) = self.device.transmit(now) else { return false };
        emit(flow, (offset, len), (token, self.header), self.checksums);
        true
    }

    fn send_large(&mut self, flow: &mut Flow, (offset, len): (usize, usize), header: &Header) -> bool {
        let cut = flow.cut();
        let checksums = self.checksums;
        self.device.send_to_be_cut(cut, usize::from(cut.header_bytes) + len, |frame| {
            fill_framed(flow, (offset, len), header, frame, checksums);
        })
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
    let headers = wire::headers_len(flow.local);
    if let Some(header) = header {
        return token.consume(HEADER_LEN + headers + len, |frame| {
            fill_framed(flow, (offset, len), &header, frame, checksums);
        });
    }
    token.consume(headers + len, |packet| {
        let plan = plan(flow, (offset, len));
        if let Some(plain) = &flow.plain {
            plain.sending.copy_out(offset, &mut packet[headers..]);
            plan.write(&ends(flow), packet, checksums);
        }
    });
}

/// The same as a frame for the link.
#[inline]
fn fill_framed(
    flow: &mut Flow,
    (offset, len): (usize, usize),
    header: &Header,
    frame: &mut [u8],
    checksums: &ChecksumCapabilities,
) {
    let headers = HEADER_LEN + wire::headers_len(flow.local);
    let plan = plan(flow, (offset, len));
    let hop_limit = hop_limit(flow);
    let Some(plain) = &mut flow.plain else { return };
    plain.sending.copy_out(offset, &mut frame[headers..]);
    match &plain.template {
        Some(template) if template.is_for(header, hop_limit) => template.write(&plan, frame, checksums),
        _ => {
            let ends = ends(flow);
            frame[..HEADER_LEN].copy_from_slice(header);
            plan.write(&ends, &mut frame[HEADER_LEN..], checksums);
            if let Some(plain) = &mut flow.plain {
                plain.template = Template::new(header, &ends);
            }
        }
    }
}

#[inline]
fn hop_limit(flow: &Flow) -> u8 {
    flow.hop_limit.map_or(wire::HOP_LIMIT, NonZeroU8::get)
}

fn ends(flow: &Flow) -> Ends {
    Ends { local: flow.local, remote: flow.remote, hop_limit: hop_limit(flow) }
}

/// What the headers say in front of `len` bytes from `offset`.
#[inline]
fn plan(flow: &Flow, (offset, len): (usize, usize)) -> Plan {
    let sequence = flow.track.una + offset;
    let sequence = if len == 0 { flow.track.acceptable(sequence) } else { sequence };
    Plan {
        sequence,
        urgent: flow.urgent_pointer(sequence),
        acknowledged: flow.track.received,
        window: flow.told_window(),
        is_pushed: len > 0 && offset + len == flow.send_queue(),
    }
}
