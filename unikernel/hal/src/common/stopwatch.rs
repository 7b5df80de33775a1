//! Which part of the time is the app's (`trace=time`). What is neither the app's nor idle is the kernel's: with
//! QEMU's `-icount shift=0`, where time is instructions, that is what a request costs in the kernel.
//!
//! The app's time begins when a system call returns and ends with the next one. An interrupt in between counts
//! for it, so the figure is for servers that call often, and right for one thread a core.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::arch::per_core::PerCore;
use crate::per_core;
use crate::platform::time;

static IS_ON: AtomicBool = AtomicBool::new(false);
/// A core's readings, in steps of the time-stamp counter: to scale them to nanoseconds takes as many instructions as
/// all the rest, and would be measured, too.
struct Readings {
    /// When it last returned to the app.
    returned: AtomicU64,
    /// The app's time on it.
    app: AtomicU64,
}

static READINGS: PerCore<Readings> =
    per_core!(Readings { returned: AtomicU64::new(0), app: AtomicU64::new(0) });

/// Begins to measure, or does not.
pub fn turn_on(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// True if time is measured.
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// The app has called the kernel.
#[cold]
pub fn called() {
    let now = time::tsc();
    let here = &*READINGS;
    // Only the core itself writes.
    let app = here.app.load(Ordering::Relaxed) + now.saturating_sub(here.returned.load(Ordering::Relaxed));
    here.app.store(app, Ordering::Relaxed);
}

/// The kernel returns to the app.
#[cold]
pub fn returns() {
    READINGS.returned.store(time::tsc(), Ordering::Relaxed);
}

/// The app's time so far, in nanoseconds; none if it is not measured.
pub fn app_ns() -> Option<u64> {
    let steps = || READINGS.iter().map(|core| core.app.load(Ordering::Relaxed)).sum();
    is_on().then(|| time::span_ns(steps()))
}
