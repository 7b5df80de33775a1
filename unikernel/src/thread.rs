//! The running thread. A `no_std` appliance has one; programs that want more use `std`.

use core::time::Duration;

use crate::sys;

/// Sleeps at least that long, or until a signal comes.
///
/// ```
/// use core::time::Duration;
/// use unikernel::time::Instant;
///
/// let start = Instant::now();
/// unikernel::thread::sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) {
    let _ = sys::sleep_ns(duration.as_nanos().min(u128::from(u64::MAX)) as u64);
}

/// Lets others run.
pub fn yield_now() {
    sys::yield_now();
}
