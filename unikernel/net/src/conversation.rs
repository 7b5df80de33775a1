//! A flow as the conversation goes on: what a segment that came in or went out changes, what has to be sent
//! again, how far buffers may grow.

use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Instant;

use crate::congestion::CcAction;
use crate::flow::{Flow, View};
use crate::segment::Segment;
use crate::sequence::Distance;
use crate::timers::NEVER;
use crate::track::{Sent, Track};

/// The send buffer grows so far, in bytes, whatever the way to the peer (Linux: `tcp_wmem`'s first step is 16 KiB,
/// and doubles with the congestion window).
const SEND_BUFFER: usize = 64 * 1024;

/// The same for peers whose windows are not scaled; a scale allows for more.
const UNSCALED_BUFFER: usize = 32 * 1024;

impl Flow {
    /// Brings the numbers in line with what the socket made of a segment.
    #[inline]
    pub(crate) fn follow(&mut self, now: Instant, segment: &Segment<'_>, before: &View, after: &View) {
        let verdict = self.follow_ack(now, segment, before, after);
        match verdict {
            CcAction::Nothing => {}
            CcAction::Provoke => self.provoke(),
            CcAction::Rewind => self.rewind(),
        }
        let track = &mut self.track;
        if after.received > before.received {
            track.receive(after.received - before.received);
        }
        let end = segment.sequence() + segment.payload_len();
        if end > track.seen && end <= track.edge {
            track.seen = end;
        }
        if segment.ack().is_some_and(|ack| ack >= track.una) && !segment.is_syn() {
            track.window = u32::from(segment.window()) << track.peer_scale.unwrap_or(0);
        }
    }

    /// True for a segment that says nothing new but that a closed window has opened, if smoltcp will not hear it: in LAST-ACK
    /// it takes acknowledgements of something new alone, and would wait for its timer. It must probe at once then.
    #[inline]
    pub(crate) fn misses_window(&mut self, segment: &Segment<'_>) -> bool {
        let track = &mut self.track;
        let is_closed = track.window == 0 || self.is_deaf;
        if !is_closed
            || segment.window() == 0
            || segment.pure_ack() != Some(track.una)
            || track.in_flight() > 0
        {
            return false;
        }
        if self.state() != State::LastAck || self.send_queue() == 0 {
            return false;
        }
        self.track.window = u32::from(segment.window()) << self.track.peer_scale.unwrap_or(0);
        (self.is_deaf, self.must_probe) = (true, true);
        true
    }

    /// The app has read `count` bytes. Who reads two windows full gets a wider one, within the limit.
    #[inline]
    pub(crate) fn widen(&mut self, count: usize) {
        self.read_since += count;
        if self.read_since >= 2 * self.rx_window && self.rx_window < self.rx_limit {
            self.read_since = 0;
            self.rx_window = (2 * self.rx_window).min(self.rx_limit);
        }
    }

    /// True if `bytes` more find no room in the send buffer, and it may grow.
    #[inline]
    pub(crate) fn has_to_grow(&self, bytes: usize) -> bool {
        let size = self.buffer_sizes().1;
        self.send_queue() + bytes > size
            && size < self.tx_most()
            && self.socket().is_none_or(Socket::may_send)
    }

    /// True if there is room in the send buffer as it is.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.send_queue() < self.buffer_sizes().1
    }

    /// How far the send buffer may grow at all. More than the peer's largest window could not be taken out of an engine
    /// again.
    #[inline]
    pub(crate) fn tx_bound(&self) -> usize {
        self.tx_limit.min(UNSCALED_BUFFER << self.track.peer_scale.unwrap_or(0))
    }

    /// How far the send buffer may grow in any case.
    #[inline]
    pub(crate) fn tx_least(&self) -> usize {
        self.tx_bound().min(SEND_BUFFER)
    }

    /// How far the send buffer may grow just now: who has a slow peer does not need a large one.
    /// A call of its own, for its callers hardly ever come so far, and would save their registers for it.
    #[inline(never)]
    pub(crate) fn tx_most(&self) -> usize {
        let window = self.congestion.window(self.track.mss.into());
        self.tx_bound().min((2 * window).max(SEND_BUFFER))
    }

    #[inline]
    fn follow_ack(&mut self, now: Instant, segment: &Segment<'_>, before: &View, after: &View) -> CcAction {
        let track = &mut self.track;
        if after.unacknowledged < before.unacknowledged {
            let count = before.unacknowledged - after.unacknowledged;
            self.is_deaf = false;
            track.acknowledge(count);
            return self.congestion.on_ack(now, count, track);
        }
        let window = u32::from(segment.window()) << track.peer_scale.unwrap_or(0);
        let is_duplicate = segment.pure_ack() == Some(track.una)
            && track.in_flight() > 0
            && window == track.window
            && after.unacknowledged > 0;
        if is_duplicate { self.congestion.on_duplicate(track) } else { CcAction::Nothing }
    }

    /// Takes note of what was sent. True if it was data, and not for the first time.
    #[inline]
    pub(crate) fn note(&mut self, now: Instant, sent: &Sent) -> bool {
        let has_data = sent.end > sent.start
            && matches!(
                self.state(),
                State::Established | State::CloseWait | State::FinWait1 | State::LastAck | State::Closing
            );
        let is_repeat = has_data && sent.start < self.track.sent;
        if is_repeat && self.timer_fired && !self.repeats && sent.start == self.track.una {
            // smoltcp's own timer, which begins at the start and goes through everything.
            self.track.rewind();
            self.congestion.on_timeout(now, &self.track);
        }
        self.track.note(sent);
        if has_data {
            self.congestion.on_send(now, sent.end, is_repeat, &self.track);
        }
        is_repeat
    }

    /// Has a segment sent again whose acknowledgement is overdue. True if there is one.
    #[inline]
    pub(crate) fn check_due(&mut self, now: Instant) -> bool {
        if self.congestion.due > now {
            return false;
        }
        if self.send_queue() == 0 || self.track.window == 0 {
            self.congestion.due = NEVER;
            return false;
        }
        if self.congestion.is_probe_due() {
            // An engine cannot send one.
            self.congestion.begin_probe(false);
            return self.check_due(now);
        }
        self.congestion.on_timeout(now, &self.track);
        self.rewind();
        self.must_probe = self.is_deaf;
        true
    }

    /// True if so much has come in that the peer waits for an acknowledgement (RFC 9293 section 3.8.6.3).
    #[inline]
    pub(crate) fn owes_ack(&self) -> bool {
        let Track { acknowledged, received, mss, .. } = self.track;
        received.since(acknowledged) >= 2 * usize::from(mss).max(1)
    }

    /// Has the first unacknowledged segment sent again. If that is our end alone, as after a time-out: a fast retransmission of
    /// smoltcp's sends data only, and the timer that would have sent the end again would be off.
    pub(crate) fn provoke(&mut self) {
        if self.send_queue() == 0 {
            return self.rewind();
        }
        let (track, ends) = (self.track, self.ends());
        let heard_at = self.heard_at.max(self.congestion.progress_at);
        if let Some(engine) = &mut self.engine {
            engine.provoke(&track, ends, heard_at);
            self.repeats = true;
        }
    }

    /// Has everything that is under way sent again, as far as the congestion window allows.
    fn rewind(&mut self) {
        let (track, ends) = (self.track, self.ends());
        let heard_at = self.heard_at.max(self.congestion.progress_at);
        if let Some(engine) = &mut self.engine {
            engine.rewind(&track, ends, heard_at);
            self.track.rewind();
        }
    }

    /// True if the congestion window lets smoltcp send what it would send next.
    #[inline]
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        let (in_flight, mss) = (self.track.in_flight(), usize::from(self.track.mss));
        let unsent = self.send_queue().saturating_sub(in_flight);
        let is_held = unsent < mss && self.corked_until > now && self.send_queue() > 0;
        unsent == 0 || self.repeats || !is_held && in_flight + unsent.min(mss) <= self.congestion.window(mss)
    }
}
