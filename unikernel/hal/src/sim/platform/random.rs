//! Random numbers: the seed's. What a device gives is kept for the test.

use std::vec::Vec;

use crate::sim::engine::{self, Single};
use crate::sim::heap;

struct Device {
    /// The processor has no source of its own.
    is_needed: bool,
    source: Option<fn(&mut [u8]) -> usize>,
    /// What the device has given.
    given: Vec<u8>,
}

static DEVICE: Single<Device> = Single::new(Device { is_needed: false, source: None, given: Vec::new() });

/// Sets who is asked for more entropy.
pub fn set_device_source(source: fn(&mut [u8]) -> usize) {
    DEVICE.with(|device| device.source = Some(source));
}

/// What a device says is random is not: the seed decides.
pub fn add_device_entropy(bytes: &[u8]) {
    DEVICE.with(|device| device.given.extend_from_slice(bytes));
}

/// True if a source that was made for it has given entropy.
pub fn has_strong_source() -> bool {
    const KEY_BYTES: usize = 32;
    DEVICE.with(|device| !device.is_needed || device.given.len() >= KEY_BYTES)
}

/// The machine that is about to boot has a processor without a source of entropy.
pub fn lose_strong_source() {
    DEVICE.with(|device| device.is_needed = true);
}

/// Asks the device, as the kernel's generator does now and then; answers all that it has given so far.
pub fn ask_device() -> Vec<u8> {
    const MOST_BYTES: usize = 64;
    if let Some(source) = DEVICE.with(|device| device.source) {
        let mut bytes = [0; MOST_BYTES];
        heap::set_kernel(true);
        let count = source(&mut bytes);
        heap::set_kernel(false);
        add_device_entropy(&bytes[..count]);
    }
    DEVICE.with(|device| device.given.clone())
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
