//! Which page tables are in force: one set for all cores.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::{PhysAddr, VirtAddr};

static ROOT: AtomicU64 = AtomicU64::new(0);

/// Where the root of the page tables is.
#[inline]
pub fn root() -> PhysAddr {
    PhysAddr::new(ROOT.load(Ordering::Relaxed))
}

/// Uses other page tables from here on.
///
/// # Safety
///
/// None here; on a machine they must map the running code.
pub unsafe fn set_root(root: PhysAddr) {
    ROOT.store(root.as_u64(), Ordering::Relaxed);
}

/// No core remembers a translation.
pub fn forget(_: VirtAddr) {}
