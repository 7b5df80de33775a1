//! What the processor says of a page fault beside its frame.

use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_sched::MAX_CORES;

use crate::sim::engine;

static ADDRESSES: [AtomicU64; MAX_CORES] = [const { AtomicU64::new(0) }; MAX_CORES];

/// The address whose access has raised the page fault that is being handled.
pub fn address() -> u64 {
    ADDRESSES[engine::current()].load(Ordering::Relaxed)
}

/// An access to this address raises a page fault.
pub(in crate::sim) fn set_address(address: u64) {
    ADDRESSES[engine::current()].store(address, Ordering::Relaxed);
}
