//! How much may be under way: NewReno (RFC 5681, RFC 6582) with an initial window of ten segments
//! (RFC 6928), and a retransmission time-out (RFC 6298) whose floor is Linux's 200 ms.
//!
//! smoltcp has a Reno, but it begins with 2 KiB, recovers one loss by dupacks and any further one by a
//! time-out of a second or more. So smoltcp's is off, and the front decides how much it may send. A segment
//! is sent again when it is provoked ([`crate::engine`]), or by smoltcp's own timer, which is rarely as early.

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::scoreboard::{News, Patience};
use crate::timers::NEVER;
use crate::track::Track;

const FLOOR: Duration = Duration::from_millis(200);
const CEILING: Duration = Duration::from_secs(60);
/// Before the first measurement (RFC 6298 section 2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// Duplicates that show a loss (RFC 5681 section 3.2).
const DUPLICATES: u16 = 3;
/// Half of it, or this many segments (RFC 5681 equation 4).
const LEAST_SEGMENTS: usize = 2;

/// Segments that are timed at once, at most.
const TIMED: usize = 4;

/// Something behind a hole says little if it came just now: so long is waited at least, in microseconds.
const LEAST_WAIT_US: u32 = 1000;

/// After so many holes it takes less time to send everything again than one hole in each round trip; the
/// peer acknowledges at once what it has.
const MANY_HOLES: u8 = 3;

/// How a loss is repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repair {
    /// Segment by segment (fast recovery).
    Fast,
    /// From the start, with a small window that grows (slow start).
    Slow,
}

/// The state before a repair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    window: usize,
    threshold: usize,
}

/// What an acknowledgement asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Nothing,
    /// The first hole has to be filled.
    Provoke,
    /// There are many holes: everything that is under way is to be sent again.
    Rewind,
}

/// The state of the way to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congestion {
    /// Bytes that may be under way.
    window: usize,
    threshold: usize,
    /// While a loss is being repaired: the number up to which, and how.
    recover: Option<(TcpSeqNumber, Repair)>,
    duplicates: u16,
    /// So many of them show that what was sent again was lost, too: everything that was under way has been
    /// answered for.
    too_many: u16,
    /// Holes that showed during this repair.
    holes: u8,
    /// Bytes acknowledged since the window last grew by a segment.
    acknowledged: u32,
    /// Smoothed round-trip time and its variation, in microseconds; 0 before there is any.
    srtt_us: u32,
    rttvar_us: u32,
    /// The least round-trip time, in microseconds; 0 before there is any.
    least_us: u32,
    /// Numbers whose acknowledgements are timed, and when they were sent, oldest first: a few in each
    /// round trip, so that a queue that builds up at the end of one shows.
    timed: [Option<(TcpSeqNumber, Instant)>; TIMED],
    backoff: u8,
    /// By how much the way is known to mix segments up, in microseconds.
    reordering_us: u32,
    /// When the peer owes an acknowledgement.
    pub(crate) due: Instant,
    /// When the first of what is under way was sent, or the peer last acknowledged something new.
    pub(crate) progress_at: Instant,
    /// Segments sent again, ever.
    pub(crate) repeats: u32,
}

impl Congestion {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            window: 0,
            threshold: usize::MAX,
            recover: None,
            duplicates: 0,
            too_many: 0,
            holes: 0,
            acknowledged: 0,
            srtt_us: 0,
            rttvar_us: 0,
            least_us: 0,
            timed: [None; TIMED],
            backoff: 0,
            reordering_us: 0,
            due: NEVER,
            progress_at: now,
            repeats: 0,
        }
    }

    /// Bytes that may be under way.
    #[inline]
    pub(crate) fn window(&self, mss: usize) -> usize {
        if self.window == 0 { initial_window(mss) } else { self.window }
    }

    /// Round-trip time, its variation and the time-out, for those who ask.
    pub(crate) fn times(&self) -> (Duration, Duration, Duration) {
        let micros = |us: u32| Duration::from_micros(us.into());
        (micros(self.srtt_us), micros(self.rttvar_us), self.timeout())
    }

    /// Above this the window grows slowly; none before the first loss.
    pub(crate) fn threshold(&self) -> Option<usize> {
        (self.threshold != usize::MAX).then_some(self.threshold)
    }

    /// True if the timer has expired, and nothing was heard since.
    pub(crate) fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// True while a loss is being repaired.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recover.is_some()
    }

    fn timeout(&self) -> Duration {
        if self.srtt_us == 0 {
            return INITIAL;
        }
        let micros = u64::from(self.srtt_us) + 4 * u64::from(self.rttvar_us);
        Duration::from_micros(micros).clamp(FLOOR, CEILING)
    }

    fn patience(&self) -> Duration {
        (self.timeout() * (1 << self.backoff.min(8))).min(CEILING)
    }

    /// Data up to `end` was sent, for the first time or again.
    #[inline]
    pub(crate) fn on_send(&mut self, now: Instant, end: TcpSeqNumber, is_repeat: bool) {
        if is_repeat {
            // Whose acknowledgement would it be (Karn's algorithm)?
            self.timed = [None; TIMED];
            self.repeats += 1;
        } else {
            self.time(now, end);
        }
        if self.due == NEVER {
            self.due = now + self.patience();
            self.progress_at = now;
        }
    }

    /// Something new was acknowledged.
    #[inline]
    fn hear(&mut self, now: Instant, track: &Track) {
        let mss = usize::from(track.mss);
        while let Some((_, sent_at)) = self.timed[0].filter(|(end, _)| track.una >= *end) {
            self.timed[0] = None;
            if self.timed[1].is_some() {
                self.timed.rotate_left(1);
            }
            self.measure(now - sent_at, mss);
        }
        (self.duplicates, self.backoff, self.progress_at) = (0, 0, now);
        self.due = if track.in_flight() > 0 { now + self.patience() } else { NEVER };
    }

    /// `count` bytes more were acknowledged; `track` has them in already.
    #[inline]
    pub(crate) fn on_ack(&mut self, now: Instant, count: usize, track: &Track) -> Verdict {
        let mss = usize::from(track.mss);
        let in_flight = track.in_flight();
        self.hear(now, track);
        match self.recover {
            Some((recover, Repair::Fast)) if track.una < recover => self.fill_hole(count, recover, mss),
            Some((recover, Repair::Fast)) => {
                debug_assert!(track.una >= recover);
                self.recover = None;
                self.window = self.threshold.min(in_flight + mss).max(LEAST_SEGMENTS * mss);
                Verdict::Nothing
            }
            repair => {
                self.recover = repair.filter(|(recover, _)| track.una < *recover);
                self.grow(count, in_flight + count, mss);
                Verdict::Nothing
            }
        }
    }

    /// The same while it is known what the peer has: nothing has to be guessed.
    pub(crate) fn on_ack_among_holes(&mut self, now: Instant, count: usize, track: &Track) {
        let mss = usize::from(track.mss);
        self.hear(now, track);
        match self.recover {
            Some((recover, Repair::Fast)) if track.una < recover => {}
            Some((_, Repair::Fast)) => {
                self.recover = None;
                self.window = self.threshold.max(LEAST_SEGMENTS * mss);
            }
            repair => {
                self.recover = repair.filter(|(recover, _)| track.una < *recover);
                self.grow(count, track.in_flight() + count, mss);
            }
        }
    }

    /// Something is known to be lost: half as much may be under way, until it is mended (RFC 6675 section 5). Answers
    /// what was before, in case that there was nothing to mend.
    pub(crate) fn begin_repair(&mut self, track: &Track) -> Prior {
        let mss = usize::from(track.mss);
        let prior = Prior { window: self.window(mss), threshold: self.threshold };
        self.threshold = (track.in_flight() / 2).max(LEAST_SEGMENTS * mss);
        self.window = self.threshold;
        self.recover = Some((track.sent, Repair::Fast));
        prior
    }

    /// What was sent again was only late: all is as it was before (as RFC 4015 has it).
    pub(crate) fn undo_repair(&mut self, prior: Prior) {
        if matches!(self.recover, Some((_, Repair::Fast))) {
            (self.window, self.threshold, self.recover) = (prior.window, prior.threshold, None);
        }
    }

    /// How long is waited for segments that may only be late.
    pub(crate) fn patience_with(&self, mss: u16) -> Patience {
        let micros = |us: u32| Duration::from_micros(us.into());
        Patience {
            reordering: micros(self.reordering_us),
            // A quarter of a round trip (RFC 8985 section 6.2).
            few: micros((self.srtt_us / 4).max(LEAST_WAIT_US)),
            mss: mss.into(),
        }
    }

    /// Takes in what holes have told about the way. True if something came so soon after it was sent again that it
    /// was not lost, but late.
    pub(crate) fn learn(&mut self, news: &News) -> bool {
        let is_soon = |soonest: &Duration| soonest.total_micros() < u64::from(self.least_us / 4 * 3);
        let soonest = news.soonest.filter(is_soon);
        if let Some(age) = news.late.max(soonest.map(|_| news.soonest_age)) {
            // A little more than that, but not so much that every loss takes ages to mend.
            let age_us = (age.total_micros() * 5 / 4).min(u64::from(self.srtt_us)) as u32;
            self.reordering_us = self.reordering_us.max(age_us);
        }
        soonest.is_some()
    }

    /// A part only was acknowledged: the next hole shows (RFC 6582 section 3.2).
    fn fill_hole(&mut self, count: usize, recover: TcpSeqNumber, mss: usize) -> Verdict {
        self.holes += 1;
        if self.holes == MANY_HOLES {
            self.recover = Some((recover, Repair::Slow));
            self.window = (self.threshold / 2).max(LEAST_SEGMENTS * mss);
            return Verdict::Rewind;
        }
        self.window = (self.window(mss).saturating_sub(count) + mss).max(mss);
        Verdict::Provoke
    }

    #[inline]
    fn time(&mut self, now: Instant, end: TcpSeqNumber) {
        let Some(free) = self.timed.iter().position(Option::is_none) else { return };
        let pause = Duration::from_micros(u64::from(self.srtt_us) / TIMED as u64);
        let is_apart = free == 0 || self.timed[free - 1].is_none_or(|(_, last)| now >= last + pause);
        if is_apart {
            self.timed[free] = Some((end, now));
        }
    }

    fn grow(&mut self, count: usize, was_in_flight: usize, mss: usize) {
        let window = self.window(mss);
        // Who does not use the window does not learn whether it could be larger (RFC 7661).
        if was_in_flight * 2 < window {
            return;
        }
        if window < self.threshold {
            self.window = window + count.min(2 * mss);
            return;
        }
        let acknowledged = self.acknowledged as usize + count;
        let left = acknowledged.checked_sub(window);
        self.window = if left.is_some() { window + mss } else { window };
        self.acknowledged = left.unwrap_or(acknowledged) as u32;
    }

    /// The peer repeats its last acknowledgement, because something else has come.
    #[inline]
    pub(crate) fn on_duplicate(&mut self, track: &Track) -> Verdict {
        let mss = usize::from(track.mss);
        self.duplicates = self.duplicates.saturating_add(1);
        match self.recover {
            Some((_, Repair::Fast)) => {
                self.window = self.window(mss) + mss;
                let is_lost = self.duplicates == self.too_many;
                return if is_lost { Verdict::Provoke } else { Verdict::Nothing };
            }
            // In slow repair, these are answers to what need not have been sent again.
            Some(_) => return Verdict::Nothing,
            None if self.duplicates != DUPLICATES => return Verdict::Nothing,
            None => {}
        }
        self.threshold = (track.in_flight() / 2).max(LEAST_SEGMENTS * mss);
        self.window = self.threshold + usize::from(DUPLICATES) * mss;
        self.recover = Some((track.sent, Repair::Fast));
        self.holes = 0;
        let segments = u16::try_from(track.in_flight() / mss).unwrap_or(u16::MAX);
        self.too_many = segments.saturating_add(DUPLICATES);
        Verdict::Provoke
    }

    /// The peer owes an acknowledgement for too long.
    pub(crate) fn on_timeout(&mut self, now: Instant, track: &Track) {
        let mss = usize::from(track.mss);
        if self.backoff == 0 {
            self.threshold = (track.in_flight() / 2).max(LEAST_SEGMENTS * mss);
        }
        self.window = mss;
        self.recover = Some((track.sent, Repair::Slow));
        self.backoff = self.backoff.saturating_add(1);
        self.due = now + self.patience();
        self.timed = [None; TIMED];
    }

    /// The connection was idle: what was learnt of the way is old (RFC 5681 section 4.1).
    pub(crate) fn rest(&mut self, mss: usize) {
        self.window = self.window(mss).min(initial_window(mss));
        self.due = NEVER;
    }

    /// One step of the estimator (RFC 6298 section 2).
    fn measure(&mut self, rtt: Duration, mss: usize) {
        let rtt = rtt.total_micros().clamp(1, 60_000_000) as u32;
        self.least_us = if self.least_us == 0 { rtt } else { self.least_us.min(rtt) };
        // A queue builds up: the window is as large as the way can bear, and to double it once more would
        // lose what there is no room for (HyStart, RFC 9406 section 4.2).
        if rtt > self.least_us + (self.least_us / 8).clamp(4000, 8000) {
            let window = self.window(mss);
            if window >= 16 * mss && window < self.threshold {
                // It has doubled since the segment that was timed was sent.
                self.window = window / 2;
                self.threshold = self.window;
            }
        }
        if self.srtt_us == 0 {
            (self.srtt_us, self.rttvar_us) = (rtt, rtt / 2);
        } else {
            self.rttvar_us = (3 * self.rttvar_us + self.srtt_us.abs_diff(rtt)) / 4;
            self.srtt_us = ((7 * u64::from(self.srtt_us) + u64::from(rtt)) / 8).max(1) as u32;
        }
    }
}

/// Ten segments, or 14,600 bytes if these are large (RFC 6928 section 2).
fn initial_window(mss: usize) -> usize {
    (10 * mss).min((2 * mss).max(14_600))
}
