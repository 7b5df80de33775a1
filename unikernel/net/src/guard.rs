//! What a segment must be like before smoltcp sees it: the rules of RFC 9293 that are stricter than
//! smoltcp's own, and those of RFC 5961 against forgers who do not see the conversation.

use core::net::SocketAddr;

use smoltcp::phy::TxToken;
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, TcpRepr, TcpSeqNumber};

use crate::flow::Flow;
use crate::id::TcpId;
use crate::ingress::Link;
use crate::key::FlowKey;
use crate::stack::Stack;
use crate::tcp_in::headers;
use crate::wire::{self, Segment};

/// A flow asks for proof at most so often (RFC 5961 section 7).
const CHALLENGE_PAUSE: Duration = Duration::from_millis(500);

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judgement {
    /// smoltcp takes it from here.
    Pass,
    /// It is forgotten.
    Drop,
    /// It may be forged: the peer is told where the conversation stands, and answers if it meant it.
    Challenge,
}

impl Flow {
    /// True for a segment of which nothing needs to be looked at twice: an acknowledgement of something that
    /// was sent, perhaps with data within the window, for a connection with buffers.
    #[inline]
    pub(crate) fn is_plain(&self, segment: &Segment<'_>) -> bool {
        self.engine.is_some()
            && segment.is_plain_ack()
            && segment.ack_number() <= self.track.sent + 1
            && segment.sequence() + segment.payload_len() <= self.track.edge
    }

    /// Judges a segment by its numbers.
    #[inline]
    pub(crate) fn judge(&self, segment: &Segment<'_>) -> Judgement {
        let is_synchronized =
            !matches!(self.state(), State::Closed | State::Listen | State::SynSent | State::SynReceived);
        if !is_synchronized {
            return Judgement::Pass;
        }
        if segment.is_rst() {
            return self.judge_reset(segment);
        }
        if segment.is_syn() {
            // RFC 5961 section 4.2.
            return Judgement::Challenge;
        }
        match segment.ack() {
            // One that acknowledges what was never sent (RFC 5961 section 5); our FIN counts for one.
            Some(ack) if ack > self.track.sent + 1 => Judgement::Challenge,
            _ => Judgement::Pass,
        }
    }

    /// A reset counts only if it is exactly in sequence (RFC 5961 section 3.2).
    fn judge_reset(&self, segment: &Segment<'_>) -> Judgement {
        let at = segment.sequence();
        // After the peer's FIN the next number is one higher.
        let next = self.track.received;
        if at == next || at == next + 1 {
            return Judgement::Pass;
        }
        let window_end = next + self.rx_window.saturating_sub(self.recv_queue());
        if at > next && at < window_end { Judgement::Challenge } else { Judgement::Drop }
    }

    /// True if the peer may be challenged now.
    fn may_challenge(&mut self, now: Instant) -> bool {
        let may = now >= self.challenge_at;
        if may {
            self.challenge_at = now + CHALLENGE_PAUSE;
        }
        may
    }
}

impl Stack {
    /// Asks a peer for proof that a segment is its own.
    #[cold]
    pub(crate) fn challenge<T: TxToken>(&mut self, id: TcpId, link: Link, token: T) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(id) else { return };
        if !flow.may_challenge(now) {
            return;
        }
        let has_fin = !matches!(flow.state(), State::Established | State::FinWait1 | State::FinWait2);
        let shift = flow.front(false).shift;
        let window = flow.rx_window.saturating_sub(flow.recv_queue()) >> shift;
        let repr = TcpRepr {
            seq_number: flow.track.sent,
            ack_number: Some(flow.track.received + usize::from(has_fin)),
            window_len: u16::try_from(window).unwrap_or(u16::MAX),
            ..wire::PLAIN_SEGMENT
        };
        let answer = wire::tcp_packet(flow.local, flow.remote, &repr, 0, &self.checksums);
        self.counters.challenges += 1;
        self.answer(&answer, link, token);
    }

    /// Takes in the word of a router that a packet of ours was too big (RFC 1191). True if it was that.
    pub(crate) fn is_too_big_in(&mut self, icmp: &Icmpv4Packet<&[u8]>, verifies: bool) -> bool {
        let is_too_big = icmp.msg_type() == Icmpv4Message::DstUnreachable
            && icmp.msg_code() == u8::from(Icmpv4DstUnreachable::FragRequired);
        if is_too_big && verifies && !icmp.verify_checksum() {
            self.counters.bad_checksum += 1;
        } else if is_too_big && let Some((local, remote, number)) = wire::quoted_segment(icmp) {
            // The MTU stands where an echo has its number (RFC 1191 section 4).
            self.too_big_in((local, remote), number, icmp.echo_seq_no().into());
        }
        is_too_big
    }

    /// The way to a peer takes packets of `mtu` bytes at most (RFC 1191, RFC 8201): segments get smaller. The
    /// message quotes the number of a segment, which must be under way (RFC 5927 section 4.1).
    fn too_big_in(&mut self, ends: (SocketAddr, SocketAddr), number: TcpSeqNumber, mtu: usize) {
        /// Nobody needs to believe that a way takes less (Linux: `min_pmtu`).
        const LEAST_MTU: usize = 552;
        let key = FlowKey::new(ends.0, ends.1);
        let Some(id) = self.flows.find(self.seed.hash(&key), &key) else { return };
        let Some(flow) = self.flows.get(id) else { return };
        let is_under_way = number >= flow.track.una && number < flow.track.sent;
        let mss = mtu.max(LEAST_MTU) - headers(ends.0);
        if is_under_way && mss < usize::from(flow.track.mss) {
            self.counters.path_mtu_changes += 1;
            self.lower_mss(id, mss as u16);
        }
    }

    /// Makes a flow's segments smaller. What is under way is sent again, in pieces that fit.
    pub(crate) fn lower_mss(&mut self, id: TcpId, mss: u16) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(id) else { return };
        if mss >= flow.track.mss {
            return;
        }
        flow.track.mss = mss;
        flow.track.rewind();
        if flow.engine.is_some() {
            self.flows.remake(id, now);
            self.mark_dirty(id);
        }
    }
}
