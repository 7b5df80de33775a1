//! Whether the machine goes on from a saved state, or on another host. Two devices tell:
//!
//! - the virtual machine's generation ("VM Generation ID", Microsoft 2012; QEMU's `vmgenid`, Firecracker's VMGenID): 16
//!   random bytes in memory that the hypervisor changes whenever it begins a machine from a saved state;
//! - the page of a `vmclock` ([`unikernel_machine::vmclock`]), whose numbers change then.
//!
//! Two machines from one state have the same generator and the same time; on a change both mix their own bytes in, and
//! read the clock again.
//!
//! The hypervisor tells by an interrupt. Whoever takes random numbers looks as well, since an interrupt may come
//! a moment late on another core.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use unikernel_machine::vmclock::{self, State};
use x86_64::PhysAddr;

use super::io::Mmio;
use super::{acpi, random, time};
use crate::sync::SpinLock;

/// Bytes of the identifier.
const BYTES: usize = 16;
/// The identifier, and as much of the clock's page.
const KNOWN_BYTES: usize = 2 * BYTES;

static IDENTIFIER: Once<Mmio> = Once::new();
static CLOCK_PAGE: Once<Mmio> = Once::new();
static HANDLER: Once<fn()> = Once::new();
/// How often the identifier has changed, and up to which change everybody was told.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
static KNOWN: SpinLock<Known> = SpinLock::new(Known { bytes: [0; KNOWN_BYTES], sequence: None });

/// What was seen at the last look.
struct Known {
    bytes: [u8; KNOWN_BYTES],
    /// Of the clock's page.
    sequence: Option<u32>,
}

/// Finds the devices and mixes what they say into the generator. Needs the ACPI tables and the generator.
pub(super) fn init() {
    let machine = acpi::machine();
    // SAFETY: the firmware says that the device is there; it is only read.
    let show = |address: PhysAddr, bytes| unsafe { Mmio::map(address, bytes) };
    if let Some(address) = machine.generation {
        IDENTIFIER.call_once(|| show(address, BYTES));
    }
    match machine.clock_page.map(|address| show(address, vmclock::BYTES)) {
        Some(page) if vmclock::is_page(&read(page)) => drop(CLOCK_PAGE.call_once(|| page)),
        Some(_) => log::warn!("vmclock: its page is of no kind that is known"),
        None => {}
    }
    if let Some(bytes) = take_change() {
        random::add_after_restart(&bytes);
        log::debug!("vmgenid at {:?}, vmclock at {:?}", machine.generation, machine.clock_page);
    }
    CHANGES.store(0, Ordering::Relaxed);
}

/// How often the machine has gone on from a saved state, as far as a device told.
pub fn number() -> u64 {
    CHANGES.load(Ordering::Relaxed)
}

fn read<const N: usize>(registers: Mmio) -> [u8; N] {
    let mut bytes = [0; N];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&registers.read::<u32>(index * 4).to_le_bytes());
    }
    bytes
}

/// What the devices say, if it is something else than at the last look.
pub(super) fn take_change() -> Option<[u8; KNOWN_BYTES]> {
    let page = CLOCK_PAGE.get();
    if IDENTIFIER.get().is_none() && page.is_none() {
        return None;
    }
    let mut known = KNOWN.lock();
    let mut bytes = known.bytes;
    if let Some(identifier) = IDENTIFIER.get() {
        bytes[..BYTES].copy_from_slice(&read::<BYTES>(*identifier));
    }
    let sequence = page.map(|page| page.read(vmclock::SEQUENCE));
    if known.sequence != sequence
        && let Some(state) = page.and_then(|page| vmclock::state(|| read(*page)))
    {
        known.sequence = sequence;
        bytes[BYTES..].copy_from_slice(&State::bytes(state));
    }
    if known.bytes == bytes {
        return None;
    }
    known.bytes = bytes;
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
