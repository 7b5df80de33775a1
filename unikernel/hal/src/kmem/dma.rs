//! Memory that devices read and write.

use x86_64::{PhysAddr, VirtAddr};

use super::frames;
use super::layout::{phys_to_virt, virt_to_phys};

/// Takes zeroed, physically contiguous memory for a device that is being started, if there is enough.
pub fn dma_alloc(pages: usize) -> Option<(PhysAddr, VirtAddr)> {
    let block = if frames::can_devices_take(pages) { frames::alloc_block(pages)? } else { return None };
    frames::zero(block, pages);
    Some((block, phys_to_virt(block)))
}

/// Gives device memory back.
///
/// # Safety
///
/// The block must come from [`dma_alloc`] with the same `pages`, and the device must not use it
/// any more.
pub unsafe fn dma_free(block: VirtAddr, pages: usize) {
    // SAFETY: by the caller.
    unsafe { frames::free_block(virt_to_phys(block), pages) }
}
