//! Clocks.

use core::ops::Sub;
use core::time::Duration;

use linux_raw_sys::general::{CLOCK_MONOTONIC, CLOCK_REALTIME};

use crate::sys;

/// A point on the clock that never goes back.
///
/// ```
/// use unikernel::time::Instant;
///
/// let start = Instant::now();
/// let later = Instant::now();
/// assert!(later >= start);
/// unikernel::println!("{} ns", (later - start).as_nanos());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        Self(sys::clock_ns(CLOCK_MONOTONIC))
    }

    /// How long ago it was.
    pub fn elapsed(&self) -> Duration {
        Self::now() - *self
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time between; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The wall clock, since 1970.
///
/// ```
/// let seconds = unikernel::time::since_epoch().as_secs();
/// assert!(seconds > 1_700_000_000); // November 2023
/// ```
pub fn since_epoch() -> Duration {
    Duration::from_nanos(sys::clock_ns(CLOCK_REALTIME))
}
