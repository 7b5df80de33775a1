//! How much may be under way: an initial window of ten segments (RFC 6928), which doubles at first
//! ([`crate::slow_start`]) and grows by [`crate::cubic`] after a loss, with NewReno's repairs (RFC 5681, RFC 6582).
//!
//! smoltcp has a Reno, but it begins with 2 KiB, recovers one loss by dupacks and any further one by a
//! time-out of a second or more. So smoltcp's is off, and the front decides how much it may send. A segment
//! is sent again when it is provoked ([`crate::engine`]), or by smoltcp's own timer, which is rarely as early.

mod tail_loss;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;
use tail_loss::Probe;

use crate::cubic::Cubic;
use crate::rtt::{CEILING, RoundTrip};
use crate::scoreboard::{ReorderingWindow, SackUpdate};
use crate::sequence::Distance;
use crate::slow_start::SlowStart;
use crate::timers::NEVER;
use crate::track::Track;

/// Duplicates that show a loss (RFC 5681 section 3.2).
const DUPLICATES: u16 = 3;
/// A part of it, or this many segments (RFC 5681 equation 4).
const LEAST_SEGMENTS: usize = 2;

/// Something behind a hole says little if it came just now: so long is waited at least, in microseconds.
const LEAST_WAIT_US: u32 = 1000;

/// After so many holes it takes less time to send everything again than one hole in each round trip; the
/// peer acknowledges at once what it has.
const MANY_HOLES: u8 = 3;

/// With less than so many segments under way a stream is thin, and so many of its time-outs do not grow (Linux:
/// `tcp_stream_is_thin`, `TCP_THIN_LINEAR_RETRIES`).
const THIN_SEGMENTS: usize = 4;
const LINEAR_TIMEOUTS: u8 = 6;

/// What an app can have done otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CongestionOptions {
    /// Reno in place of CUBIC (`TCP_CONGESTION`).
    pub is_reno: bool,
    /// `TCP_THIN_LINEAR_TIMEOUTS`.
    pub has_linear_timeouts: bool,
}

/// How a loss is repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repair {
    /// Segment by segment (fast recovery).
    Fast,
    /// From the start, with a small window that grows (slow start).
    Loss,
}

/// The state before a repair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    window: u32,
    threshold: u32,
    cubic: Cubic,
}

/// What an acknowledgement asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CcAction {
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
    window: u32,
    threshold: u32,
    /// While a loss is being repaired: the number up to which, and how.
    recover: Option<(TcpSeqNumber, Repair)>,
    duplicates: u16,
    /// So many of them show that what was sent again was lost, too: everything that was under way has been
    /// answered for.
    too_many: u16,
    /// Holes that showed during this repair.
    holes: u8,
    slow_start: SlowStart,
    cubic: Cubic,
    rtt: RoundTrip,
    backoff: u8,
    /// Time-outs with little under way do not grow at first (`TCP_THIN_LINEAR_TIMEOUTS`).
    has_linear_timeouts: bool,
    /// By how much the way is known to mix segments up, in microseconds.
    reordering_us: u32,
    probe: Probe,
    /// When the peer owes an acknowledgement, or is asked for one.
    pub(crate) due: Instant,
    /// When the first of what is under way was sent, or the peer last acknowledged something new.
    pub(crate) progress_at: Instant,
    /// Segments sent again, ever.
    pub(crate) repeats: u32,
    /// The most bytes that were under way since all before `round_end` was acknowledged. Acknowledgements come in batches:
    /// what is under way while one of them is looked at says little.
    peak: u32,
    round_end: TcpSeqNumber,
}

impl Congestion {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            window: 0,
            threshold: u32::MAX,
            recover: None,
            duplicates: 0,
            too_many: 0,
            holes: 0,
            slow_start: SlowStart::NEW,
            cubic: Cubic::NEW,
            rtt: RoundTrip::UNKNOWN,
            backoff: 0,
            has_linear_timeouts: false,
            reordering_us: 0,
            probe: Probe::None,
            due: NEVER,
            progress_at: now,
            repeats: 0,
            peak: 0,
            round_end: TcpSeqNumber(0),
        }
    }

    /// Bytes that may be under way.
    #[inline]
    pub(crate) fn window(&self, mss: usize) -> usize {
        if self.window == 0 { initial_window(mss) } else { self.window as usize }
    }

    /// Far below 4 GiB: no more than a send buffer may be under way, and the window is not twice as much.
    fn set_window(&mut self, window: usize) {
        self.window = u32::try_from(window).unwrap_or(u32::MAX);
    }

    /// Round-trip time, its variation and the time-out, for those who ask.
    pub(crate) fn times(&self) -> (Duration, Duration, Duration) {
        let micros = |us: u32| Duration::from_micros(us.into());
        (micros(self.rtt.smoothed_us), micros(self.rtt.variation_us), self.rtt.timeout())
    }

    /// Above this the window grows slowly; none before the first loss.
    pub(crate) fn threshold(&self) -> Option<usize> {
        (self.threshold != u32::MAX).then_some(self.threshold as usize)
    }

    /// Does what the app asks to be done otherwise.
    pub(crate) fn set_options(&mut self, options: CongestionOptions) {
        self.cubic.is_reno = options.is_reno;
        self.has_linear_timeouts = options.has_linear_timeouts;
    }

    /// True if the timer has expired, and nothing was heard since.
    pub(crate) fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// True while a loss is being repaired.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recover.is_some()
    }

    fn patience(&self) -> Duration {
        (self.rtt.timeout() * (1 << self.backoff.min(8))).min(CEILING)
    }

    /// Data up to `end` was sent, for the first time or again.
    #[inline]
    pub(crate) fn on_send(&mut self, now: Instant, end: TcpSeqNumber, is_repeat: bool, track: &Track) {
        if self.due == NEVER {
            self.due = now + self.patience();
            self.progress_at = now;
        }
        if is_repeat {
            self.rtt.confuse();
            self.repeats += 1;
        } else {
            self.rtt.sent(now, end);
            let under_way = end.since(track.una) as u32;
            if track.una >= self.round_end || under_way > self.peak {
                (self.peak, self.round_end) = (under_way, end);
            }
            self.arm_probe(now, under_way as usize, track);
        }
        if self.probe == Probe::Now {
            self.probe = Probe::Sent { end: track.sent, is_repeat };
            self.due = now + self.patience();
        }
    }

    /// Something new was acknowledged. Answers what the round trip took, in microseconds, if it was timed, and whether a
    /// probe was answered that repeated something.
    #[inline]
    fn hear(&mut self, now: Instant, track: &Track) -> (Option<u32>, bool) {
        let sample_us = self.rtt.acknowledged(now, track.una);
        (self.duplicates, self.backoff, self.progress_at) = (0, 0, now);
        let is_answered = self.probe.is_answered(track.una);
        self.due = if track.in_flight() > 0 { now + self.patience() } else { NEVER };
        self.arm_probe(now, track.in_flight(), track);
        (sample_us, is_answered)
    }

    /// `count` bytes more were acknowledged; `track` has them in already.
    #[inline]
    pub(crate) fn on_ack(&mut self, now: Instant, count: usize, track: &Track) -> CcAction {
        let mss = usize::from(track.mss);
        let in_flight = track.in_flight();
        let (sample_us, is_answered) = self.hear(now, track);
        if is_answered && self.recover.is_none() {
            // It did not come twice, or a block would say so (RFC 2883): the probe has mended a loss.
            self.cut(track);
            self.window = self.threshold;
            return CcAction::Nothing;
        }
        match self.recover {
            Some((recover, Repair::Fast)) if track.una < recover => self.fill_hole(count, recover, mss),
            Some((recover, Repair::Fast)) => {
                debug_assert!(track.una >= recover);
                self.recover = None;
                let window = (self.threshold as usize).min(in_flight + mss).max(LEAST_SEGMENTS * mss);
                self.set_window(window);
                CcAction::Nothing
            }
            repair => {
                self.recover = repair.filter(|(recover, _)| track.una < *recover);
                self.grow(now, count, sample_us, track);
                CcAction::Nothing
            }
        }
    }

    /// The same while it is known what the peer has: nothing has to be guessed.
    pub(crate) fn on_ack_among_holes(&mut self, now: Instant, count: usize, track: &Track) {
        let mss = usize::from(track.mss);
        let (sample_us, _) = self.hear(now, track);
        match self.recover {
            Some((recover, Repair::Fast)) if track.una < recover => {}
            Some((_, Repair::Fast)) => {
                self.recover = None;
                self.set_window((self.threshold as usize).max(LEAST_SEGMENTS * mss));
            }
            repair => {
                self.recover = repair.filter(|(recover, _)| track.una < *recover);
                self.grow(now, count, sample_us, track);
            }
        }
    }

    /// Something is known to be lost: less may be under way, until it is mended (RFC 6675 section 5). Answers
    /// what was before, in case that there was nothing to mend.
    pub(crate) fn begin_repair(&mut self, track: &Track) -> Prior {
        let window = self.window(track.mss.into()) as u32;
        let prior = Prior { window, threshold: self.threshold, cubic: self.cubic };
        self.cut(track);
        self.window = self.threshold;
        self.recover = Some((track.sent, Repair::Fast));
        self.cancel_probe();
        prior
    }

    /// What was sent again was only late: all is as it was before (as RFC 4015 has it).
    pub(crate) fn undo_repair(&mut self, prior: Prior) {
        if matches!(self.recover, Some((_, Repair::Fast))) {
            (self.window, self.threshold, self.recover) = (prior.window, prior.threshold, None);
            self.cubic = prior.cubic;
        }
    }

    /// What is under way was too much.
    fn cut(&mut self, track: &Track) {
        let mss = usize::from(track.mss);
        let used = track.in_flight().max(self.peak as usize).min(self.window(mss));
        self.threshold = self.cubic.cut(used).max(LEAST_SEGMENTS * mss) as u32;
    }

    /// How long is waited for segments that may only be late.
    pub(crate) fn reordering_window(&self, mss: u16) -> ReorderingWindow {
        let micros = |us: u32| Duration::from_micros(us.into());
        ReorderingWindow {
            reordering: micros(self.reordering_us),
            // A quarter of a round trip (RFC 8985 section 6.2).
            few: micros((self.rtt.smoothed_us / 4).max(LEAST_WAIT_US)),
            mss: mss.into(),
        }
    }

    /// Takes in what holes have told about the way. True if something came so soon after it was sent again that it
    /// was not lost, but late.
    pub(crate) fn learn(&mut self, news: &SackUpdate) -> bool {
        let is_soon = |soonest: &Duration| soonest.total_micros() < u64::from(self.rtt.least_us / 4 * 3);
        let soonest = news.soonest.filter(is_soon);
        if let Some(age) = news.late.max(soonest.map(|_| news.soonest_age)) {
            // A little more than that, but not so much that every loss takes ages to mend.
            let age_us = (age.total_micros() * 5 / 4).min(u64::from(self.rtt.smoothed_us)) as u32;
            self.reordering_us = self.reordering_us.max(age_us);
        }
        soonest.is_some()
    }

    /// A part only was acknowledged: the next hole shows (RFC 6582 section 3.2).
    fn fill_hole(&mut self, count: usize, recover: TcpSeqNumber, mss: usize) -> CcAction {
        self.holes += 1;
        if self.holes == MANY_HOLES {
            self.recover = Some((recover, Repair::Loss));
            self.set_window((self.threshold as usize / 2).max(LEAST_SEGMENTS * mss));
            return CcAction::Rewind;
        }
        self.set_window((self.window(mss).saturating_sub(count) + mss).max(mss));
        CcAction::Provoke
    }

    #[inline]
    fn grow(&mut self, now: Instant, count: usize, sample_us: Option<u32>, track: &Track) {
        let mss = usize::from(track.mss);
        let window = self.window(mss);
        // Who does not use the window does not learn whether it could be larger (RFC 7661).
        if (self.peak as usize) * 2 < window {
            return self.cubic.pause();
        }
        let is_below = window < self.threshold as usize;
        if is_below && self.slow_start.is_over(track.una, track.sent, sample_us) {
            self.threshold = window as u32;
        }
        let window = if window < self.threshold as usize {
            window + self.slow_start.step(count, mss)
        } else {
            let rtt = Duration::from_micros(self.rtt.smoothed_us.into());
            self.cubic.grown(now, rtt, window, (count, mss))
        };
        self.set_window(window);
    }

    /// The peer repeats its last acknowledgement, because something else has come.
    #[inline]
    pub(crate) fn on_duplicate(&mut self, track: &Track) -> CcAction {
        let mss = usize::from(track.mss);
        self.duplicates = self.duplicates.saturating_add(1);
        match self.recover {
            Some((_, Repair::Fast)) => {
                self.set_window(self.window(mss) + mss);
                let is_lost = self.duplicates == self.too_many;
                return if is_lost { CcAction::Provoke } else { CcAction::Nothing };
            }
            // In slow repair, these are answers to what need not have been sent again.
            Some(_) => return CcAction::Nothing,
            None if self.duplicates != DUPLICATES => return CcAction::Nothing,
            None => {}
        }
        self.cut(track);
        self.set_window(self.threshold as usize + usize::from(DUPLICATES) * mss);
        self.recover = Some((track.sent, Repair::Fast));
        self.cancel_probe();
        self.holes = 0;
        let segments = u16::try_from(track.in_flight() / mss).unwrap_or(u16::MAX);
        self.too_many = segments.saturating_add(DUPLICATES);
        CcAction::Provoke
    }

    /// The peer owes an acknowledgement for too long.
    pub(crate) fn on_timeout(&mut self, now: Instant, track: &Track) {
        let mss = usize::from(track.mss);
        if self.backoff == 0 {
            self.cut(track);
        }
        self.set_window(mss);
        self.recover = Some((track.sent, Repair::Loss));
        self.probe = Probe::None;
        self.backoff = self.backoff.saturating_add(1);
        let is_thin = track.in_flight() < THIN_SEGMENTS * mss && self.backoff <= LINEAR_TIMEOUTS;
        let wait = if self.has_linear_timeouts && is_thin { self.rtt.timeout() } else { self.patience() };
        self.due = now + wait;
        self.rtt.confuse();
        self.slow_start = SlowStart::NEW;
    }

    /// The connection was idle: what was learnt of the way is old (RFC 5681 section 4.1).
    pub(crate) fn rest(&mut self, mss: usize) {
        self.set_window(self.window(mss).min(initial_window(mss)));
        (self.due, self.probe) = (NEVER, Probe::None);
        self.cubic.pause();
    }
}

/// Ten segments, or 14,600 bytes if these are large (RFC 6928 section 2).
fn initial_window(mss: usize) -> usize {
    (10 * mss).min((2 * mss).max(14_600))
}
