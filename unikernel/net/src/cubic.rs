//! How the window grows once the way is known to take no more (CUBIC, RFC 9438): fast towards the size at which something
//! was last lost, slowly about it, and fast again beyond it, by time and not by round trips; and never slower than
//! Reno's would.

use smoltcp::time::{Duration, Instant};

use crate::timers::NEVER;

/// What is left of the window after a loss (beta), in tenths.
const KEPT: usize = 7;
/// The same with Reno (RFC 5681 equation 4).
const KEPT_BY_RENO: usize = 5;
/// The same if the window has not even come to where the last loss was (fast convergence): (1 + beta) / 2, in twentieths.
const KEPT_OF_GOAL: usize = 17;
/// Segments by which Reno's window would grow in a round trip, if it were cut as little: 3 (1 - beta) / (1 + beta).
const RENO: (u64, u64) = (9, 17);
/// The estimate of Reno's window is in parts of a byte.
const PARTS: u64 = 256;
/// Beyond this the curve is steeper than any window may grow; and its third power, times a segment, is not too large.
const LONGEST_MS: i64 = 50_000;
/// C is 0.4 segments in a second to the third power: segments in ms^3, inverted.
const INVERSE_C: u64 = 2_500_000_000;

/// The curve since the last loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cubic {
    /// The window, in bytes, about which it grows slowly: where it last was too large (W_max). 0 before the first loss.
    goal: u32,
    /// The window before it was cut, in bytes.
    prior: u32,
    /// When growth began; [`NEVER`] if it has not yet.
    epoch: Instant,
    /// How long after that the goal is reached (K), in milliseconds.
    rise_ms: u32,
    /// The app has asked for Reno itself, for its fairness towards old peers.
    pub(crate) is_reno: bool,
    /// The window that Reno would have, in 1/256 bytes.
    reno: u64,
}

impl Cubic {
    pub(crate) const NEW: Self =
        Self { goal: 0, prior: 0, epoch: NEVER, rise_ms: 0, is_reno: false, reno: 0 };

    /// Something was lost with `window` bytes under way. Answers how many may be from now on.
    pub(crate) fn cut(&mut self, window: usize) -> usize {
        if self.is_reno {
            self.epoch = NEVER;
            return window * KEPT_BY_RENO / 10;
        }
        let is_less = window < self.goal as usize;
        self.goal = if is_less { window * KEPT_OF_GOAL / 20 } else { window } as u32;
        (self.prior, self.epoch) = (window as u32, NEVER);
        window * KEPT / 10
    }

    /// The window is not used: time does not count until it is again.
    #[inline]
    pub(crate) fn pause(&mut self) {
        self.epoch = NEVER;
    }

    /// The window after `count` bytes more are acknowledged; a round trip takes `rtt`.
    pub(crate) fn grown(
        &mut self,
        now: Instant,
        rtt: Duration,
        window: usize,
        (count, mss): (usize, usize),
    ) -> usize {
        if self.epoch == NEVER {
            self.begin(now, window, mss);
        }
        let is_like_reno = self.is_reno || self.reno / PARTS >= self.prior.into();
        let (from, to) = if is_like_reno { (1, 1) } else { RENO };
        self.reno += PARTS * from * (count * mss) as u64 / (to * window as u64);
        if self.is_reno {
            return window.max((self.reno / PARTS) as usize);
        }
        // Within a round trip it goes to where the curve is after it.
        let target = self.at(now - self.epoch + rtt, mss).clamp(window, window * 3 / 2);
        let step = (target - window) * count / window;
        (window + step).max((self.reno / PARTS) as usize)
    }

    #[cold]
    fn begin(&mut self, now: Instant, window: usize, mss: usize) {
        self.epoch = now;
        self.reno = window as u64 * PARTS;
        // Beyond the goal, or without one, the curve begins flat.
        self.goal = self.goal.max(window as u32);
        let rise = (self.goal as usize - window) as u64 * INVERSE_C / mss as u64;
        self.rise_ms = cube_root(rise);
    }

    /// Where the curve is, in bytes, so long after it began.
    fn at(&self, time: Duration, mss: usize) -> usize {
        let offset = (time.total_millis() as i64 - i64::from(self.rise_ms)).clamp(-LONGEST_MS, LONGEST_MS);
        let change = offset.pow(3) * mss as i64 / INVERSE_C as i64;
        usize::try_from(i64::from(self.goal) + change).unwrap_or(0)
    }
}

/// The largest number whose third power is not more than `cube`.
fn cube_root(cube: u64) -> u32 {
    // Bit by bit; 2^21 is the largest that a third power of 64 bits has.
    (0..22).rev().fold(0, |root: u64, bit| {
        let next = root | 1 << bit;
        if next.checked_pow(3).is_some_and(|power| power <= cube) { next } else { root }
    }) as u32
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const MSS: usize = 1460;
    const RTT: Duration = Duration::from_millis(100);

    /// The window after each of so many seconds, in segments, if all of it is acknowledged in each round trip.
    fn windows(cubic: &mut Cubic, start: usize, seconds: usize) -> Vec<usize> {
        let (mut window, mut now) = (start, Instant::from_secs(1000));
        let mut windows = Vec::new();
        for round in 1..=seconds * 10 {
            for _ in 0..window / MSS {
                window = cubic.grown(now, RTT, window, (MSS, MSS));
            }
            now += RTT;
            if round % 10 == 0 {
                windows.push(window / MSS);
            }
        }
        windows
    }

    #[test]
    fn roots_are_exact() {
        for root in [0_u64, 1, 2, 3, 10, 4641, 100_000, 2_097_151] {
            let cube = root.pow(3);
            assert_eq!(u64::from(cube_root(cube)), root);
            assert!(root == 0 || u64::from(cube_root(cube - 1)) < root);
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    #[test]
    fn window_rises_to_where_it_was_lingers_and_goes_on() {
        let mut cubic = Cubic::NEW;
        let before = 1000 * MSS;
        let after = cubic.cut(before);
        assert_eq!(after, 700 * MSS);
        // K is the third root of 300 / 0.4: 9.1 s.
        let windows = windows(&mut cubic, after, 18);
        assert!((780..860).contains(&windows[1]), "it rises fast: {windows:?}");
        assert!((985..=1001).contains(&windows[8]), "and is back after K: {windows:?}");
        assert!(windows[10] - windows[7] < 10, "where it lingers: {windows:?}");
        assert!(windows[17] > 1250, "and then goes on: {windows:?}");
    }

    #[test]
    fn reno_is_cut_by_half_and_grows_by_a_segment_in_a_round_trip() {
        let mut reno = Cubic { is_reno: true, ..Cubic::NEW };
        let after = reno.cut(100 * MSS);
        assert_eq!(after, 50 * MSS);
        let windows = windows(&mut reno, after, 5);
        assert!((97..=100).contains(&windows[4]), "{windows:?}");
    }

    #[test]
    fn short_ways_are_renos() {
        let mut cubic = Cubic::NEW;
        let after = cubic.cut(20 * MSS);
        // To be back at 20 segments would take K = 2.5 s. Reno is there after 11 round trips, 0.53 segments at a time, and
        // goes on by one.
        let (mut window, mut now) = (after, Instant::from_secs(5));
        let rtt = Duration::from_millis(2);
        for _ in 0..20 {
            for _ in 0..window / MSS {
                window = cubic.grown(now, rtt, window, (MSS, MSS));
            }
            now += rtt;
        }
        assert!((27..=29).contains(&(window / MSS)), "{}", window / MSS);
    }

    #[test]
    fn less_is_wanted_after_a_second_loss() {
        let mut cubic = Cubic::NEW;
        cubic.cut(1000 * MSS);
        cubic.cut(800 * MSS);
        assert_eq!(cubic.goal as usize, 680 * MSS);
    }

    #[test]
    fn time_without_use_does_not_count() {
        let mut cubic = Cubic::NEW;
        let after = cubic.cut(1000 * MSS);
        let now = Instant::from_secs(10);
        let window = cubic.grown(now, RTT, after, (MSS, MSS));
        cubic.pause();
        let later = cubic.grown(now + Duration::from_secs(60), RTT, window, (MSS, MSS));
        assert!(later - window < MSS, "{later}");
    }
}
