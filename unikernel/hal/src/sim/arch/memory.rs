//! The host's `memcpy` serves; a test may have memory refused.

/// There is nothing of ours to check.
pub fn check() {}

/// True if memory is to be refused here although there is some, as if there was none: a test of what the kernel does then.
pub fn is_refused() -> bool {
    crate::sim::faults::refuses()
}

/// Fills memory that is given back, so that who uses it without writing to it first is found out.
pub(crate) fn forget(start: *mut u8, bytes: usize) {
    // SAFETY: frames that are free are nobody's, and RAM.
    unsafe { crate::sim::poison::fill(start, bytes) };
}
