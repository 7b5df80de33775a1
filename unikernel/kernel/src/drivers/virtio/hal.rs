//! The memory behind `virtio-drivers`' queues.

use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PhysAddr};
use x86_64::VirtAddr;

use crate::kmem;

/// Gives `virtio-drivers` our DMA memory.
pub struct KernelHal;

// SAFETY: see each method; `kmem::dma_alloc` gives memory that is zeroed, aligned to its size and
// used by nobody else, and all of RAM is mapped.
unsafe impl Hal for KernelHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let Some((physical, shown)) = kmem::dma_alloc(pages) else {
            // `virtio-drivers` takes address 0 for a failure (`Error::DmaError`).
            return (0, NonNull::dangling());
        };
        (physical.as_u64(), NonNull::new(shown.as_mut_ptr()).expect("the direct map is not at zero"))
    }

    unsafe fn dma_dealloc(_: PhysAddr, address: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: by the caller, the block came from `dma_alloc` with as many pages.
        unsafe { kmem::dma_free(VirtAddr::from_ptr(address.as_ptr()), pages) };
        0
    }

    unsafe fn mmio_phys_to_virt(physical: PhysAddr, size: usize) -> NonNull<u8> {
        let shown = kmem::map_mmio(x86_64::PhysAddr::new(physical), size);
        NonNull::new(shown.as_mut_ptr()).expect("nothing is mapped at zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        // There is no IOMMU: devices see RAM as it is. Buffers are kernel memory, in the image or
        // in the direct map, which is contiguous.
        kmem::virt_to_phys(VirtAddr::from_ptr(buffer.cast::<u8>().as_ptr())).as_u64()
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
