//! What a segment must be like before smoltcp sees it: the rules of RFC 9293 that are stricter than
//! smoltcp's own, and those of RFC 5961 against forgers who do not see the conversation.

use smoltcp::phy::TxToken;
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{TcpControl, TcpRepr};

use crate::flow::Flow;
use crate::id::TcpId;
use crate::ingress::RxOrigin;
use crate::segment::Segment;
use crate::stack::Stack;
use crate::wire;

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
            && !self.is_unread()
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

    /// True for data that had come before, from a peer that wants to be told.
    pub(crate) fn is_duplicate(&self, segment: &Segment<'_>) -> bool {
        segment.payload_len() > 0
            && self.track.has_sack
            && self.has_all_of(segment)
            && !matches!(self.state(), State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// An acknowledgement that tells where the conversation stands.
    fn standing(&self) -> TcpRepr<'static> {
        let has_fin = !matches!(self.state(), State::Established | State::FinWait1 | State::FinWait2);
        let window = self.rx_window.saturating_sub(self.recv_queue()) >> self.front(false).shift;
        TcpRepr {
            seq_number: self.track.acceptable(self.track.sent),
            ack_number: Some(self.track.received + usize::from(has_fin)),
            window_len: u16::try_from(window).unwrap_or(u16::MAX),
            ..wire::PLAIN_SEGMENT
        }
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
    /// Resets a connection of the peer's when it acknowledges something else than our SYN (RFC 9293 section 3.10.7.3): its end
    /// is one of an earlier connection. Gives `token` back if the segment is for somebody else to judge.
    pub(crate) fn resets_stranger<T: TxToken>(
        &mut self,
        id: TcpId,
        segment: &Segment<'_>,
        link: RxOrigin,
        token: T,
    ) -> Option<T> {
        let is_opening = self.flows.get(id).filter(|flow| flow.state() == State::SynSent);
        let is_wrong = |flow: &Flow| segment.ack().is_some_and(|ack| ack != flow.track.una);
        if !is_opening.is_some_and(is_wrong) {
            return Some(token);
        }
        if !segment.is_rst() {
            let repr = TcpRepr {
                control: TcpControl::Rst,
                seq_number: segment.ack_number(),
                ack_number: None,
                window_len: 0,
                ..wire::PLAIN_SEGMENT
            };
            let answer = wire::tcp_packet(segment.local, segment.remote, &repr, 0, &self.checksums);
            self.answer(&answer, link, token);
        }
        None
    }

    /// Asks a peer for proof that a segment is its own.
    #[cold]
    pub(crate) fn challenge<T: TxToken>(&mut self, id: TcpId, link: RxOrigin, token: T) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(id) else { return };
        if !flow.may_challenge(now) {
            return;
        }
        let answer = wire::tcp_packet(flow.local, flow.remote, &flow.standing(), 0, &self.checksums);
        self.counters.challenges += 1;
        self.answer(&answer, link, token);
    }

    /// Tells a peer what has come twice (D-SACK, RFC 2883): so it learns that nothing was lost, but late, and undoes what it
    /// did about it.
    #[cold]
    pub(crate) fn send_dsack<T: TxToken>(
        &mut self,
        id: TcpId,
        segment: &Segment<'_>,
        link: RxOrigin,
        token: T,
    ) {
        let Some(flow) = self.flows.get(id) else { return };
        let start = segment.sequence();
        let block = [start, start + segment.payload_len()].map(|number| number.0.cast_unsigned());
        let repr = TcpRepr { sack_ranges: [Some(block.into()), None, None], ..flow.standing() };
        let answer = wire::tcp_packet(flow.local, flow.remote, &repr, 0, &self.checksums);
        self.counters.duplicates += 1;
        self.answer(&answer, link, token);
    }

    /// The way to a peer takes packets of `mtu` bytes at most (RFC 1191, RFC 8201): segments get smaller.
    pub(crate) fn path_narrowed(&mut self, id: TcpId, mtu: usize) {
        let Some(flow) = self.flows.get(id) else { return };
        let mss = mtu - wire::headers_len(flow.local);
        if mss < usize::from(flow.track.mss) {
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
        if let Some(plain) = &mut flow.plain {
            plain.board = None;
        }
        self.flows.remake(id, now);
        self.mark_dirty(id);
    }
}
