//! A machine here never goes on from a saved state.

/// How often the machine has gone on from a saved state.
pub fn number() -> u64 {
    0
}

/// Who has secrets of its own to renew.
pub fn set_handler(_: fn()) {}
