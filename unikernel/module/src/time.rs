//! What time it is.

use crate::abi;

/// Nanoseconds since boot.
pub fn now_ns() -> u64 {
    // SAFETY: a number comes back.
    unsafe { abi::uk_now_ns() }
}

/// Nanoseconds since 1970, as far as the machine knows.
pub fn wall_ns() -> u64 {
    // SAFETY: as above.
    unsafe { abi::uk_wall_ns() }
}

/// Lets so many nanoseconds pass. For a module's start and end alone: other calls of the kernel's must not wait.
pub fn sleep(context: crate::Context, duration_ns: u64) {
    // SAFETY: numbers go there.
    unsafe { abi::uk_sleep(context.number(), duration_ns) };
}
