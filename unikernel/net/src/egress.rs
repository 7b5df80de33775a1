//! The way out: [`Stack::flush`] visits the flows that may have something to send, once a batch.

use core::net::IpAddr;

use smoltcp::iface::{Interface, PollResult};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use crate::engine::LATER;
use crate::error::SocketError;
use crate::flow::{Flow, Owner, Path};
use crate::id::TcpId;
use crate::neighbor::Answer;
use crate::phy::Outbound;
use crate::route::Route;
use crate::segmenter::Segmenter;
use crate::stack::Stack;
use crate::timers::NEVER;
use crate::tracer;
use crate::track::Seen;
use crate::wire;

/// How often loopback may answer itself in one flush; what is left waits for the next.
const LOOPBACK_ROUNDS: usize = 64;

/// smoltcp's least retransmission time-out (`RTTE_MIN_RTO`).
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// What a visit to a flow has sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    None,
    /// Something, but nothing a second time.
    New,
    /// Data that had been sent before.
    Repeated,
}

/// How long an acknowledgement may wait for the congestion window to let data go with it.
const ACK_PATIENCE: Duration = Duration::from_millis(10);

/// How a visit to a flow ended.
enum Visit {
    /// It has sent all it may; it wants to be looked at again then.
    Done(Instant),
    /// The device has no room.
    Blocked,
}

impl Stack {
    /// Lets out what is due: control packets, then every flow that may have something to send.
    /// What finds no room in the device stays for the next call. True if anything was tried.
    pub fn flush<D: Segmenter + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        self.now = now;
        self.blocked = (0, 0);
        let has_worked = self.has_work() || self.control.next <= now;
        self.flush_control(device);
        self.flush_outbox(device);
        self.blocked.1 = self.outbox.len();
        self.flush_flows(device);
        for _ in 0..LOOPBACK_ROUNDS {
            if !self.loopback_in() {
                break;
            }
            self.flush_flows(device);
        }
        if self.outbox.len() > self.blocked.1 {
            // What the visits left there: probes.
            self.flush_outbox(device);
        }
        let flows = &self.flows;
        let is_live = |at, id| flows.get(id).is_some_and(|flow| flow.timer_at == at);
        self.timers.trim(flows.len(), is_live);
        self.blocked.1 = self.outbox.len();
        has_worked
    }

    fn flush_control<D: Device + ?Sized>(&mut self, device: &mut D) {
        if self.control.next > self.now {
            return;
        }
        self.time_wait.expire(self.now);
        if self.control.egress(self.now, device, &self.traffic) {
            self.apply_lease();
        }
    }

    fn flush_outbox<D: Device + ?Sized>(&mut self, device: &mut D) {
        use smoltcp::phy::TxToken;
        while let Some(frame) = self.outbox.pop_front() {
            let Some(token) = device.transmit(self.now) else {
                self.outbox.push_front(frame);
                return;
            };
            token.consume(frame.len(), |buffer| buffer.copy_from_slice(&frame));
            self.traffic.count(frame.len());
        }
        for id in core::mem::take(&mut self.udp_blocked) {
            self.notify_udp(id);
        }
    }

    fn flush_flows<D: Segmenter + ?Sized>(&mut self, device: &mut D) {
        // Visits may mark flows dirty again; those are for the next round.
        let mut batch = core::mem::take(&mut self.dirty);
        let mut blocked = 0;
        for index in 0..batch.len() {
            let id = batch[index];
            if !self.flow_out(id, device) {
                batch[blocked] = id;
                blocked += 1;
            }
        }
        batch.truncate(blocked);
        self.blocked.0 = blocked;
        batch.append(&mut self.dirty);
        self.dirty = batch;
    }

    /// Visits one flow. False if it must be visited again when the device has room.
    fn flow_out<D: Segmenter + ?Sized>(&mut self, id: TcpId, device: &mut D) -> bool {
        let was_backed_up = self.is_backed_up(id);
        let is_done = self.visit(id, device);
        if was_backed_up && !self.is_backed_up(id) {
            self.notify_tcp(id);
        }
        is_done
    }

    fn visit<D: Segmenter + ?Sized>(&mut self, id: TcpId, device: &mut D) -> bool {
        if let Some(is_done) = self.plain_out(id, device) {
            return is_done;
        }
        let Some(flow) = self.flows.get_mut(id) else { return true };
        self.counters.retransmit_timeouts += u64::from(flow.check_due(self.now));
        flow.tune_timeout(&self.timeouts);
        flow.forget_urgent();
        let before = flow.state();
        let seen = Seen::default();
        let visit = match flow.path {
            Path::Loopback => {
                let watch = Some((flow.front(false), &seen));
                let mut outbound = Outbound::new(&mut self.loopback, None, None).watched(watch);
                send(flow, &mut self.interfaces.loopback, &mut outbound, (self.now, &seen))
            }
            Path::Link(header) => {
                let watch = Some((flow.front(self.checksums.tcp.tx()), &seen));
                let traffic = Some(&self.traffic);
                let mut outbound = Outbound::new(device, Some(header), traffic).watched(watch);
                send(flow, &mut self.interfaces.link, &mut outbound, (self.now, &seen))
            }
            Path::Resolving => (Visit::Done(NEVER), Progress::None),
        };
        let (visit, progress) = visit;
        self.counters.retransmits += u64::from(progress == Progress::Repeated);
        if progress == Progress::Repeated {
            tracer::tell_resent(self.tracer, flow, 1);
        }
        if let Some(tracer) = self.tracer {
            tracer::tell_state(tracer, flow);
        }
        let has_fired = core::mem::take(&mut flow.timer_fired);
        if progress != Progress::None || !has_fired {
            flow.active_at = self.now;
        }
        let Visit::Done(next) = visit else { return false };
        flow.is_dirty = false;
        let after = flow.state();
        let next = match flow.calm_until(self.now, self.config.idle_after) {
            Some(at) => next.min(at),
            None => next.min(self.rest(id)),
        };
        let Some(flow) = self.flows.get_mut(id) else { return true };
        self.timers.ensure(id, &mut flow.timer_at, next);
        if after == State::Closed || after == State::TimeWait {
            self.wind_up(id, before, next);
        }
        true
    }

    /// A flow that was visited is closed, or waits for its peer to be sure.
    fn wind_up(&mut self, id: TcpId, before: State, next: Instant) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if flow.state() == State::TimeWait {
            // The last acknowledgement is out when nothing but the long wait is left.
            let is_quiet = next > self.now + Duration::from_millis(100);
            if let (Owner::Orphan, true, Some(last)) = (flow.owner, is_quiet, flow.last) {
                let key = flow.key;
                self.counters.time_wait_evicted +=
                    u64::from(self.time_wait.insert(self.now, &self.seed, key, last));
                self.drop_flow(id);
            }
            return;
        }
        // smoltcp closes a socket on its own only when the peer's silence was too long.
        if before != State::Closed && before != State::TimeWait {
            self.timed_out(id);
        }
        let Some(flow) = self.flows.get(id) else { return };
        // A reset cannot be sent to a peer that was never found.
        let is_finished = flow.is_finished() || flow.path == Path::Resolving;
        if matches!(flow.owner, Owner::Orphan | Owner::HalfOpen(_)) && is_finished {
            self.drop_flow(id);
        }
    }

    fn timed_out(&mut self, id: TcpId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        match flow.owner {
            Owner::HalfOpen(_) => self.counters.half_open_timeouts += 1,
            _ => self.counters.timeouts += 1,
        }
        flow.error = flow.error.or(Some(SocketError::TimedOut));
        self.notify_tcp(id);
    }

    /// Finds the way to a peer. None if there is none.
    pub(crate) fn path_to(&mut self, remote: IpAddr) -> Option<(Path, Option<IpAddr>)> {
        let mac = self.config.mac;
        let is_ipv4 = remote.is_ipv4();
        match self.addresses.route(remote)? {
            Route::Loopback => Some((Path::Loopback, None)),
            Route::Multicast(group) => Some((Path::Link(wire::header(group, mac, is_ipv4)), None)),
            Route::Neighbor(hop) => Some(match self.resolve(hop)? {
                Some(neighbor) => (Path::Link(wire::header(neighbor, mac, is_ipv4)), None),
                None => (Path::Resolving, Some(hop)),
            }),
        }
    }

    /// True if what is sent to a peer leaves at once: there is a way, and the next machine on it is known. If that is not, it is
    /// asked for.
    pub fn can_reach(&mut self, peer: IpAddr) -> bool {
        matches!(self.path_to(peer), Some((Path::Link(_) | Path::Loopback, _)))
    }

    /// What the way to a peer carries whole, in bytes of IP packet (`IP_MTU`). Within the machine that is as much as Linux's
    /// loopback, or as the length field of IPv4 says.
    pub(crate) fn peer_mtu(&self, peer: IpAddr) -> usize {
        match self.addresses.owns(peer) {
            true if peer.is_ipv4() => usize::from(u16::MAX),
            true => 1 << 16,
            false => self.path_mtu(peer),
        }
    }

    /// The hardware address of a neighbour, or none yet; outer none if too many are being asked.
    fn resolve(&mut self, hop: IpAddr) -> Option<Option<smoltcp::wire::EthernetAddress>> {
        match self.neighbors.lookup(self.now, hop) {
            Answer::Known(mac) => Some(Some(mac)),
            Answer::Stale(mac) => {
                self.ask(hop);
                Some(Some(mac))
            }
            Answer::Ask => {
                self.ask(hop);
                Some(None)
            }
            Answer::Wait => Some(None),
            Answer::Full => {
                self.counters.neighbor_dropped += 1;
                None
            }
        }
    }

    fn ask(&mut self, hop: IpAddr) {
        let mac = self.config.mac;
        let frame = match (hop, self.addresses.source_for(hop)) {
            (IpAddr::V4(hop), Some(IpAddr::V4(own))) => wire::arp_request(mac, own, hop),
            (IpAddr::V6(hop), Some(IpAddr::V6(own))) => wire::neighbor_solicit(mac, own, hop),
            _ => return,
        };
        self.push_outbox(frame);
    }

    /// Asks again for neighbours that have not answered; gives up on those asked often enough.
    pub(crate) fn retry_neighbors(&mut self) {
        let mut again = alloc::vec::Vec::new();
        let given_up = self.neighbors.retry(self.now, |hop| again.push(hop));
        for hop in again {
            self.ask(hop);
        }
        for released in given_up {
            self.counters.neighbor_dropped += released.frames.len() as u64;
            for id in released.flows {
                self.fail_attempt(id, SocketError::HostUnreachable);
            }
        }
    }

    /// Ends a connection attempt that cannot succeed; leaves any other flow alone.
    pub(crate) fn fail_attempt(&mut self, id: TcpId, error: SocketError) {
        if self.flows.get(id).is_some_and(|flow| flow.state() == State::SynSent) {
            self.fail_flow(id, error);
        }
    }

    /// Ends a flow at once, with an error for whoever holds it.
    pub(crate) fn fail_flow(&mut self, id: TcpId, error: SocketError) {
        let Some(flow) = self.flows.awake(id, self.now) else { return };
        flow.error = flow.error.or(Some(error));
        flow.abort();
        self.mark_dirty(id);
        self.notify_tcp(id);
    }
}

/// Segments of one flow in a row, at most.
const MOST_SEGMENTS: usize = 4096;

/// Lets a flow send until it has nothing more, the congestion window is full, or the device has no more room.
/// Answers also whether anything was sent.
#[inline]
fn send<D: Device + ?Sized>(
    flow: &mut Flow,
    interface: &mut Interface,
    outbound: &mut Outbound<'_, D>,
    (now, seen): (Instant, &Seen),
) -> (Visit, Progress) {
    let mut progress = Progress::None;
    let is_single = flow.fits_segment(flow.send_queue());
    // What a timer of smoltcp's asks for, an acknowledgement most of all, may go once in any case.
    let mut is_owed = flow.timer_fired || flow.owes_ack();
    for _ in 0..MOST_SEGMENTS {
        if !is_owed && !flow.may_send(now) {
            let due = if flow.track.acknowledged == flow.track.received { NEVER } else { now + ACK_PATIENCE };
            let due = due.min(if flow.corked_until > now { flow.corked_until } else { NEVER });
            return (Visit::Done(due.min(flow.congestion.due)), progress);
        }
        is_owed = false;
        let must_probe = core::mem::take(&mut flow.must_probe);
        let Some(engine) = &mut flow.engine else { return (Visit::Done(NEVER), progress) };
        if must_probe {
            let socket = engine.socket_mut();
            let is_silent = socket.timeout().is_some_and(|timeout| flow.heard_at + timeout <= now);
            if !is_silent {
                // The time-out is not meant.
                socket.set_timeout(None);
            }
        }
        let at = if must_probe { now + LATER } else { now };
        let result = interface.poll_egress(at, outbound, &mut engine.sockets);
        if outbound.exhausted {
            flow.must_probe |= must_probe;
            return (Visit::Blocked, progress);
        }
        if result == PollResult::SocketStateChanged && progress == Progress::None {
            progress = Progress::New;
        }
        if let Some(sent) = seen.take()
            && flow.note(now, &sent)
        {
            progress = Progress::Repeated;
        }
        flow.repeats = false;
        let has_sent = progress != Progress::None;
        flow.is_unsent &= !has_sent;
        if has_sent && is_single && flow.state() == State::Established {
            // The usual response: it was all there was, and it carried the acknowledgement. What
            // falls due next is its retransmission; then the flow is asked. If the peer's window was
            // too small for it, the peer speaks next.
            return (Visit::Done(flow.congestion.due.min(now + LEAST_TIMEOUT)), progress);
        }
        let Some(engine) = &flow.engine else { return (Visit::Done(NEVER), progress) };
        let next = interface.poll_at(now, &engine.sockets).unwrap_or(NEVER);
        if next > now {
            return (Visit::Done(next.min(flow.congestion.due)), progress);
        }
        if result == PollResult::None {
            // It says "now" but sends nothing: let time pass rather than spin.
            return (Visit::Done(now + Duration::from_millis(10)), progress);
        }
    }
    // What it sends depends on what the peer has said. The lock of the stack is held meanwhile: others have their turn.
    (Visit::Done(now + Duration::from_millis(1)), progress)
}
