//! A split virtqueue (Virtual I/O Device specification 1.2, section 2.7) for devices with fixed
//! buffers: descriptor `i` names buffer `i` for ever, so that posting a buffer is one store into
//! the available ring and taking one back is one load from the used ring. The general queue of the
//! `virtio-drivers` crate serves every shape of request and pays for it with about a hundred
//! instructions and two full fences a packet, because it links, copies and unlinks descriptors
//! each time; here it is about fifteen, and one fence a batch.
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
//! The fence is the caller's, because an emulator may need more than the instruction.
//!
//! With VIRTIO_F_EVENT_IDX (section 2.7.10) both words are positions instead of flags: "call when you pass this
//! one" ([`needs_event`]). The drawing is the same.
//!
//! The device is not trusted: whatever it writes, a buffer is never given out twice, no index
//! or length leaves its bounds, and no call looks at more elements than the ring has.

mod used;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

pub use used::Used;

/// Descriptor flag: the device writes the buffer.
const WRITE: u16 = 2;
/// Descriptor flag: the buffer is a table of descriptors (section 2.7.5.3).
const INDIRECT: u16 = 4;
/// Descriptor flag: the request goes on with the next descriptor.
const NEXT: u16 = 1;
/// `avail.flags`: no interrupts, please. `used.flags`: no notifications, please.
const NO_CALL: u16 = 1;

/// Who writes a ring's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device: incoming.
    ToDriver,
    /// The driver: outgoing.
    ToDevice,
    /// Neither: each buffer holds a table of the buffers of a request ([`Segment::write_table`]), for
    /// devices whose requests have several parts. The device has to know VIRTIO_F_INDIRECT_DESC.
    Indirect,
    /// The same for devices that do not: a request is a chain of descriptors ([`Ring::post_chain`]).
    Chained,
}

impl Direction {
    fn flags(self) -> u16 {
        match self {
            Self::ToDriver => WRITE,
            Self::ToDevice | Self::Chained => 0,
            Self::Indirect => INDIRECT,
        }
    }
}

/// One part of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it lies, for the device.
    pub address: u64,
    /// Its bytes.
    pub len: u32,
    /// True if the device writes it. Such parts come last (section 2.7.4.2).
    pub is_written: bool,
}

impl Segment {
    /// Bytes of a table's entry.
    pub const ENTRY_BYTES: usize = size_of::<Descriptor>();

    /// Writes the table of a request's parts, chained in order, and answers its length in bytes.
    ///
    /// # Panics
    ///
    /// If the table does not fit.
    pub fn write_table(segments: impl ExactSizeIterator<Item = Self>, table: &mut [u8]) -> usize {
        let count = segments.len();
        for (index, segment) in segments.enumerate() {
            let is_last = index + 1 == count;
            let flags = if is_last { 0 } else { NEXT } | if segment.is_written { WRITE } else { 0 };
            let entry = &mut table[index * Self::ENTRY_BYTES..][..Self::ENTRY_BYTES];
            entry[..8].copy_from_slice(&segment.address.to_le_bytes());
            entry[8..12].copy_from_slice(&segment.len.to_le_bytes());
            entry[12..14].copy_from_slice(&flags.to_le_bytes());
            entry[14..].copy_from_slice(&(if is_last { 0 } else { index as u16 + 1 }).to_le_bytes());
        }
        count * Self::ENTRY_BYTES
    }
}

/// Where a buffer is (section 2.7.5).
#[derive(Default, Debug)]
#[repr(C)]
pub struct Descriptor {
    address: AtomicU64,
    len: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

/// The memory that is shared with the device, all of it zeros at first. They are atomics because
/// the device writes at any time.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are called as in the specification")]
pub struct Shared {
    pub descriptors: &'static [Descriptor],
    pub avail_flags: &'static AtomicU16,
    pub avail_index: &'static AtomicU16,
    pub avail: &'static [AtomicU16],
    pub used_flags: &'static AtomicU16,
    pub used_index: &'static AtomicU16,
    pub used: &'static [Used],
    pub used_event: &'static AtomicU16,
    pub avail_event: &'static AtomicU16,
}

/// Where the parts of a ring lie in one block, as a legacy device wants them (section 2.7.2), which
/// suits a modern one too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Offset of the available ring; the descriptors lie at 0.
    pub avail: usize,
    /// Offset of the used ring.
    pub used: usize,
    /// Offset of the word behind the available ring: the used index that the driver waits for.
    pub used_event: usize,
    /// Offset of the word behind the used ring: the available index that the device waits for.
    pub avail_event: usize,
    /// Bytes in all.
    pub size_bytes: usize,
}

impl Layout {
    /// Where a legacy device expects the used ring: on the next page.
    const USED_ALIGN: usize = 4096;

    /// The layout of a ring of `size` elements.
    pub fn new(size: u16) -> Self {
        let entries = usize::from(size);
        let avail = entries * size_of::<Descriptor>();
        // Flags, index and the ring, then the event index.
        let used_event = avail + size_of::<u16>() * (2 + entries);
        let used = (used_event + size_of::<u16>()).next_multiple_of(Self::USED_ALIGN);
        let avail_event = used + size_of::<u16>() * 2 + entries * size_of::<Used>();
        let size_bytes = avail_event + size_of::<u16>();
        Self { avail, used, used_event, avail_event, size_bytes }
    }
}

/// A queue.
#[derive(Debug)]
pub struct Ring {
    shared: Shared,
    mask: u16,
    /// Available index: where the next buffer goes, and up to where the device was told to look.
    next_avail: u16,
    announced: u16,
    next_used: u16,
    /// VIRTIO_F_EVENT_IDX was agreed on.
    has_event_index: bool,
    /// Which buffers the device has. It may claim to give back others.
    is_posted: Box<[bool]>,
    bad_completions: u64,
}

/// True if an index that moves from `old` to `new` passes `event`, so that whoever waits for it is to be called
/// (section 2.7.10.1). Indices wrap around.
#[inline]
pub fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A buffer that the device gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Which one.
    pub buffer: u16,
    /// How many bytes the device says that it wrote.
    pub len: u32,
}

impl Ring {
    /// Makes a ring over `shared`, whose slices have the same length, a power of two. Buffer `i`
    /// is at `address(i)` for the device. The device has none of them yet.
    ///
    /// # Panics
    ///
    /// If the lengths are not as said.
    pub fn new(shared: Shared, direction: Direction, address: impl Fn(u16) -> u64) -> Self {
        let size = shared.descriptors.len();
        assert!(size.is_power_of_two() && size <= 1 << 15, "no size for a ring");
        assert!(shared.avail.len() == size && shared.used.len() == size, "rings of one size");
        let flags = direction.flags();
        for (index, descriptor) in shared.descriptors.iter().enumerate() {
            descriptor.address.store(address(index as u16), Ordering::Relaxed);
            descriptor.flags.store(flags, Ordering::Relaxed);
        }
        Self {
            shared,
            mask: (size - 1) as u16,
            next_avail: 0,
            announced: 0,
            next_used: 0,
            has_event_index: false,
            is_posted: alloc::vec![false; size].into_boxed_slice(),
            bad_completions: 0,
        }
    }

    /// The device waits for indices rather than flags: VIRTIO_F_EVENT_IDX was agreed on. Call before the device
    /// has any buffer.
    pub fn use_event_index(&mut self) {
        self.has_event_index = true;
        self.disable_interrupts();
    }

    /// Says where buffer `buffer` is for the device from now on.
    ///
    /// # Panics
    ///
    /// If the device has it, or there is no such buffer.
    pub fn set_address(&mut self, buffer: u16, address: u64) {
        assert!(!self.is_posted(buffer), "the device has this buffer");
        self.shared.descriptors[usize::from(buffer)].address.store(address, Ordering::Relaxed);
    }

    /// How many buffers there are.
    #[inline]
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// True if the device has the buffer.
    ///
    /// # Panics
    ///
    /// If there is no such buffer.
    #[inline]
    pub fn is_posted(&self, buffer: u16) -> bool {
        self.is_posted[usize::from(buffer)]
    }

    /// Gives a buffer to the device, to read or write its first `len` bytes. The device may see
    /// it at once, and does after [`Self::announce`].
    ///
    /// # Panics
    ///
    /// If the device has it already, or there is no such buffer.
    #[inline]
    pub fn post(&mut self, buffer: u16, len: u32) {
        let is_posted = &mut self.is_posted[usize::from(buffer)];
        assert!(!*is_posted, "the device has this buffer");
        *is_posted = true;
        self.shared.descriptors[usize::from(buffer)].len.store(len, Ordering::Relaxed);
        self.make_available(buffer);
    }

    /// Gives a request to the device: its parts, in the descriptors from `head` on, which the caller has set apart
    /// for it. It comes back under the number of its head.
    ///
    /// # Panics
    ///
    /// If the device has it already, or there are not so many descriptors, or it has no parts.
    pub fn post_chain(&mut self, head: u16, segments: impl ExactSizeIterator<Item = Segment>) {
        let count = segments.len();
        let chain = &self.shared.descriptors[usize::from(head)..][..count];
        assert!(count > 0, "a request without parts");
        let is_posted = &mut self.is_posted[usize::from(head)];
        assert!(!*is_posted, "the device has this request");
        *is_posted = true;
        for ((descriptor, segment), next) in chain.iter().zip(segments).zip(head + 1..) {
            let is_last = usize::from(next - head) == count;
            let flags = if is_last { 0 } else { NEXT } | if segment.is_written { WRITE } else { 0 };
            descriptor.address.store(segment.address, Ordering::Relaxed);
            descriptor.len.store(segment.len, Ordering::Relaxed);
            descriptor.flags.store(flags, Ordering::Relaxed);
            descriptor.next.store(if is_last { 0 } else { next }, Ordering::Relaxed);
        }
        self.make_available(head);
    }

    #[inline]
    fn make_available(&mut self, head: u16) {
        self.shared.avail[usize::from(self.next_avail & self.mask)].store(head, Ordering::Relaxed);
        self.next_avail = self.next_avail.wrapping_add(1);
        // After the entry and the buffer's contents.
        self.shared.avail_index.store(self.next_avail, Ordering::Release);
    }

    /// True if buffers were posted since the last time and the device wants to be notified of
    /// them, which the caller must then do. `full_fence` orders stores before loads.
    #[inline]
    #[must_use]
    pub fn announce(&mut self, full_fence: impl FnOnce()) -> bool {
        if self.announced == self.next_avail {
            return false;
        }
        let told = core::mem::replace(&mut self.announced, self.next_avail);
        // See the drawing above.
        full_fence();
        if self.has_event_index {
            needs_event(self.shared.avail_event.load(Ordering::Relaxed), self.next_avail, told)
        } else {
            self.shared.used_flags.load(Ordering::Relaxed) & NO_CALL == 0
        }
    }

    /// True if the device has given back a buffer that [`Self::take`] did not yet answer.
    #[inline]
    pub fn has_completions(&self) -> bool {
        self.shared.used_index.load(Ordering::Acquire) != self.next_used
    }

    /// Takes back a buffer.
    #[inline]
    pub fn take(&mut self) -> Option<Completion> {
        self.take_element()?.or_else(|| self.take_after_nonsense())
    }

    #[cold]
    fn take_after_nonsense(&mut self) -> Option<Completion> {
        // A device that goes on writing nonsense is not listened to for ever.
        (1..self.size()).map_while(|_| self.take_element()).find_map(|taken| taken)
    }

    /// Looks at an element of the used ring, if there is one. The inner answer is none if it is nonsense.
    #[inline]
    fn take_element(&mut self) -> Option<Option<Completion>> {
        let given_back = self.shared.used_index.load(Ordering::Acquire).wrapping_sub(self.next_used);
        if given_back == 0 {
            return None;
        }
        if given_back > self.size() {
            // More than all buffers cannot have come back: the index is nonsense, and what lies behind it is as well.
            self.next_used = self.next_used.wrapping_add(given_back);
            self.bad_completions += u64::from(given_back);
            return None;
        }
        let used = &self.shared.used[usize::from(self.next_used & self.mask)];
        self.next_used = self.next_used.wrapping_add(1);
        let (id, len) = used.read();
        // Only a buffer that the device has can come back.
        let Some(is_posted) = self.is_posted.get_mut(id as usize).filter(|posted| **posted) else {
            self.bad_completions += 1;
            return Some(None);
        };
        *is_posted = false;
        Some(Some(Completion { buffer: id as u16, len }))
    }

    /// Asks for no interrupts. A hint: one may still come.
    #[inline]
    pub fn disable_interrupts(&mut self) {
        if self.has_event_index {
            // Passed already: the device comes by again after 65,536 more, when an interrupt does no harm.
            self.shared.used_event.store(self.next_used.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.shared.avail_flags.store(NO_CALL, Ordering::Relaxed);
        }
    }

    /// Asks for interrupts, and looks once more. If it answers true there is work that may not
    /// raise one: do it before sleeping. `full_fence` orders stores before loads.
    #[inline]
    #[must_use]
    pub fn enable_interrupts(&mut self, full_fence: impl FnOnce()) -> bool {
        if self.has_event_index {
            self.shared.used_event.store(self.next_used, Ordering::Relaxed);
        } else {
            self.shared.avail_flags.store(0, Ordering::Relaxed);
        }
        full_fence();
        self.has_completions()
    }

    /// Nonsense that the device wrote into the used ring.
    pub fn bad_completions(&self) -> u64 {
        self.bad_completions
    }
}

#[cfg(test)]
mod tests;
