//! What the kernel maps for itself: nothing, for it runs on the host's memory.

use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::structures::paging::PageTable;
use x86_64::{PhysAddr, VirtAddr};

pub use super::stack::STACK_BYTES;
use crate::kmem::page_table::OutOfFrames;

pub(super) static STACKS: AtomicUsize = AtomicUsize::new(0);

/// The kernel's half of new page tables stays empty.
pub(crate) fn fill(_: &mut PageTable, _: PhysAddr) -> Result<(), OutOfFrames> {
    Ok(())
}

/// Bytes of all kernel stacks, as large as they are on a machine.
pub fn stack_bytes() -> usize {
    STACKS.load(Ordering::Relaxed) * 4 * crate::kmem::PAGE_BYTES
}

/// Unmaps some stacks that nobody uses; true if there were any. None are kept here.
pub fn trim_stacks() -> bool {
    false
}

/// Device registers are where [`super::bus`] has them.
pub fn map_mmio(physical: PhysAddr, _: usize) -> VirtAddr {
    panic!("registers at {physical:?} are reached through `Mmio` alone")
}
