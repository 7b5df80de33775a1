//! A split virtqueue (specification, section 2.7) for devices with fixed buffers: descriptor `i`
//! names buffer `i` for ever, so that posting a buffer is one store into the available ring and
//! taking one back is one load from the used ring. `virtio-drivers`' `VirtQueue` serves every
//! shape of request and pays for it with about a hundred instructions and two full fences a packet
//! (it links, copies and unlinks descriptors each time); here it is about fifteen and one fence a
//! batch.
//!
//! **Notifications.** The device may say that it need not be notified (`used.flags`), we may say
//! the same of its interrupts (`avail.flags`). Both sides write, then look at the other's word;
//! each needs a full fence in between, or both may see the old state and wait for each other:
//!
//! ```text
//!   driver                          device
//!   ------                          ------
//!   avail.idx = new                 used.flags = 0 (wants notifications)
//!   full fence                      full fence
//!   used.flags says no? done        avail.idx unchanged? sleep
//! ```
//!
//! VIRTIO_F_EVENT_IDX is not negotiated.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use alloc::boxed::Box;
use virtio_drivers::transport::Transport;
use x86_64::{PhysAddr, VirtAddr};

use super::StartError;
use super::transport::Link;
use crate::mem::{self, PAGE_BYTES};

/// Descriptor flag: the device writes the buffer.
const WRITE: u16 = 2;
/// `avail.flags`: no interrupts, please. `used.flags`: no notifications, please.
const NO_CALL: u16 = 1;
/// A ring with less is no use to anybody.
const MIN_SIZE: u16 = 2;

/// Who writes a ring's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device: incoming.
    ToDriver,
    /// The driver: outgoing.
    ToDevice,
}

/// Section 2.7.5.
#[repr(C)]
struct Descriptor {
    address: AtomicU64,
    len: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

/// An element of the used ring (section 2.7.8).
#[repr(C)]
struct Used {
    id: AtomicU32,
    len: AtomicU32,
}

/// The parts that are shared with the device. They are atomics because it writes at any time.
struct Shared {
    descriptors: &'static [Descriptor],
    avail_flags: &'static AtomicU16,
    avail_index: &'static AtomicU16,
    avail: &'static [AtomicU16],
    used_flags: &'static AtomicU16,
    used_index: &'static AtomicU16,
    used: &'static [Used],
}

/// A queue and its buffers.
pub struct Ring {
    shared: Shared,
    buffers: Buffers,
    queue: u16,
    mask: u16,
    /// Available index: where the next buffer goes, and up to where the device was told to look.
    next_avail: u16,
    notified_avail: u16,
    next_used: u16,
    /// Which buffers the device has. It may claim to give back others.
    is_posted: Box<[bool]>,
    bad_completions: u64,
}

/// A buffer that the device gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Which one.
    pub buffer: u16,
    /// How many bytes the device says that it wrote, at most the buffer's size.
    pub len: usize,
}

impl Ring {
    /// Sets up queue `queue` with up to `size` buffers of `buffer_bytes` each. The device has none
    /// of them yet.
    pub fn new(
        link: &mut Link,
        queue: u16,
        size: u16,
        buffer_bytes: usize,
        direction: Direction,
    ) -> Result<Self, StartError> {
        let size = size.min(link.max_queue_size(queue).min(1 << 15) as u16);
        if size < MIN_SIZE {
            return Err(StartError::BadQueue(queue));
        }
        let size = 1 << size.ilog2();
        let shared = Shared::allocate(link, queue, size);
        let buffers = Buffers::allocate(usize::from(size), buffer_bytes);
        for (index, descriptor) in shared.descriptors.iter().enumerate() {
            descriptor.address.store(buffers.physical(index as u16).as_u64(), Ordering::Relaxed);
            descriptor.len.store(buffer_bytes as u32, Ordering::Relaxed);
            let flags = if direction == Direction::ToDriver { WRITE } else { 0 };
            descriptor.flags.store(flags, Ordering::Relaxed);
        }
        Ok(Self {
            shared,
            buffers,
            queue,
            mask: size - 1,
            next_avail: 0,
            notified_avail: 0,
            next_used: 0,
            is_posted: alloc::vec![false; usize::from(size)].into_boxed_slice(),
            bad_completions: 0,
        })
    }

    /// How many buffers there are.
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// Bytes in each.
    pub fn buffer_bytes(&self) -> usize {
        self.buffers.bytes_each
    }

    /// The buffer's bytes.
    ///
    /// # Panics
    ///
    /// If the device has it, or there is no such buffer.
    #[inline]
    pub fn buffer(&mut self, buffer: u16) -> &mut [u8] {
        assert!(!self.is_posted[usize::from(buffer)], "the device has this buffer");
        self.buffers.bytes(buffer)
    }

    /// Gives a buffer to the device, to write it or, up to `len`, to read it. The device may see
    /// it at once, and does after [`Self::notify`].
    ///
    /// # Panics
    ///
    /// If the device has it already, or there is no such buffer.
    #[inline]
    pub fn post(&mut self, buffer: u16, len: usize) {
        let is_posted = &mut self.is_posted[usize::from(buffer)];
        assert!(!*is_posted, "the device has this buffer");
        *is_posted = true;
        debug_assert!(len <= self.buffers.bytes_each);
        self.shared.descriptors[usize::from(buffer)].len.store(len as u32, Ordering::Relaxed);
        self.shared.avail[usize::from(self.next_avail & self.mask)].store(buffer, Ordering::Relaxed);
        self.next_avail = self.next_avail.wrapping_add(1);
        // After the entry and the buffer's contents.
        self.shared.avail_index.store(self.next_avail, Ordering::Release);
    }

    /// Tells the device about the buffers posted since the last time, if it wants to be told.
    /// True if that took a notification.
    #[inline]
    pub fn notify(&mut self, link: &mut Link) -> bool {
        if self.notified_avail == self.next_avail {
            return false;
        }
        self.notified_avail = self.next_avail;
        // See the drawing above: a full fence, not just an order of stores.
        fence(Ordering::SeqCst);
        if self.shared.used_flags.load(Ordering::Relaxed) & NO_CALL != 0 {
            return false;
        }
        link.notify(self.queue);
        true
    }

    /// True if the device has given back a buffer that [`Self::take`] did not yet answer.
    #[inline]
    pub fn has_completions(&self) -> bool {
        self.shared.used_index.load(Ordering::Acquire) != self.next_used
    }

    /// Takes back a buffer.
    #[inline]
    pub fn take(&mut self) -> Option<Completion> {
        while self.has_completions() {
            let used = &self.shared.used[usize::from(self.next_used & self.mask)];
            self.next_used = self.next_used.wrapping_add(1);
            let (id, len) = (used.id.load(Ordering::Relaxed), used.len.load(Ordering::Relaxed));
            // The device may write nonsense; only a buffer that it has can come back.
            let Some(is_posted) = self.is_posted.get_mut(id as usize).filter(|posted| **posted) else {
                self.bad_completions += 1;
                continue;
            };
            *is_posted = false;
            return Some(Completion { buffer: id as u16, len: (len as usize).min(self.buffers.bytes_each) });
        }
        None
    }

    /// Asks for no interrupts. A hint: one may still come.
    #[inline]
    pub fn disable_interrupts(&mut self) {
        self.shared.avail_flags.store(NO_CALL, Ordering::Relaxed);
    }

    /// Asks for interrupts, and looks once more. If it answers true there is work that may not
    /// raise one: do it before sleeping.
    #[inline]
    pub fn enable_interrupts(&mut self) -> bool {
        self.shared.avail_flags.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.has_completions()
    }

    /// Nonsense that the device wrote into the used ring.
    pub fn bad_completions(&self) -> u64 {
        self.bad_completions
    }
}

impl Shared {
    /// Allocates the rings in the layout that a legacy device wants (section 2.7.2), which suits a
    /// modern one too, and tells the device where they are. They stay for ever.
    fn allocate(link: &mut Link, queue: u16, size: u16) -> Self {
        let entries = usize::from(size);
        let avail_at = entries * size_of::<Descriptor>();
        // Flags, index, the ring, and a word for an event index that is not used.
        let used_at = (avail_at + size_of::<u16>() * (3 + entries)).next_multiple_of(PAGE_BYTES);
        let bytes = used_at + 2 * size_of::<u16>() + entries * size_of::<Used>() + size_of::<u16>();
        let (physical, shown) = mem::dma_alloc(bytes.div_ceil(PAGE_BYTES));
        let address = |at: usize| physical.as_u64() + at as u64;
        link.queue_set(queue, u32::from(size), address(0), address(avail_at), address(used_at));
        let part = |at: usize| shown + at as u64;
        // SAFETY: all parts lie within the block just allocated, zeroed, aligned to a page and
        // never freed, and they do not overlap; any bytes are valid atomics. Nobody but the
        // device, whose accesses atomics allow for, has another reference.
        unsafe {
            Self {
                descriptors: slice_at(part(0), entries),
                avail_flags: &*part(avail_at).as_ptr(),
                avail_index: &*part(avail_at + 2).as_ptr(),
                avail: slice_at(part(avail_at + 4), entries),
                used_flags: &*part(used_at).as_ptr(),
                used_index: &*part(used_at + 2).as_ptr(),
                used: slice_at(part(used_at + 4), entries),
            }
        }
    }
}

/// # Safety
///
/// `len` values of `T` must lie at `address`, for ever, and be shared only as `T` allows.
unsafe fn slice_at<T>(address: VirtAddr, len: usize) -> &'static [T] {
    // SAFETY: by the caller.
    unsafe { core::slice::from_raw_parts(address.as_ptr(), len) }
}

/// DMA memory cut into buffers of one size.
struct Buffers {
    physical: PhysAddr,
    base: *mut u8,
    count: usize,
    bytes_each: usize,
}

// SAFETY: the block belongs to this value alone; the pointer is to memory that every core sees.
unsafe impl Send for Buffers {}

impl Buffers {
    fn allocate(count: usize, bytes_each: usize) -> Self {
        let pages = (count * bytes_each).div_ceil(PAGE_BYTES);
        // Not zeroed, which would take a millisecond of the boot: only what the device or the
        // driver wrote is ever looked at.
        let physical = mem::frames::alloc_block(pages).expect("memory for device buffers");
        Self { physical, base: mem::phys_to_virt(physical).as_mut_ptr(), count, bytes_each }
    }

    fn physical(&self, buffer: u16) -> PhysAddr {
        self.physical + (usize::from(buffer) * self.bytes_each) as u64
    }

    #[inline]
    fn bytes(&mut self, buffer: u16) -> &mut [u8] {
        assert!(usize::from(buffer) < self.count);
        // SAFETY: the buffer lies within the block, by the check; buffers do not overlap, and the
        // result borrows all of them. `Ring` asks only for buffers that the device has given
        // back. One that writes to a buffer afterwards can change bytes under our eyes, but no
        // address or length.
        unsafe {
            core::slice::from_raw_parts_mut(
                self.base.add(usize::from(buffer) * self.bytes_each),
                self.bytes_each,
            )
        }
    }
}
