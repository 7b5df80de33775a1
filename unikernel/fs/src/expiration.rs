//! A timer that counts how often it has expired (timerfd_create(2)). All times are nanoseconds on
//! one clock, which the caller reads.

/// When a timer expires, and how often it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expirations {
    next_ns: Option<u64>,
    interval_ns: u64,
    count: u64,
}

impl Expirations {
    /// Sets the first expiration, or none, and the time between further ones (0: no further ones).
    /// What was counted is forgotten.
    pub fn set(&mut self, next_ns: Option<u64>, interval_ns: u64) {
        *self = Self { next_ns, interval_ns, count: 0 };
    }

    /// Counts expirations that were before the clock began.
    pub fn add_missed(&mut self, count: u64) {
        self.count = self.count.saturating_add(count);
    }

    /// The next expiration, if there will be one.
    pub const fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// The time between expirations.
    pub const fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The time from `now_ns` to the next expiration: 0 only if there will be none.
    pub fn remaining_ns(&self, now_ns: u64) -> u64 {
        self.next_ns.map_or(0, |next_ns| next_ns.saturating_sub(now_ns).max(1))
    }

    /// Counts the expirations up to `now_ns`.
    pub fn advance(&mut self, now_ns: u64) {
        let Some(next_ns) = self.next_ns.filter(|&next_ns| next_ns <= now_ns) else { return };
        // Expirations that have passed while nobody looked count each.
        let further = (now_ns - next_ns).checked_div(self.interval_ns);
        let passed = further.map_or(1, |further| further + 1);
        self.count = self.count.saturating_add(passed);
        self.next_ns = further.and_then(|_| next_ns.checked_add(passed.checked_mul(self.interval_ns)?));
    }

    /// Expirations that were not taken yet.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the count; `None` if it is 0.
    pub fn take(&mut self) -> Option<u64> {
        match core::mem::take(&mut self.count) {
            0 => None,
            count => Some(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_shot_expires_once() {
        let mut timer = Expirations::default();
        timer.set(Some(100), 0);
        timer.advance(99);
        assert_eq!((timer.take(), timer.remaining_ns(99)), (None, 1));
        timer.advance(100);
        timer.advance(1000);
        assert_eq!((timer.take(), timer.take(), timer.next_ns()), (Some(1), None, None));
    }

    #[test]
    fn setting_forgets_what_was_counted() {
        let mut timer = Expirations::default();
        timer.set(Some(1), 1);
        timer.advance(10);
        timer.set(None, 0);
        timer.advance(20);
        assert_eq!((timer.take(), timer.remaining_ns(20)), (None, 0));
    }

    proptest! {
        /// However often it is looked at, each expiration counts once.
        #[test]
        fn looking_does_not_change_the_count(
            first in 1..1000u64,
            interval in 1..50u64,
            looks in prop::collection::vec(0..100u64, 1..40),
        ) {
            let mut timer = Expirations::default();
            timer.set(Some(first), interval);
            let (mut now, mut total) = (0, 0);
            for step in looks {
                now += step;
                timer.advance(now);
                total += timer.take().unwrap_or(0);
                prop_assert!(timer.next_ns().unwrap() > now);
            }
            prop_assert_eq!(total, if now < first { 0 } else { (now - first) / interval + 1 });
        }

        #[test]
        fn extreme_times_do_not_overflow(next in any::<u64>(), interval in any::<u64>(), now in any::<u64>()) {
            let mut timer = Expirations::default();
            timer.set(Some(next), interval);
            timer.advance(now);
            timer.advance(u64::MAX);
        }
    }
}
