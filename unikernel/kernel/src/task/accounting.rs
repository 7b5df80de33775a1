//! What is counted of the app.

use core::sync::atomic::{AtomicU64, Ordering};

/// System calls since boot.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// System calls since boot.
pub(crate) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Counts a system call. Two cores that do so at once may count one.
#[inline]
pub(crate) fn count_call() {
    CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
