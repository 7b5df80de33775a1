//! Random numbers: the seed's.

use crate::sim::engine;

/// Sets who is asked for more entropy. Nobody asks.
pub fn set_device_source(_: fn(&mut [u8]) -> usize) {}

/// What a device says is random is not: the seed decides.
pub fn add_device_entropy(_: &[u8]) {}

/// True if a source that was made for it has given entropy.
pub fn has_strong_source() -> bool {
    true
}

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        chunk.copy_from_slice(&engine::random().to_le_bytes()[..chunk.len()]);
    }
}

/// A random number.
pub fn next_u64() -> u64 {
    engine::random()
}
