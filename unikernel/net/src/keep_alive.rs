//! Connections that have nothing to say: whether their peer is still there, and what they keep while idle.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::TcpRepr;

use crate::error::SocketError;
use crate::flow::{Flow, Owner, Path};
use crate::id::TcpId;
use crate::phy::HEADER_LEN;
use crate::stack::Stack;
use crate::timers::NEVER;
use crate::wire;

impl Stack {
    /// Looks after a connection that was just visited: probes a silent peer, gives back what an idle one
    /// does not need. Answers when it has to be looked at again.
    #[cold]
    pub(crate) fn rest(&mut self, id: TcpId) -> Instant {
        let Some(flow) = self.flows.get(id) else { return NEVER };
        let mut next = NEVER;
        if let Owner::Deferred(listener, until) = flow.owner {
            if until > self.now {
                next = until;
            } else {
                self.enqueue(id, listener);
            }
        }
        let Some(flow) = self.flows.get(id) else { return next };
        if flow.keep_alive.is_some() {
            next = next.min(self.keep_alive(id));
        }
        let Some(flow) = self.flows.get(id) else { return next };
        if flow.buffer_sizes() == (0, 0) || !flow.is_quiet() {
            return next;
        }
        let idle_at = flow.active_at + self.config.idle_after;
        if idle_at > self.now {
            return next.min(idle_at);
        }
        self.flows.park(id);
        next
    }

    /// Probes the peer when it has been silent for long (RFC 9293 section 3.8.4), and gives up when it does
    /// not answer.
    fn keep_alive(&mut self, id: TcpId) -> Instant {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(id) else { return NEVER };
        let Some(keep_alive) = flow.keep_alive else { return NEVER };
        let is_open = matches!(flow.state(), State::Established | State::CloseWait);
        if !is_open || flow.send_queue() > 0 {
            // What is under way is probe enough; the retransmission time-out speaks for it.
            return NEVER;
        }
        let due = flow.heard_at + keep_alive.idle + keep_alive.interval * u32::from(flow.probes);
        if due > now {
            return due;
        }
        let silence = now - flow.heard_at;
        let is_over = match flow.user_timeout.get() {
            // As Linux: it overrides the count (tcp(7)).
            Some(limit) => flow.probes > 0 && silence >= limit,
            None => flow.probes >= keep_alive.probes,
        };
        if is_over {
            self.counters.timeouts += 1;
            self.fail_flow(id, SocketError::TimedOut);
            return NEVER;
        }
        flow.probes = flow.probes.saturating_add(1);
        self.counters.keep_alive_probes += 1;
        self.send_probe(id);
        now + keep_alive.interval
    }

    /// Sends a segment that the peer must answer, because it has seen its number before.
    fn send_probe(&mut self, id: TcpId) {
        let Some(flow) = self.flows.get(id) else { return };
        let path = flow.path;
        let headroom = if let Path::Link(_) = path { HEADER_LEN } else { 0 };
        let packet = probe(flow, headroom, &self.checksums);
        match path {
            Path::Link(header) => self.send_frame(packet, header),
            Path::Loopback => self.counters.queue_full += u64::from(!self.loopback.push(packet)),
            Path::Resolving => {}
        }
    }
}

fn probe(flow: &Flow, headroom: usize, checksums: &ChecksumCapabilities) -> alloc::vec::Vec<u8> {
    let shift = flow.front(false).shift;
    let window = flow.rx_window.saturating_sub(flow.recv_queue()) >> shift;
    let fin = usize::from(flow.state() == State::CloseWait);
    let repr = TcpRepr {
        seq_number: flow.track.una - 1,
        ack_number: Some(flow.track.received + fin),
        window_len: u16::try_from(window).unwrap_or(u16::MAX),
        ..wire::PLAIN_SEGMENT
    };
    wire::tcp_packet(flow.local, flow.remote, &repr, headroom, checksums)
}
