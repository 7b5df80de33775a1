//! What a peer has of that which we sent, when it has not all: the holes between what it acknowledged selectively
//! (RFC 2018), in the manner of RFC 6675, with the time as a witness as in RFC 8985.
//!
//! There is a scoreboard only while something is missing. It knows nothing of what lies behind its top but that
//! it is under way.

use alloc::vec::Vec;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::congestion::Prior;
use crate::sequence::Distance;

/// Holes that a peer's acknowledgements can make, at most: one that reports every other byte gets no more.
const MOST_HOLES: usize = 512;
/// So many segments behind a hole show that it is a loss, and not a delay (RFC 6675 section 2).
const DUPLICATES: usize = 3;

/// Something that was sent again.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    at: Instant,
    /// What had been sent by then: if something behind that arrives, this should have.
    after: TcpSeqNumber,
}

/// Bytes that the peer does not have, while it has later ones.
#[derive(Clone, Copy, Debug)]
struct Hole {
    start: TcpSeqNumber,
    end: TcpSeqNumber,
    /// When it showed.
    seen_at: Instant,
    repeat: Option<Repeat>,
}

/// How long is waited for what may only be late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReorderingWindow {
    /// By how much this way is known to mix segments up.
    pub(crate) reordering: Duration,
    /// For a hole with few segments behind it.
    pub(crate) few: Duration,
    /// The payload of a segment, in bytes.
    pub(crate) mss: usize,
}

/// What an acknowledgement has told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SackUpdate {
    /// How old a hole was that was filled without our help: something was late.
    pub(crate) late: Option<Duration>,
    /// How long after it was sent again something came: too soon, and it was not lost.
    pub(crate) soonest: Option<Duration>,
    /// How old that hole was.
    pub(crate) soonest_age: Duration,
}

/// The holes, in order.
#[derive(Debug)]
pub(crate) struct Scoreboard {
    holes: Vec<Hole>,
    /// One past the highest number that the peer has.
    top: TcpSeqNumber,
    /// Everything before this is lost, whatever comes behind it: the timer has expired.
    lost_below: TcpSeqNumber,
    /// When the latest repetition was sent of those that have arrived.
    arrived: Option<Instant>,
    /// The congestion window's state before the repair, while it may have been for nothing.
    pub(crate) prior: Option<Prior>,
}

impl Scoreboard {
    /// A scoreboard on which the peer has all up to `una`.
    pub(crate) fn new(una: TcpSeqNumber) -> Self {
        Self { holes: Vec::new(), top: una, lost_below: una, arrived: None, prior: None }
    }

    /// True if nothing is missing before what the peer has acknowledged last.
    pub(crate) fn is_over(&self, una: TcpSeqNumber) -> bool {
        self.holes.is_empty() && self.top <= una
    }

    /// The peer has everything before `una`.
    pub(crate) fn acknowledge(&mut self, una: TcpSeqNumber, now: Instant, news: &mut SackUpdate) {
        let first = self.holes.first().map_or(una, |hole| hole.start.min(una));
        self.fill((first, una), now, news);
        self.top = self.top.max(una);
    }

    /// The peer has the bytes of a block that lies within what is under way.
    pub(crate) fn take(&mut self, block: (TcpSeqNumber, TcpSeqNumber), now: Instant, news: &mut SackUpdate) {
        let (left, right) = block;
        if self.holes.len() >= MOST_HOLES {
            return;
        }
        self.fill(block, now, news);
        if left > self.top {
            self.holes.push(Hole { start: self.top, end: left, seen_at: now, repeat: None });
        }
        self.top = self.top.max(right);
    }

    fn fill(&mut self, (left, right): (TcpSeqNumber, TcpSeqNumber), now: Instant, news: &mut SackUpdate) {
        let touches = |hole: &Hole| left < hole.end && right > hole.start;
        if !self.holes.iter().any(touches) {
            return;
        }
        let mut rest = Vec::with_capacity(self.holes.len() + 1);
        for hole in core::mem::take(&mut self.holes) {
            if !touches(&hole) {
                rest.push(hole);
                continue;
            }
            self.learn(&hole, now, news);
            if hole.start < left {
                rest.push(Hole { end: left, ..hole });
            }
            if hole.end > right {
                rest.push(Hole { start: right, ..hole });
            }
        }
        self.holes = rest;
    }

    fn learn(&mut self, hole: &Hole, now: Instant, news: &mut SackUpdate) {
        let age = now - hole.seen_at;
        let Some(Repeat { at, .. }) = hole.repeat else {
            if hole.end > self.lost_below {
                news.late = news.late.max(Some(age));
            }
            return;
        };
        self.arrived = self.arrived.max(Some(at));
        if news.soonest.is_none_or(|soonest| now - at < soonest) {
            (news.soonest, news.soonest_age) = (Some(now - at), age);
        }
    }

    /// The timer has expired: all that the peer is not known to have, up to `next`, is lost.
    pub(crate) fn lose_all(&mut self, una: TcpSeqNumber, next: TcpSeqNumber, now: Instant) {
        let reneges = self.top > una && self.holes.first().is_none_or(|hole| hole.start > una);
        if reneges {
            // It had what it says now it has not (RFC 2018 section 8).
            (self.holes, self.top) = (Vec::new(), una);
        }
        if self.top < next {
            self.holes.push(Hole { start: self.top, end: next, seen_at: now, repeat: None });
            self.top = next;
        }
        self.holes.iter_mut().for_each(|hole| hole.repeat = None);
        self.lost_below = next;
    }

    /// Takes repetitions for lost that should have arrived by now.
    pub(crate) fn recheck(&mut self, patience: &ReorderingWindow) {
        let (top, arrived) = (self.top, self.arrived);
        let is_lost = |repeat: &Repeat| {
            let is_overtaken = top.since(repeat.after) >= DUPLICATES * patience.mss.max(1);
            is_overtaken || arrived.is_some_and(|arrived| arrived > repeat.at + patience.few)
        };
        for hole in &mut self.holes {
            hole.repeat = hole.repeat.filter(|repeat| !is_lost(repeat));
        }
    }

    /// Each hole with the bytes behind it that the peer has, last to first.
    fn down_from_the_top(&self) -> impl Iterator<Item = (&Hole, usize)> {
        let (mut above, mut right) = (0, self.top);
        self.holes.iter().rev().map(move |hole| {
            above += right.since(hole.end);
            right = hole.start;
            (hole, above)
        })
    }

    /// When a hole counts as lost, unless it is filled.
    fn lost_at(&self, hole: &Hole, above: usize, patience: &ReorderingWindow) -> Instant {
        if hole.end <= self.lost_below {
            return hole.seen_at;
        }
        let is_plain = above > (DUPLICATES - 1) * patience.mss;
        hole.seen_at + if is_plain { patience.reordering } else { patience.few.max(patience.reordering) }
    }

    /// Bytes under way: what is neither there nor lost (RFC 6675 section 4, `SetPipe`).
    pub(crate) fn pipe(&self, next: TcpSeqNumber, now: Instant, patience: &ReorderingWindow) -> usize {
        let behind = next.since(self.top);
        let is_under_way = |&(hole, above): &(&Hole, usize)| {
            hole.repeat.is_some() || self.lost_at(hole, above, patience) > now
        };
        behind
            + self
                .down_from_the_top()
                .filter(is_under_way)
                .map(|(hole, _)| hole.end.since(hole.start))
                .sum::<usize>()
    }

    /// The first bytes that are lost and not under way again.
    pub(crate) fn first_lost(
        &self,
        now: Instant,
        patience: &ReorderingWindow,
    ) -> Option<(TcpSeqNumber, TcpSeqNumber)> {
        let waits = |(hole, above): &(&Hole, usize)| {
            hole.repeat.is_none() && self.lost_at(hole, *above, patience) <= now
        };
        self.down_from_the_top().filter(waits).last().map(|(hole, _)| (hole.start, hole.end))
    }

    /// When the next hole will count as lost, if none does before.
    pub(crate) fn next_lost_at(&self, now: Instant, patience: &ReorderingWindow) -> Option<Instant> {
        let at = |(hole, above): (&Hole, usize)| {
            let at = self.lost_at(hole, above, patience);
            (hole.repeat.is_none() && at > now).then_some(at)
        };
        self.down_from_the_top().filter_map(at).min()
    }

    /// Bytes up to `end` from a hole's start were sent again; `next` is what had been sent at all.
    pub(crate) fn repeated(
        &mut self,
        start: TcpSeqNumber,
        end: TcpSeqNumber,
        next: TcpSeqNumber,
        now: Instant,
    ) {
        let Some(index) = self.holes.iter().position(|hole| hole.start == start) else { return };
        let hole = self.holes[index];
        let end = end.min(hole.end);
        self.holes[index] = Hole { end, repeat: Some(Repeat { at: now, after: next }), ..hole };
        if end < hole.end {
            self.holes.insert(index + 1, Hole { start: end, ..hole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;
    const PATIENCE: ReorderingWindow =
        ReorderingWindow { reordering: Duration::ZERO, few: Duration::from_millis(5), mss: MSS };

    /// The number of a segment's first byte.
    fn seg(index: usize) -> TcpSeqNumber {
        TcpSeqNumber(-5000) + index * MSS
    }

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    /// The peer lacks segments 0 and 2 of ten, and has up to 6.
    fn two_holes() -> Scoreboard {
        let (mut board, mut news) = (Scoreboard::new(seg(0)), SackUpdate::default());
        board.take((seg(1), seg(2)), ms(0), &mut news);
        board.take((seg(3), seg(6)), ms(0), &mut news);
        assert_eq!(news, SackUpdate::default());
        board
    }

    #[test]
    fn lost_is_what_has_three_segments_behind_it() {
        let mut board = two_holes();
        assert_eq!(board.first_lost(ms(0), &PATIENCE), Some((seg(0), seg(1))));
        // Four behind the top; of the holes nothing is under way.
        assert_eq!(board.pipe(seg(10), ms(0), &PATIENCE), 4 * MSS);
        board.repeated(seg(0), seg(1), seg(10), ms(0));
        assert_eq!(board.first_lost(ms(0), &PATIENCE), Some((seg(2), seg(3))));
        assert_eq!(board.pipe(seg(10), ms(0), &PATIENCE), 5 * MSS);
    }

    #[test]
    fn one_segment_behind_a_hole_is_enough_after_a_while() {
        let (mut board, mut news) = (Scoreboard::new(seg(0)), SackUpdate::default());
        board.take((seg(1), seg(2)), ms(0), &mut news);
        assert_eq!(board.first_lost(ms(0), &PATIENCE), None);
        assert_eq!(board.next_lost_at(ms(0), &PATIENCE), Some(ms(5)));
        assert_eq!(board.first_lost(ms(5), &PATIENCE), Some((seg(0), seg(1))));
    }

    #[test]
    fn a_hole_that_fills_itself_was_late() {
        let (mut board, mut news) = (two_holes(), SackUpdate::default());
        board.take((seg(2), seg(3)), ms(3), &mut news);
        assert_eq!(news.late, Some(Duration::from_millis(3)));
        board.acknowledge(seg(6), ms(4), &mut news);
        assert_eq!(news.late, Some(Duration::from_millis(4)));
        assert!(board.is_over(seg(6)));
    }

    #[test]
    fn a_repetition_is_lost_when_later_segments_arrive() {
        let (mut board, mut news) = (two_holes(), SackUpdate::default());
        board.repeated(seg(0), seg(1), seg(10), ms(1));
        board.repeated(seg(2), seg(3), seg(10), ms(1));
        board.take((seg(10), seg(12)), ms(20), &mut news);
        board.recheck(&PATIENCE);
        assert_eq!(board.first_lost(ms(20), &PATIENCE), None, "two segments are not three");
        board.take((seg(10), seg(13)), ms(20), &mut news);
        board.recheck(&PATIENCE);
        assert_eq!(board.first_lost(ms(20), &PATIENCE), Some((seg(0), seg(1))));
    }

    #[test]
    fn a_repetition_is_lost_when_a_later_one_arrives() {
        let (mut board, mut news) = (two_holes(), SackUpdate::default());
        board.repeated(seg(0), seg(1), seg(10), ms(1));
        board.repeated(seg(2), seg(3), seg(10), ms(10));
        board.take((seg(2), seg(3)), ms(30), &mut news);
        assert_eq!(news.soonest, Some(Duration::from_millis(20)));
        board.recheck(&PATIENCE);
        assert_eq!(board.first_lost(ms(30), &PATIENCE), Some((seg(0), seg(1))));
    }

    #[test]
    fn a_time_out_loses_all_but_what_is_known_to_be_there() {
        let mut board = two_holes();
        board.repeated(seg(0), seg(1), seg(10), ms(1));
        board.lose_all(seg(0), seg(10), ms(200));
        assert_eq!(board.pipe(seg(10), ms(200), &PATIENCE), 0);
        let mut lost = Vec::new();
        while let Some((start, end)) = board.first_lost(ms(200), &PATIENCE) {
            lost.push((start, end));
            board.repeated(start, end.min(start + 2 * MSS), seg(10), ms(200));
        }
        let expected = [(0, 1), (2, 3), (6, 10), (8, 10)].map(|(start, end)| (seg(start), seg(end)));
        assert_eq!(lost, expected);
    }

    #[test]
    fn a_peer_that_takes_back_what_it_had_is_sent_all() {
        let (mut board, mut news) = (Scoreboard::new(seg(0)), SackUpdate::default());
        board.take((seg(1), seg(3)), ms(0), &mut news);
        board.acknowledge(seg(1), ms(0), &mut news);
        board.lose_all(seg(1), seg(10), ms(200));
        assert_eq!(board.first_lost(ms(200), &PATIENCE), Some((seg(1), seg(10))));
    }

    #[test]
    fn holes_are_bounded() {
        let (mut board, mut news) = (Scoreboard::new(seg(0)), SackUpdate::default());
        for index in 0..10_000 {
            board.take((seg(0) + (2 * index + 1), seg(0) + (2 * index + 2)), ms(0), &mut news);
        }
        assert!(board.holes.len() <= MOST_HOLES);
    }
}
