//! Random numbers: the seed's.

use spin::Once;

use crate::sim::engine;

static DEVICE_SOURCE: Once<fn(&mut [u8]) -> usize> = Once::new();

/// Sets who is asked for more entropy. Nobody asks.
pub fn set_device_source(source: fn(&mut [u8]) -> usize) {
    DEVICE_SOURCE.call_once(|| source);
}

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
