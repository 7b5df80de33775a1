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
