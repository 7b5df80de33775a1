//! A virtqueue with its buffers: the memory under [`unikernel_machine::ring`], which has the logic
//! and says why it is not `virtio-drivers`' queue.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

pub(crate) use unikernel_machine::ring::{Completion, Direction, Segment};

use unikernel_hal::dma::{self, Block};
use unikernel_machine::ring::{Layout, Shared};
use virtio_drivers::transport::Transport;

use super::StartError;
use super::transport::{Doorbell, VirtioTransport};
use crate::kmem::{self, PAGE_BYTES};
use crate::platform::time;

/// A ring with less is no use to anybody.
const MIN_SIZE: u16 = 2;

/// A queue and its buffers.
pub(crate) struct Ring {
    ring: unikernel_machine::ring::Ring,
    buffers: Buffers,
    doorbell: Doorbell,
}

impl Ring {
    /// Sets up queue `queue` with up to `size` buffers of `buffer_bytes` each. The device has none
    /// of them yet.
    pub(crate) fn new(
        link: &mut VirtioTransport,
        queue: u16,
        size: u16,
        buffer_bytes: usize,
        direction: Direction,
    ) -> Result<Self, StartError> {
        Self::with_large(link, queue, (size, 0), buffer_bytes, direction)
    }

    /// The same, where the last `large` of the `size` buffers have no memory yet: [`Self::grow`] gives them some.
    pub(crate) fn with_large(
        link: &mut VirtioTransport,
        queue: u16,
        (size, large): (u16, u16),
        buffer_bytes: usize,
        direction: Direction,
    ) -> Result<Self, StartError> {
        let size = size.min(link.max_queue_size(queue).min(1 << 15) as u16);
        if size < MIN_SIZE {
            return Err(StartError::BadQueue(queue));
        }
        let size = 1 << size.ilog2();
        let large = if large < size { large } else { 0 };
        let buffers = Buffers::allocate((size - large).into(), large.into(), buffer_bytes)?;
        let shared = allocate(link, queue, size)?;
        let ring = unikernel_machine::ring::Ring::new(shared, direction, |buffer| buffers.physical(buffer));
        Ok(Self { ring, buffers, doorbell: link.doorbell(queue) })
    }

    /// VIRTIO_F_EVENT_IDX was agreed on. Call before the device has any buffer.
    pub(crate) fn use_event_index(&mut self) {
        self.ring.use_event_index();
    }

    /// How many buffers there are.
    pub(crate) fn size(&self) -> u16 {
        self.ring.size()
    }

    /// Those among them that have memory from the start.
    pub(crate) fn small_buffers(&self) -> Range<u16> {
        0..self.buffers.count as u16
    }

    /// The others.
    pub(crate) fn large_buffers(&self) -> Range<u16> {
        self.buffers.count as u16..self.size()
    }

    /// Gives a large buffer its memory, `bytes` of it, for ever. False if memory is short.
    ///
    /// # Panics
    ///
    /// If the buffer is none of [`Self::large_buffers`], or the device has it.
    pub(crate) fn grow(&mut self, buffer: u16, bytes: usize) -> bool {
        let block = if kmem::room::is_left_for(bytes) { Block::alloc(bytes) } else { None };
        let Some(block) = block else { return false };
        self.ring.set_address(buffer, block.physical());
        let index = usize::from(buffer) - self.buffers.count;
        self.buffers.large[index] = Some(block);
        true
    }

    /// Bytes in each.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.bytes_each
    }

    /// The buffer's bytes.
    ///
    /// # Panics
    ///
    /// If the device has it, or there is no such buffer.
    #[inline]
    pub(crate) fn buffer(&mut self, buffer: u16) -> &mut [u8] {
        assert!(!self.ring.is_posted(buffer), "the device has this buffer");
        self.buffers.bytes(buffer)
    }

    /// The bytes of `count` buffers from `first` on, which lie one behind the other.
    ///
    /// # Panics
    ///
    /// If the device has one of them, or there are not so many that had memory from the start.
    #[inline]
    pub(crate) fn run(&mut self, first: u16, count: u16) -> &mut [u8] {
        assert!((first..first + count).all(|buffer| !self.ring.is_posted(buffer)), "the device has a buffer");
        self.buffers.run(first, count)
    }

    /// Gives a buffer to the device, to read or write its first `len` bytes, which it may see at
    /// once, and does after [`Self::notify`].
    ///
    /// # Panics
    ///
    /// If the device has it already, there is no such buffer, or it is shorter.
    #[inline]
    pub(crate) fn post(&mut self, buffer: u16, len: usize) {
        assert!(len <= self.buffers.len(buffer), "longer than the buffer");
        self.ring.post(buffer, len as u32);
    }

    /// Gives a request to the device ([`Direction::Chained`]) as a chain of the descriptors from `head` on.
    ///
    /// # Panics
    ///
    /// If the device has it already, or there are not so many descriptors.
    pub(crate) fn post_chain(&mut self, head: u16, segments: impl ExactSizeIterator<Item = Segment>) {
        self.ring.post_chain(head, segments);
    }

    /// Tells the device about the buffers posted since the last time, if it wants to be told.
    /// True if that took a notification.
    #[inline]
    pub(crate) fn notify(&mut self) -> bool {
        let has_to = self.ring.announce(full_fence);
        if has_to {
            self.doorbell.ring();
        }
        has_to
    }

    /// True if the device has given back a buffer that [`Self::take`] did not yet answer.
    #[inline]
    pub(crate) fn has_completions(&self) -> bool {
        self.ring.has_completions()
    }

    /// Takes back a buffer, and the bytes that the device says it wrote, which are at most all of
    /// it.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Completion> {
        let completion = self.ring.take()?;
        Some(Completion { len: completion.len.min(self.buffers.bytes_each as u32), ..completion })
    }

    /// Takes back a request ([`Direction::Indirect`]), and the bytes that the device says it wrote to all its
    /// parts.
    #[inline]
    pub(crate) fn take_request(&mut self) -> Option<Completion> {
        self.ring.take()
    }

    /// Where a buffer lies, for the device.
    pub(crate) fn buffer_address(&self, buffer: u16) -> u64 {
        self.buffers.physical(buffer)
    }

    /// Asks for no interrupts. A hint: one may still come.
    #[inline]
    pub(crate) fn disable_interrupts(&mut self) {
        self.ring.disable_interrupts();
    }

    /// Asks for interrupts, and looks once more. If it answers true there is work that may not
    /// raise one: do it before sleeping.
    #[inline]
    #[must_use]
    pub(crate) fn enable_interrupts(&mut self) -> bool {
        self.ring.enable_interrupts(full_fence)
    }

    /// Nonsense that the device wrote into the used ring.
    pub(crate) fn bad_completions(&self) -> u64 {
        self.ring.bad_completions()
    }
}

/// Orders stores before loads, as a device on another core sees them. QEMU before 8.1 leaves the
/// guest's fences out when it emulates exactly one processor, although its devices run on another
/// of the host's; notifications got lost. Reading the time-stamp counter makes it take a lock,
/// which is a fence, for 10 ns; on silicon it costs a few.
#[inline]
fn full_fence() {
    fence(Ordering::SeqCst);
    time::tsc();
}

/// Allocates a ring's shared memory, for ever, and tells the device where it is.
fn allocate(link: &mut VirtioTransport, queue: u16, size: u16) -> Result<Shared, StartError> {
    let layout = Layout::new(size);
    let (shared, physical) = dma::ring(size).ok_or(StartError::OutOfMemory)?;
    let address = |at: usize| physical + at as u64;
    link.queue_set(queue, u32::from(size), address(0), address(layout.avail), address(layout.used));
    Ok(shared)
}

/// The buffers of a ring: small ones in one block, and perhaps large ones, each in a block of its own.
struct Buffers {
    small: Block,
    count: usize,
    bytes_each: usize,
    large: Vec<Option<Block>>,
}

impl Buffers {
    fn allocate(count: usize, large: usize, bytes_each: usize) -> Result<Self, StartError> {
        let bytes = count * bytes_each;
        let has_room = kmem::frames::can_devices_take(bytes.div_ceil(PAGE_BYTES));
        let small = if has_room { Block::alloc(bytes) } else { None };
        let small = small.ok_or(StartError::OutOfMemory)?;
        Ok(Self { small, count, bytes_each, large: (0..large).map(|_| None).collect() })
    }

    fn large(&self, buffer: u16) -> Option<&Block> {
        self.large.get(usize::from(buffer) - self.count)?.as_ref()
    }

    /// Where a buffer lies; 0 for a large one without memory.
    fn physical(&self, buffer: u16) -> u64 {
        if usize::from(buffer) < self.count {
            return self.small.physical() + (usize::from(buffer) * self.bytes_each) as u64;
        }
        self.large(buffer).map_or(0, |block| block.physical())
    }

    #[inline]
    fn len(&self, buffer: u16) -> usize {
        if usize::from(buffer) < self.count {
            return self.bytes_each;
        }
        self.large(buffer).map_or(0, Block::len)
    }

    #[inline]
    fn bytes(&mut self, buffer: u16) -> &mut [u8] {
        let index = usize::from(buffer);
        if index < self.count {
            return self.small.slice(index * self.bytes_each, self.bytes_each);
        }
        let block = self.large.get_mut(index - self.count).and_then(Option::as_mut);
        let block = block.expect("a large buffer that has its memory");
        block.slice(0, block.len())
    }

    #[inline]
    fn run(&mut self, first: u16, count: u16) -> &mut [u8] {
        self.small.slice(usize::from(first) * self.bytes_each, usize::from(count) * self.bytes_each)
    }
}
