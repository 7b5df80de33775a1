//! The virtual machine's generation ("VM Generation ID", Microsoft 2012; QEMU's `vmgenid`, Firecracker's VMGenID): 16
//! random bytes in memory that the hypervisor changes whenever it begins a machine from a saved state. Two machines
//! from one state have the same generator and the same time; on a change both mix their own bytes in, and read the
//! clock again.
//!
//! QEMU tells by the system control interrupt. Whoever takes random numbers looks as well, since an interrupt may come
//! a moment late on another core.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use super::io::Mmio;
use super::{acpi, random, time};
use crate::sync::SpinLock;

/// Bytes of the identifier.
const BYTES: usize = 16;

static IDENTIFIER: Once<Mmio> = Once::new();
static HANDLER: Once<fn()> = Once::new();
/// How often the identifier has changed, and up to which change everybody was told.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
static KNOWN: SpinLock<[u8; BYTES]> = SpinLock::new([0; BYTES]);

/// Finds the identifier and mixes it into the generator. Needs the ACPI tables and the generator.
pub(super) fn init() {
    let Some(address) = acpi::machine().generation else { return };
    // SAFETY: the firmware says that the identifier is there; it is only read.
    let identifier = unsafe { Mmio::map(address, BYTES) };
    IDENTIFIER.call_once(|| identifier);
    if let Some(bytes) = take_change() {
        random::add_after_restart(&bytes);
        log::debug!("vmgenid at {address:#x}");
    }
    HANDLED.store(CHANGES.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The identifier, if it is another one than at the last look.
pub(super) fn take_change() -> Option<[u8; BYTES]> {
    let identifier = IDENTIFIER.get()?;
    let mut bytes = [0; BYTES];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&identifier.read::<u32>(index * 4).to_le_bytes());
    }
    let mut known = KNOWN.lock();
    if *known == bytes {
        return None;
    }
    *known = bytes;
    CHANGES.fetch_add(1, Ordering::Relaxed);
    Some(bytes)
}

/// Who has secrets of its own to renew, from the interrupt handler.
pub fn set_handler(handler: fn()) {
    HANDLER.call_once(|| handler);
}

/// Looks whether the machine goes on from a saved state, and if so makes its random numbers, its secrets and its time
/// its own. Call with no lock held.
pub(super) fn check() {
    if let Some(bytes) = take_change() {
        random::add_after_restart(&bytes);
    }
    // Whoever took random numbers may have seen the change first.
    let changes = CHANGES.load(Ordering::Relaxed);
    if HANDLED.swap(changes, Ordering::Relaxed) == changes {
        return;
    }
    time::read_wall_clock_again();
    if let Some(handler) = HANDLER.get() {
        handler();
    }
    log::info!("the machine goes on from a saved state: random numbers, secrets and time are made anew");
}
