//! A queue of requests to a disk. A request has a *slot*: the buffer of the ring that holds its header, its
//! status byte and the table of its parts, and here the thread that waits for it.
//!
//! Who waits first looks for a moment, since a disk in the host's memory answers in less time than it takes
//! to halt and wake up; then it asks for an interrupt, looks once more, and sleeps. Whoever looks takes back
//! all that has been answered, for others too.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use arrayvec::ArrayVec;

use super::StartError;
use super::ring::{Direction, Ring, Segment};
use super::transport::VirtioTransport;
use crate::block::device::{Operation, Transfer};
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// Requests in flight on one queue at most.
const SLOTS: u16 = 128;
/// A slot's buffer: table, header, status byte.
const SLOT_BYTES: usize = 1024;
const HEADER_AT: usize = SLOT_BYTES - 32;
const HEADER_BYTES: usize = 16;
const STATUS_AT: usize = HEADER_AT + HEADER_BYTES;
/// Parts of a request that fit, besides header and status.
const MAX_SEGMENTS: usize = HEADER_AT / Segment::ENTRY_BYTES - 2;
/// Descriptors of a request to a device that takes no tables: header, status, and so few parts, so that a small queue
/// has room for some.
const CHAIN: u16 = 8;
/// The least: header, one part, status.
const SHORTEST_CHAIN: u16 = 3;
/// What a device writes when all went well (section 5.2.6).
const STATUS_OK: u8 = 0;
/// In the status byte until the device writes it.
const STATUS_NONE: u8 = 0xff;
/// How long to look for the answer before sleeping.
const LOOK_NS: u64 = 100_000;
/// Looks between two looks at the clock.
const LOOKS_AT_ONCE: u32 = 64;
/// A device that has not answered after this time will not.
const PATIENCE_NS: u64 = 60_000_000_000;

/// States of a slot.
const IDLE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const ANSWERED: u8 = 2;
const ABANDONED: u8 = 3;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// The device says that all went well, and how many bytes it wrote to memory; so many it should have.
    Done {
        /// As the device says.
        written: u32,
        /// With the status byte.
        expected: u32,
    },
    /// The device's status.
    Failed(u8),
    /// The device was reset.
    Reset,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { written, expected } => write!(f, "{written} of {expected} bytes came"),
            Self::Failed(1) => write!(f, "I/O error"),
            Self::Failed(2) => write!(f, "not supported"),
            Self::Failed(status) => write!(f, "status {status}"),
            Self::Reset => write!(f, "the device was reset"),
        }
    }
}

/// One request's place.
#[derive(Default)]
struct Slot {
    state: AtomicU8,
    status: AtomicU8,
    /// Bytes that the device wrote, and those that it should write.
    written: AtomicU32,
    expected: AtomicU32,
    waiters: WaitQueue,
}

struct Requests {
    ring: Ring,
    free: Vec<u16>,
}

/// A queue.
pub(crate) struct Queue {
    requests: SpinLock<Requests>,
    slots: Box<[Slot]>,
    /// Descriptors of a slot; its first is the number of its buffer. One if a request is a table.
    stride: u16,
    /// Threads that wait for a slot.
    room: WaitQueue,
}

impl Queue {
    /// Sets up queue `queue` of a device, which takes tables of descriptors (VIRTIO_F_INDIRECT_DESC) or does not.
    pub(crate) fn new(
        link: &mut VirtioTransport,
        queue: u16,
        takes_tables: bool,
    ) -> Result<Self, StartError> {
        let direction = if takes_tables { Direction::Indirect } else { Direction::Chained };
        let mut ring = Ring::new(link, queue, SLOTS, SLOT_BYTES, direction)?;
        ring.disable_interrupts();
        let stride = if takes_tables { 1 } else { CHAIN.min(ring.size()) };
        if !takes_tables && stride < SHORTEST_CHAIN {
            return Err(StartError::BadQueue(queue));
        }
        let count = ring.size() / stride;
        let slots = (0..count).map(|_| Slot::default()).collect();
        let free = (0..count).rev().collect();
        Ok(Self { requests: SpinLock::new(Requests { ring, free }), slots, stride, room: WaitQueue::new() })
    }

    /// Parts of a request at most.
    pub(crate) fn max_parts(&self) -> usize {
        if self.stride == 1 { MAX_SEGMENTS } else { usize::from(self.stride) - 2 }
    }

    /// Puts a request into the ring; the device may see it at once, and does after [`Self::notify`]. `None`
    /// if all slots are taken.
    pub(crate) fn submit(&self, operation: Operation, transfer: &Transfer) -> Option<u16> {
        let mut requests = self.requests.lock();
        let number = requests.free.pop()?;
        let slot = &self.slots[usize::from(number)];
        slot.state.store(IN_FLIGHT, Ordering::Relaxed);
        let reads = operation == Operation::Read;
        let expected = if reads { transfer.bytes() as u32 + 1 } else { 1 };
        slot.expected.store(expected, Ordering::Relaxed);
        let head = number * self.stride;
        let address = requests.ring.buffer_address(head);
        let buffer = requests.ring.buffer(head);
        let header = &mut buffer[HEADER_AT..][..HEADER_BYTES];
        header[..4].copy_from_slice(&code(operation).to_le_bytes());
        header[4..8].fill(0);
        header[8..].copy_from_slice(&transfer.sector.to_le_bytes());
        buffer[STATUS_AT] = STATUS_NONE;
        let part = |at: usize, len, is_written| Segment { address: address + at as u64, len, is_written };
        let mut segments = ArrayVec::<Segment, { MAX_SEGMENTS + 2 }>::new();
        segments.push(part(HEADER_AT, HEADER_BYTES as u32, false));
        segments.extend(transfer.parts.iter().map(|memory| Segment {
            address: memory.address,
            len: memory.len,
            is_written: reads,
        }));
        segments.push(part(STATUS_AT, 1, true));
        if self.stride == 1 {
            let table_bytes = Segment::write_table(segments.iter().copied(), buffer);
            requests.ring.post(head, table_bytes);
        } else {
            requests.ring.post_chain(head, segments.iter().copied());
        }
        Some(number)
    }

    /// Tells the device of what was submitted.
    pub(crate) fn notify(&self) {
        self.requests.lock().ring.notify();
    }

    /// Waits for a request's end and gives its slot back. `None` if the device does not answer; then the slot
    /// is still in flight.
    pub(crate) fn wait(&self, number: u16) -> Option<Status> {
        let slot = &self.slots[usize::from(number)];
        let is_over = || slot.state.load(Ordering::Acquire) != IN_FLIGHT;
        let start_ns = time::now_ns();
        let may_sleep = scheduler::can_block();
        while !self.look(is_over) {
            let waited_ns = time::now_ns() - start_ns;
            if waited_ns > PATIENCE_NS {
                return None;
            }
            if may_sleep && (waited_ns > LOOK_NS || scheduler::has_others_waiting()) {
                if self.ask_for_interrupt() {
                    continue;
                }
                let deadline_ns = start_ns + PATIENCE_NS;
                slot.waiters.wait_uninterrupted(Some(deadline_ns), || is_over().then_some(()))?;
            }
        }
        Some(self.release(number))
    }

    /// Looks for answers some times. Without `pause`, and with one look at the clock for all of them: QEMU takes its
    /// big lock for the one, and a spin lock for the other.
    fn look(&self, is_over: impl Fn() -> bool) -> bool {
        (0..LOOKS_AT_ONCE).any(|_| {
            self.take_answers();
            is_over()
        })
    }

    /// Sleeps until a slot may be free, or looks if it cannot sleep.
    pub(crate) fn wait_for_room(&self) {
        self.take_answers();
        if scheduler::can_block() && !self.ask_for_interrupt() {
            let has_room = || (!self.requests.lock().free.is_empty()).then_some(());
            let deadline_ns = time::now_ns() + PATIENCE_NS;
            let _ = self.room.wait_uninterrupted(Some(deadline_ns), has_room);
        }
    }

    /// From here on an interrupt tells of an answer. True if there is one already.
    fn ask_for_interrupt(&self) -> bool {
        self.requests.lock().ring.enable_interrupts()
    }

    fn release(&self, number: u16) -> Status {
        let slot = &self.slots[usize::from(number)];
        let status = match (slot.state.load(Ordering::Acquire), slot.status.load(Ordering::Relaxed)) {
            // The device may hold the slot for ever: nobody gets it again.
            (ABANDONED, _) => return Status::Reset,
            (_, STATUS_OK) => Status::Done {
                written: slot.written.load(Ordering::Relaxed),
                expected: slot.expected.load(Ordering::Relaxed),
            },
            (_, status) => Status::Failed(status),
        };
        slot.state.store(IDLE, Ordering::Relaxed);
        self.requests.lock().free.push(number);
        self.room.wake_one();
        status
    }

    /// Takes back what the device has answered and wakes who waits for it.
    fn take_answers(&self) {
        // Whoever holds the lock is about to look, or its holder will when it waits.
        let Some(mut requests) = self.requests.try_lock() else { return };
        while let Some(completion) = requests.ring.take_request() {
            // Only heads are posted, and only what was posted comes back.
            let slot = &self.slots[usize::from(completion.buffer / self.stride)];
            let status = requests.ring.buffer(completion.buffer)[STATUS_AT];
            slot.status.store(status, Ordering::Relaxed);
            slot.written.store(completion.len, Ordering::Relaxed);
            slot.state.store(ANSWERED, Ordering::Release);
            slot.waiters.wake_all();
        }
    }

    /// The device raised its interrupt. While requests are in flight it may raise more.
    pub(crate) fn interrupt(&self) {
        // Each round takes an answer, or the device lies: then the next interrupt is as good.
        for _ in 0..=self.slots.len() {
            let mut requests = self.requests.lock();
            requests.ring.disable_interrupts();
            drop(requests);
            self.take_answers();
            requests = self.requests.lock();
            let is_quiet = requests.free.len() == self.slots.len();
            if is_quiet || !requests.ring.enable_interrupts() {
                return;
            }
        }
    }

    /// The device was reset: all that is in flight has ended.
    pub(crate) fn abandon(&self) {
        for slot in &self.slots {
            let was_in_flight = slot
                .state
                .compare_exchange(IN_FLIGHT, ABANDONED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if was_in_flight {
                slot.waiters.wake_all();
            }
        }
        self.room.wake_all();
    }
}

/// The type of a request (section 5.2.6).
fn code(operation: Operation) -> u32 {
    match operation {
        Operation::Read => 0,
        Operation::Write => 1,
        Operation::Flush => 4,
        Operation::Discard => 11,
        Operation::WriteZeroes => 13,
    }
}
