//! Measuring one counter by another. A [`Scale`] turns steps of a fast counter into nanoseconds; a
//! [`Timer`] of known rate, which begins again every so often, tells how much time has passed.

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds a step of a counter, times 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale(pub u64);

impl Scale {
    /// The scale of a counter with `hz` steps a second.
    pub fn from_hz(hz: u64) -> Self {
        Self(((u128::from(NS_PER_SECOND) << 32) / u128::from(hz.max(1))) as u64)
    }

    /// The scale of a counter that made `ticks` steps in `elapsed_ns`.
    pub fn from_span(ticks: u64, elapsed_ns: u64) -> Self {
        Self(((u128::from(elapsed_ns) << 32) / u128::from(ticks.max(1))) as u64)
    }

    /// The scale of a clock that goes so many millionths faster, or slower.
    pub fn faster_by_ppm(self, ppm: i32) -> Self {
        let change = i128::from(self.0) * i128::from(ppm) / 1_000_000;
        Self(u64::try_from(i128::from(self.0) + change).unwrap_or(self.0))
    }

    /// Steps a second.
    pub fn hz(self) -> u64 {
        Self::from_hz(self.0).0
    }

    /// How long `ticks` steps take.
    #[inline]
    pub fn ticks_to_ns(self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.0)) >> 32) as u64
    }

    /// How many steps `ns` take.
    pub fn ns_to_ticks(self, ns: u64) -> u64 {
        ((u128::from(ns) << 32) / u128::from(self.0.max(1))) as u64
    }
}

/// Steps a second of a counter that made `ticks` in `elapsed_ns`.
pub fn rate(ticks: u64, elapsed_ns: u64) -> u64 {
    (u128::from(ticks) * u128::from(NS_PER_SECOND) / u128::from(elapsed_ns.max(1))) as u64
}

/// A timer of known rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Steps a second.
    pub hz: u64,
    /// Bits of its count.
    pub bits: u32,
}

impl Timer {
    /// The lowest bits of a difference of counts, which are all that is known of it.
    pub fn wrapped(self, ticks: u64) -> u64 {
        ticks & ((1 << self.bits) - 1)
    }

    /// Steps between two counts about `estimate_ns` apart. The estimate, which must be right to
    /// less than half of [`Self::wrap_ns`], tells how often the timer began again; the timer tells
    /// the rest.
    pub fn ticks_between(self, first: u64, last: u64, estimate_ns: u64) -> u64 {
        let wrap = 1 << self.bits;
        let low = self.wrapped(last.wrapping_sub(first));
        let wraps = (self.ns_to_ticks(estimate_ns).saturating_sub(low) + wrap / 2) / wrap;
        wraps * wrap + low
    }

    /// How long `ticks` steps take.
    pub fn ticks_to_ns(self, ticks: u64) -> u64 {
        (u128::from(ticks) * u128::from(NS_PER_SECOND) / u128::from(self.hz)) as u64
    }

    /// How many steps fit into `ns`.
    pub fn ns_to_ticks(self, ns: u64) -> u64 {
        (u128::from(ns) * u128::from(self.hz) / u128::from(NS_PER_SECOND)) as u64
    }

    /// After how long the timer begins again.
    pub fn wrap_ns(self) -> u64 {
        self.ticks_to_ns(1 << self.bits)
    }

    /// Nanoseconds of one step, rounded up: what a reading cannot tell.
    pub fn step_ns(self) -> u64 {
        NS_PER_SECOND.div_ceil(self.hz)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIT: Timer = Timer { hz: 1_193_182, bits: 16 };

    #[test]
    fn clock_goes_faster_and_slower() {
        let scale = Scale::from_hz(1_000_000_000);
        let second = |ppm| scale.faster_by_ppm(ppm).ticks_to_ns(1_000_000_000);
        // Less than a nanosecond is cut off.
        assert_eq!([second(0), second(500), second(-500)], [1_000_000_000, 1_000_499_999, 999_500_000]);
        assert_eq!(Scale(u64::MAX).faster_by_ppm(1), Scale(u64::MAX), "rather than wrong");
    }

    #[test]
    fn span_within_one_wrap_needs_no_estimate() {
        assert_eq!(PIT.ticks_between(65_000, 100, 0), 636);
        assert_eq!(PIT.ticks_between(100, 65_000, 0), 64_900);
    }

    #[test]
    fn scale_of_a_common_processor_is_exact() {
        let scale = Scale::from_hz(2_596_096_001);
        assert_eq!(scale.hz(), 2_596_096_001);
        // A day later it is still right to a microsecond.
        let day = 86_400;
        assert!(scale.ticks_to_ns(2_596_096_001 * day).abs_diff(day * NS_PER_SECOND) < 30_000);
    }

    proptest! {
        #[test]
        fn long_spans_are_found_from_rough_estimates(
            first in 0u64..65_536,
            true_ticks in 0u64..10_000_000_000,
            error_ns in -20_000_000i64..20_000_000,
        ) {
            let true_ns = PIT.ticks_to_ns(true_ticks);
            let estimate_ns = true_ns.saturating_add_signed(error_ns);
            let found = PIT.ticks_between(first, PIT.wrapped(first + true_ticks), estimate_ns);
            prop_assert_eq!(found, true_ticks);
        }

        #[test]
        fn scales_do_not_run_away(hz in 1_000_000u64..10_000_000_000, ns in 0u64..(1 << 60)) {
            let scale = Scale::from_hz(hz);
            let back = scale.ticks_to_ns(scale.ns_to_ticks(ns));
            prop_assert!(back <= ns);
            // At most a step of the counter, and the scale's own rounding.
            prop_assert!(ns - back <= NS_PER_SECOND / hz + 2);
            prop_assert!(scale.hz().abs_diff(hz) <= hz / 1_000_000 + 1 );
        }

        #[test]
        fn span_gives_the_rate_back(hz in 1_000_000u64..5_000_000_000, ms in 1u64..100_000) {
            let ns = ms * 1_000_000;
            let ticks = (u128::from(hz) * u128::from(ns) / u128::from(NS_PER_SECOND)) as u64;
            prop_assert!(Scale::from_span(ticks, ns).hz().abs_diff(hz) <= hz / 1000);
            prop_assert!(rate(ticks, ns).abs_diff(hz) <= hz / 1000);
        }
    }
}
