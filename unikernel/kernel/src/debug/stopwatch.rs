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
/// When the core last returned to the app.
static RETURNED_NS: PerCore<AtomicU64> = per_core!(AtomicU64::new(0));
/// The app's time on the core.
static APP_NS: PerCore<AtomicU64> = per_core!(AtomicU64::new(0));

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
    let span_ns = time::now_ns().saturating_sub(RETURNED_NS.load(Ordering::Relaxed));
    APP_NS.fetch_add(span_ns, Ordering::Relaxed);
}

/// The kernel returns to the app.
#[cold]
pub fn returns() {
    RETURNED_NS.store(time::now_ns(), Ordering::Relaxed);
}

/// The app's time so far, in nanoseconds; none if it is not measured.
pub fn app_ns() -> Option<u64> {
    is_on().then(|| APP_NS.iter().map(|core_ns| core_ns.load(Ordering::Relaxed)).sum())
}
