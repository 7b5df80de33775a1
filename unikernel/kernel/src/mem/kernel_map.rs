//! What the kernel maps for itself beyond its image and the direct map: stacks between guard
//! pages, device registers, and memory that devices read and write.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::frames;
use super::layout::{MMIO_BASE, PAGE_BYTES, STACKS_BASE, phys_to_virt, virt_to_phys};
use super::page_table::{self, KERNEL_DATA, OutOfFrames};
use crate::sync::SpinLock;

/// Usable bytes of a kernel stack.
pub const STACK_BYTES: usize = 4 * PAGE_BYTES;
/// Distance between stacks: the stack and, below it, a page that is never mapped.
const STACK_STRIDE: u64 = (STACK_BYTES + PAGE_BYTES) as u64;

struct Stacks {
    /// Tops of mapped stacks that nobody uses.
    free: Vec<VirtAddr>,
    next: u64,
}

static STACKS: SpinLock<Stacks> = SpinLock::new(Stacks { free: Vec::new(), next: STACKS_BASE });

/// Maps a kernel stack and answers its top. Below it is a guard page: an overflow raises a double
/// fault (on a stack of its own) instead of eating what lies there.
pub fn alloc_stack() -> Result<VirtAddr, OutOfFrames> {
    let mut stacks = STACKS.lock();
    if let Some(top) = stacks.free.pop() {
        return Ok(top);
    }
    let bottom = stacks.next + PAGE_BYTES as u64;
    for page in 0..(STACK_BYTES / PAGE_BYTES) as u64 {
        let frame = frames::alloc_zeroed().ok_or(OutOfFrames)?;
        page_table::map(VirtAddr::new(bottom + page * PAGE_BYTES as u64), frame, KERNEL_DATA)?;
    }
    stacks.next += STACK_STRIDE;
    Ok(VirtAddr::new(bottom + STACK_BYTES as u64))
}

/// Bytes of all kernel stacks that are mapped.
pub fn stack_bytes() -> usize {
    let mapped = STACKS.lock().next - STACKS_BASE;
    (mapped / STACK_STRIDE) as usize * STACK_BYTES
}

/// Gives a stack back for the next thread. It stays mapped.
pub fn free_stack(top: VirtAddr) {
    STACKS.lock().free.push(top);
}

static NEXT_MMIO: AtomicU64 = AtomicU64::new(MMIO_BASE);

/// Maps `len` bytes of device registers, uncached. Mappings are for ever.
///
/// # Panics
///
/// If no frame is left for a page table, which at boot means that the guest has no memory at all.
pub fn map_mmio(physical: PhysAddr, len: usize) -> VirtAddr {
    let offset = physical.as_u64() & (PAGE_BYTES as u64 - 1);
    let pages = (offset + len as u64).div_ceil(PAGE_BYTES as u64);
    let base = NEXT_MMIO.fetch_add(pages * PAGE_BYTES as u64, Ordering::Relaxed);
    for page in 0..pages {
        let at = page * PAGE_BYTES as u64;
        page_table::map(VirtAddr::new(base + at), physical - offset + at, KERNEL_DATA | Flags::NO_CACHE)
            .expect("memory for the page tables of device registers");
    }
    VirtAddr::new(base + offset)
}

/// Takes zeroed, physically contiguous memory for a device.
///
/// # Panics
///
/// If there is none; drivers ask at boot only.
pub fn dma_alloc(pages: usize) -> (PhysAddr, VirtAddr) {
    let block = frames::alloc_block(pages).expect("memory for device queues");
    frames::zero(block, pages);
    (block, phys_to_virt(block))
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
