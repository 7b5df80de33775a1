//! How a connection without an engine mends what got lost on its way out: by the peer's selective
//! acknowledgements ([`crate::scoreboard`], RFC 6675) if it sends any, else by NewReno's rules
//! ([`crate::congestion`]); and by the timer.

use alloc::boxed::Box;

use smoltcp::time::Instant;

use crate::flow::Flow;
use crate::plain::Step;
use crate::scoreboard::{SackUpdate, Scoreboard};
use crate::segment::Segment;
use crate::sequence::Distance;

impl Flow {
    /// True while the peer is known to lack something that was sent before what it has.
    #[inline]
    pub(crate) fn has_board(&self) -> bool {
        self.plain.as_ref().is_some_and(|plain| plain.board.is_some())
    }

    /// Takes what a segment says about the data that the peer has, when it does not have all; `count` bytes more are
    /// acknowledged in order, which [`Track`](crate::track::Track) has in already.
    #[cold]
    pub(crate) fn sacked_by(&mut self, now: Instant, segment: &Segment<'_>, count: usize) {
        let (track, patience) = (&self.track, self.congestion.reordering_window(self.track.mss));
        let Some(plain) = &mut self.plain else { return };
        let first = track.una - count;
        let board = plain.board.get_or_insert_with(|| Box::new(Scoreboard::new(first)));
        let mut news = SackUpdate::default();
        board.acknowledge(track.una, now, &mut news);
        // What lies before is a block that came twice (RFC 2883), what lies behind was never sent.
        let is_credible = |(left, right): &_| track.una < *left && left < right && *right <= track.sent;
        for block in segment.blocks().filter(is_credible) {
            board.take(block, now, &mut news);
        }
        board.recheck(&patience);
        if self.congestion.learn(&news)
            && board.first_lost(now, &patience).is_none()
            && let Some(prior) = board.prior.take()
        {
            self.congestion.undo_repair(prior);
        }
        if board.is_over(track.una) {
            plain.board = None;
        }
        if count > 0 {
            self.congestion.on_ack_among_holes(now, count, &self.track);
        }
        self.look_for_losses(now);
    }

    /// Begins to mend if something is lost now.
    pub(crate) fn look_for_losses(&mut self, now: Instant) {
        if self.congestion.is_recovering() {
            return;
        }
        let patience = self.congestion.reordering_window(self.track.mss);
        let Some(board) = self.plain.as_mut().and_then(|plain| plain.board.as_mut()) else { return };
        if board.first_lost(now, &patience).is_some() {
            board.prior = Some(self.congestion.begin_repair(&self.track));
            // The first repetition goes at once, whatever is under way (RFC 6675 section 5).
            self.repeats = true;
        }
    }

    /// The timer has expired. True if it was for the time-out: everything is to be sent again that the peer is not known to
    /// have.
    #[cold]
    pub(crate) fn time_out(&mut self, now: Instant) -> bool {
        if self.congestion.is_probe_due() {
            // Holes tell more than a probe could.
            let is_possible = !self.has_board();
            self.congestion.begin_probe(is_possible);
            if is_possible || self.congestion.due > now {
                return false;
            }
        }
        self.congestion.on_timeout(now, &self.track);
        self.repeats = false;
        let (track, Some(plain)) = (&mut self.track, &mut self.plain) else { return true };
        if track.has_sack {
            let board = plain.board.get_or_insert_with(|| Box::new(Scoreboard::new(track.una)));
            board.lose_all(track.una, track.next, now);
        } else {
            track.rewind();
        }
        true
    }

    /// What is to be sent again before anything new is.
    #[cold]
    pub(crate) fn repetition(&self, now: Instant) -> Option<Step> {
        let (in_flight, mss) = (self.track.in_flight(), usize::from(self.track.mss));
        if self.congestion.wants_probe() {
            return self.probe();
        }
        let Some(board) = self.plain.as_ref()?.board.as_ref() else {
            return (in_flight > 0).then(|| Step::Send { offset: 0, len: in_flight.min(mss) });
        };
        let patience = self.congestion.reordering_window(self.track.mss);
        let (start, end) = board.first_lost(now, &patience)?;
        let len = end.since(start).min(mss);
        let is_clear = self.repeats
            || board.pipe(self.track.next, now, &patience) + len <= self.congestion.window(mss).max(len);
        is_clear.then(|| Step::Send { offset: start.since(self.track.una), len })
    }

    /// What a probe consists of: something new if there is any that may be sent, else the end of what was sent
    /// (RFC 8985 section 7.3).
    fn probe(&self) -> Option<Step> {
        let (in_flight, mss) = (self.track.in_flight(), usize::from(self.track.mss));
        let room = (self.track.window as usize).saturating_sub(in_flight);
        let unsent = self.send_queue().saturating_sub(in_flight).min(mss);
        let (offset, len) = match unsent > 0 && unsent <= room {
            true => (in_flight, unsent),
            false => (in_flight - in_flight.min(mss), in_flight.min(mss)),
        };
        (len > 0).then_some(Step::Send { offset, len })
    }

    /// Bytes under way, and when there will be fewer because something counts as lost.
    #[cold]
    pub(crate) fn under_way(&self, now: Instant) -> (usize, Option<Instant>) {
        let board = self.plain.as_ref().and_then(|plain| plain.board.as_ref());
        let Some(board) = board else { return (self.track.in_flight(), None) };
        let patience = self.congestion.reordering_window(self.track.mss);
        (board.pipe(self.track.next, now, &patience), board.next_lost_at(now, &patience))
    }
}
