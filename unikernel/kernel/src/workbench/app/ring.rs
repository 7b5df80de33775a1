//! io_uring(7): rings that the app maps, entries in, completions out.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use linux_raw_sys::io_uring::{
    IORING_ENTER_GETEVENTS, IORING_OFF_CQ_RING, IORING_OFF_SQ_RING, IORING_OFF_SQES, io_uring_op,
};

use super::files::{Buffer, int};
use super::run::{Answer, sys};
use super::word;
use unikernel_hal::sim::app;

/// A submission entry; the names are of the fields' first use (`struct io_uring_sqe`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sqe {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) ioprio: u16,
    pub(crate) fd: i32,
    pub(crate) off: u64,
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) op_flags: u32,
    pub(crate) user_data: u64,
    pub(crate) buf: u16,
    pub(crate) file_index: u32,
    pub(crate) addr3: u64,
}

impl Sqe {
    pub(crate) fn new(operation: io_uring_op) -> Self {
        Self { opcode: operation as u8, ..Self::default() }
    }

    /// An operation on a file with memory: read, write, send, receive.
    pub(crate) fn on(operation: io_uring_op, fd: u64, addr: u64, len: u64) -> Self {
        Self { fd: fd as i32, addr, len: len as u32, ..Self::new(operation) }
    }

    pub(crate) fn data(self, user_data: u64) -> Self {
        Self { user_data, ..self }
    }

    /// Adds `IOSQE_*`, by the number of its bit.
    pub(crate) fn flag(self, bit: linux_raw_sys::io_uring::io_uring_sqe_flags_bit) -> Self {
        Self { flags: self.flags | 1 << bit as u8, ..self }
    }

    pub(crate) fn off(self, off: u64) -> Self {
        Self { off, ..self }
    }

    pub(crate) fn op_flags(self, op_flags: u32) -> Self {
        Self { op_flags, ..self }
    }

    pub(crate) fn ioprio(self, ioprio: u32) -> Self {
        Self { ioprio: ioprio as u16, ..self }
    }

    pub(crate) fn group(self, buf: u16) -> Self {
        Self { buf, ..self }
    }

    pub(crate) fn file_index(self, file_index: u32) -> Self {
        Self { file_index, ..self }
    }

    pub(crate) fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        (bytes[0], bytes[1]) = (self.opcode, self.flags);
        bytes[2..4].copy_from_slice(&self.ioprio.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.off.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.addr.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_ne_bytes());
        bytes[28..32].copy_from_slice(&self.op_flags.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.user_data.to_ne_bytes());
        bytes[40..42].copy_from_slice(&self.buf.to_ne_bytes());
        bytes[44..48].copy_from_slice(&self.file_index.to_ne_bytes());
        bytes[48..56].copy_from_slice(&self.addr3.to_ne_bytes());
        bytes
    }
}

/// A completion: the data of the entry, its result, flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    pub(crate) data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// Where words lie in the rings, as `struct io_uring_params` says.
#[derive(Clone, Copy)]
struct Offsets {
    head: u64,
    tail: u64,
    mask: u64,
    flags: u64,
    /// The array of indices, or of completions.
    array: u64,
    overflow: u64,
}

/// A ring.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(crate) fd: u64,
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) features: u32,
    sqes: u64,
    sq: Offsets,
    cq: Offsets,
}

pub(crate) const PARAMS_BYTES: usize = 120;

impl Ring {
    pub(crate) fn new(entries: u32) -> Self {
        Self::with(entries, 0, 0, 0).expect("a ring")
    }

    /// io_uring_setup(2), and the ring mapped.
    pub(crate) fn with(entries: u32, flags: u32, cq_entries: u32, idle_ms: u32) -> Answer<Self> {
        let mut bytes = [0; PARAMS_BYTES];
        bytes[4..8].copy_from_slice(&cq_entries.to_ne_bytes());
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes[16..20].copy_from_slice(&idle_ms.to_ne_bytes());
        let params = Buffer::new(&bytes);
        let fd = sys(linux::__NR_io_uring_setup, &[entries.into(), params.address])?;
        let bytes = params.bytes(PARAMS_BYTES);
        let half = |at: usize| int(&bytes[at..]) as u32;
        let (sq_entries, cq_entries) = (half(0), half(4));
        let sq_bytes = half(40 + 24) + sq_entries * 4;
        let cq_bytes = half(80 + 20) + cq_entries * 16;
        let sq_ring = map_ring(fd, sq_bytes, IORING_OFF_SQ_RING);
        let cq_ring = map_ring(fd, cq_bytes, IORING_OFF_CQ_RING);
        let sqes = map_ring(fd, sq_entries * 64, IORING_OFF_SQES);
        let at = |ring: u64, at: usize| ring + u64::from(half(at));
        let sq = Offsets {
            head: at(sq_ring, 40),
            tail: at(sq_ring, 44),
            mask: at(sq_ring, 48),
            flags: at(sq_ring, 56),
            overflow: at(sq_ring, 60),
            array: at(sq_ring, 64),
        };
        let cq = Offsets {
            head: at(cq_ring, 80),
            tail: at(cq_ring, 84),
            mask: at(cq_ring, 88),
            overflow: at(cq_ring, 96),
            array: at(cq_ring, 100),
            flags: at(cq_ring, 104),
        };
        Ok(Self { fd, sq_entries, cq_entries, features: half(20), sqes, sq, cq })
    }

    /// Puts an entry into the queue.
    pub(crate) fn push(&self, sqe: Sqe) {
        let tail = word(self.sq.tail);
        assert!(tail.wrapping_sub(word(self.sq.head)) < self.sq_entries, "the queue is full");
        let index = tail & word(self.sq.mask);
        app::write(self.sqes + u64::from(index) * 64, &sqe.bytes());
        app::write(self.sq.array + u64::from(index) * 4, &index.to_ne_bytes());
        app::write(self.sq.tail, &tail.wrapping_add(1).to_ne_bytes());
    }

    /// Entries that wait to be submitted.
    pub(crate) fn waiting(&self) -> u32 {
        word(self.sq.tail).wrapping_sub(word(self.sq.head))
    }

    pub(crate) fn sq_flags(&self) -> u32 {
        word(self.sq.flags)
    }

    /// Entries that were no entries.
    pub(crate) fn dropped(&self) -> u32 {
        word(self.sq.overflow)
    }

    pub(crate) fn overflow(&self) -> u32 {
        word(self.cq.overflow)
    }

    /// Sets `IORING_CQ_*`.
    pub(crate) fn set_cq_flags(&self, flags: u32) {
        app::write(self.cq.flags, &flags.to_ne_bytes());
    }

    /// Puts an index into the queue that is none.
    pub(crate) fn push_index(&self, index: u32) {
        let tail = word(self.sq.tail);
        let place = tail & word(self.sq.mask);
        app::write(self.sq.array + u64::from(place) * 4, &index.to_ne_bytes());
        app::write(self.sq.tail, &tail.wrapping_add(1).to_ne_bytes());
    }

    /// io_uring_enter(2).
    pub(crate) fn enter(&self, to_submit: u32, at_least: u32, flags: u32) -> Answer {
        let arguments = [self.fd, to_submit.into(), at_least.into(), flags.into(), 0, 0];
        sys(linux::__NR_io_uring_enter, &arguments)
    }

    /// Submits what waits.
    pub(crate) fn submit(&self) -> Answer {
        self.enter(self.waiting(), 0, 0)
    }

    /// The next completion, if there is one.
    pub(crate) fn next(&self) -> Option<Cqe> {
        let head = word(self.cq.head);
        if head == word(self.cq.tail) {
            return None;
        }
        let at = self.cq.array + u64::from(head & word(self.cq.mask)) * 16;
        let (low, high) = (word(at), word(at + 4));
        let data = u64::from(low) | u64::from(high) << 32;
        let cqe = Cqe { data, result: word(at + 8) as i32, flags: word(at + 12) };
        app::write(self.cq.head, &head.wrapping_add(1).to_ne_bytes());
        Some(cqe)
    }

    /// Submits what waits, and waits for so many completions.
    pub(crate) fn complete(&self, count: usize) -> Vec<Cqe> {
        let mut all = Vec::new();
        loop {
            all.extend(core::iter::from_fn(|| self.next()));
            if all.len() >= count {
                break;
            }
            self.enter(self.waiting(), 1, IORING_ENTER_GETEVENTS).expect("completions");
        }
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    /// The same as pairs of data and result, sorted.
    pub(crate) fn results(&self, count: usize) -> Vec<(u64, i32)> {
        let mut all: Vec<_> = self.complete(count).into_iter().map(|cqe| (cqe.data, cqe.result)).collect();
        all.sort_unstable();
        all
    }

    /// Submits one entry; answers its result.
    pub(crate) fn one(&self, sqe: Sqe) -> i32 {
        self.push(sqe);
        self.complete(1)[0].result
    }

    /// io_uring_register(2).
    pub(crate) fn register(&self, operation: u32, argument: &[u8], count: u32) -> Answer {
        let buffer = Buffer::new(argument);
        let pointer = if argument.is_empty() { 0 } else { buffer.address };
        sys(linux::__NR_io_uring_register, &[self.fd, operation.into(), pointer, count.into()])
    }
}

fn map_ring(fd: u64, len: u32, offset: u32) -> u64 {
    let protection = linux::PROT_READ | linux::PROT_WRITE;
    let flags = linux::MAP_SHARED | linux::MAP_POPULATE;
    let arguments = [0, len.into(), protection.into(), flags.into(), fd, offset.into()];
    sys(linux::__NR_mmap, &arguments).expect("the ring")
}
