//! Memory that devices read and write, kept for ever: a device that was told of it may come back to it at any time.
//!
//! What is *not* checked here: the addresses that a driver gives to a device. There is no IOMMU, and a number in a queue is the driver's
//! word. A driver that gives a wrong one lets the device write where it should not; see `docs/boundary.md`.

use unikernel_machine::ring::{Layout, Shared};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::memory;
use crate::kmem::frames;
use crate::kmem::layout::{PAGE_BYTES, phys_to_virt};

/// A block of memory whose bytes a device and the kernel have in turn.
///
/// It cannot be misused: it is never freed, and its bytes are borrowed one at a time. A device that writes to them out of turn can change bytes under
/// the kernel's eyes, but no address or length.
pub struct Block {
    physical: PhysAddr,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the block belongs to this value alone; the pointer is to memory that every core sees.
unsafe impl Send for Block {}

impl Block {
    /// Not zeroed, which would take a millisecond of the boot: only what the device or the driver wrote is ever
    /// looked at.
    pub fn alloc(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let physical = if memory::is_refused() { None } else { frames::alloc_block(pages) }?;
        Some(Self { physical, base: phys_to_virt(physical).as_mut_ptr(), bytes })
    }

    /// Where it lies, for the device.
    #[inline]
    pub fn physical(&self) -> u64 {
        self.physical.as_u64()
    }

    /// Its bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Some of its bytes.
    ///
    /// # Panics
    ///
    /// If they are not all in the block.
    #[inline]
    pub fn slice(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at <= self.bytes && len <= self.bytes - at, "beyond the block");
        // SAFETY: the bytes lie within the block, by the check, and the result borrows all of it.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(at), len) }
    }
}

/// Allocates the shared memory of a virtqueue of `size` elements, zeroed, for ever; answers where it is for the device, too.
///
/// It cannot be misused: all of it is atomics, which allow for a device that writes at any time.
pub fn ring(size: u16) -> Option<(Shared, u64)> {
    let layout = Layout::new(size);
    let pages = layout.size_bytes.div_ceil(PAGE_BYTES);
    let physical = if frames::can_devices_take(pages) { frames::alloc_block(pages)? } else { return None };
    frames::zero(physical, pages);
    let shown = phys_to_virt(physical);
    let part = |at: usize| shown + at as u64;
    let entries = usize::from(size);
    // SAFETY: all parts lie within the block just allocated, zeroed, aligned to a page and never
    // freed, and they do not overlap (`Layout`); any bytes are valid atomics. Nobody but the
    // device, whose accesses atomics allow for, has another reference.
    let shared = unsafe {
        Shared {
            descriptors: slice_at(part(0), entries),
            avail_flags: &*part(layout.avail).as_ptr(),
            avail_index: &*part(layout.avail + 2).as_ptr(),
            avail: slice_at(part(layout.avail + 4), entries),
            used_flags: &*part(layout.used).as_ptr(),
            used_index: &*part(layout.used + 2).as_ptr(),
            used: slice_at(part(layout.used + 4), entries),
            used_event: &*part(layout.used_event).as_ptr(),
            avail_event: &*part(layout.avail_event).as_ptr(),
        }
    };
    Some((shared, physical.as_u64()))
}

/// # Safety
///
/// `len` values of `T` must lie at `address`, for ever, and be shared only as `T` allows.
unsafe fn slice_at<T>(address: VirtAddr, len: usize) -> &'static [T] {
    // SAFETY: by the caller.
    unsafe { core::slice::from_raw_parts(address.as_ptr(), len) }
}
