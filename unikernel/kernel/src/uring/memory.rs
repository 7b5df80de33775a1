//! The memory of a ring, which the app maps: two queues of indices and entries, and the submission entries.
//!
//! ```text
//!   offset 0        head and tail of both queues, one cache line each; sizes and flags
//!   CQES            completion entries, 16 or 32 bytes each
//!   behind them     the submission queue's array of entry indices
//!   OFF_SQES        submission entries, 64 or 128 bytes each: pages of their own
//! ```
//!
//! The app may write all of it at any time. So every word is read once, checked, and never read again, and
//! entries are copied out before they are looked at.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::*;

use super::sqe::{SQE_BYTES, Sqe};
use crate::kmem::layout::PAGE_BYTES;
use crate::mem::shared::SharedFrame;
use crate::mem::space::{Description, PageSource, Supply};

const SQ_HEAD: u32 = 0;
const SQ_TAIL: u32 = 64;
const CQ_HEAD: u32 = 128;
const CQ_TAIL: u32 = 192;
const SQ_MASK: u32 = 256;
const SQ_ENTRIES: u32 = 260;
const SQ_FLAGS: u32 = 264;
const SQ_DROPPED: u32 = 268;
const CQ_MASK: u32 = 272;
const CQ_ENTRIES: u32 = 276;
const CQ_FLAGS: u32 = 280;
const CQ_OVERFLOW: u32 = 284;
const CQES: u32 = 320;
/// Bytes of a completion entry that we have something for; those behind them in a large one are zero.
const CQE_BYTES: usize = 16;

/// What the app gets for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    /// A result as system calls answer it.
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// There is no memory for the rings.
pub(super) struct OutOfMemory;

/// The frames.
pub(super) struct RingMemory {
    rings: Vec<SharedFrame>,
    entries: Vec<SharedFrame>,
    /// Submission entries; a power of two, as the next.
    pub(super) sq_entries: u32,
    /// Completion entries.
    pub(super) cq_entries: u32,
    has_array: bool,
    /// Bytes of a submission entry; of a large one only the first half is looked at, as no command here takes more.
    sqe_bytes: usize,
    /// Bytes of a completion entry.
    cqe_bytes: u32,
}

fn frames(bytes: usize) -> Result<Vec<SharedFrame>, OutOfMemory> {
    let mut frames = Vec::new();
    for _ in 0..bytes.div_ceil(PAGE_BYTES) {
        frames.try_reserve(1).map_err(|_| OutOfMemory)?;
        frames.push(SharedFrame::new_zeroed().ok_or(OutOfMemory)?);
    }
    Ok(frames)
}

impl RingMemory {
    /// The memory of a ring that is set up with `flags`.
    pub(super) fn new(sq_entries: u32, cq_entries: u32, flags: u32) -> Result<Self, OutOfMemory> {
        let has_array = flags & IORING_SETUP_NO_SQARRAY == 0;
        let sqe_bytes = if flags & IORING_SETUP_SQE128 != 0 { 2 * SQE_BYTES } else { SQE_BYTES };
        let cqe_bytes = if flags & IORING_SETUP_CQE32 != 0 { 2 * CQE_BYTES } else { CQE_BYTES } as u32;
        let array_bytes = if has_array { sq_entries as usize * 4 } else { 0 };
        let ring_bytes = (CQES + cq_entries * cqe_bytes) as usize + array_bytes;
        let (rings, entries) = (frames(ring_bytes)?, frames(sq_entries as usize * sqe_bytes)?);
        let memory = Self { rings, entries, sq_entries, cq_entries, has_array, sqe_bytes, cqe_bytes };
        let constants = [
            (SQ_MASK, sq_entries - 1),
            (SQ_ENTRIES, sq_entries),
            (CQ_MASK, cq_entries - 1),
            (CQ_ENTRIES, cq_entries),
        ];
        for (offset, value) in constants {
            memory.store(offset, value);
        }
        Ok(memory)
    }

    fn array(&self) -> u32 {
        CQES + self.cq_entries * self.cqe_bytes
    }

    /// Where the app finds the words (io_uring_setup(2), `sq_off` and `cq_off`).
    pub(super) fn describe(&self, params: &mut io_uring_params) {
        params.sq_entries = self.sq_entries;
        params.cq_entries = self.cq_entries;
        params.sq_off = io_sqring_offsets {
            head: SQ_HEAD,
            tail: SQ_TAIL,
            ring_mask: SQ_MASK,
            ring_entries: SQ_ENTRIES,
            flags: SQ_FLAGS,
            dropped: SQ_DROPPED,
            array: if self.has_array { self.array() } else { 0 },
            resv1: 0,
            user_addr: 0,
        };
        params.cq_off = io_cqring_offsets {
            head: CQ_HEAD,
            tail: CQ_TAIL,
            ring_mask: CQ_MASK,
            ring_entries: CQ_ENTRIES,
            overflow: CQ_OVERFLOW,
            cqes: CQES,
            flags: CQ_FLAGS,
            resv1: 0,
            user_addr: 0,
        };
    }

    fn frame(&self, offset: u32) -> (&SharedFrame, usize) {
        let offset = offset as usize;
        (&self.rings[offset / PAGE_BYTES], offset % PAGE_BYTES)
    }

    fn load(&self, offset: u32) -> u32 {
        let (frame, within) = self.frame(offset);
        frame.word(within).load(Ordering::Acquire)
    }

    fn store(&self, offset: u32, value: u32) {
        let (frame, within) = self.frame(offset);
        frame.word(within).store(value, Ordering::Release);
    }

    /// How many entries the app has put into the submission queue behind `head`.
    pub(super) fn submitted_behind(&self, head: u32) -> u32 {
        self.load(SQ_TAIL).wrapping_sub(head).min(self.sq_entries)
    }

    /// The entry at `head`; `None` if the app's index leads nowhere.
    pub(super) fn entry(&self, head: u32) -> Option<Sqe> {
        let place = head & (self.sq_entries - 1);
        let index = if self.has_array { self.load(self.array() + place * 4) } else { place };
        if index >= self.sq_entries {
            self.store(SQ_DROPPED, self.load(SQ_DROPPED).wrapping_add(1));
            return None;
        }
        let offset = index as usize * self.sqe_bytes;
        let mut bytes = [0; SQE_BYTES];
        self.entries[offset / PAGE_BYTES].read(offset % PAGE_BYTES, &mut bytes);
        Some(Sqe::parse(&bytes))
    }

    /// Tells the app how far its submissions were taken.
    pub(super) fn set_sq_head(&self, head: u32) {
        self.store(SQ_HEAD, head);
    }

    /// Completions that the app has not taken yet.
    pub(super) fn completions_behind(&self, tail: u32) -> u32 {
        tail.wrapping_sub(self.load(CQ_HEAD))
    }

    /// Puts a completion at `tail`; false if the queue is full.
    pub(super) fn complete(&self, tail: u32, cqe: Cqe) -> bool {
        if self.completions_behind(tail) >= self.cq_entries {
            return false;
        }
        let offset = CQES + (tail & (self.cq_entries - 1)) * self.cqe_bytes;
        let (frame, within) = self.frame(offset);
        let mut bytes = [0; 2 * CQE_BYTES];
        bytes[..8].copy_from_slice(&cqe.user_data.to_ne_bytes());
        bytes[8..12].copy_from_slice(&cqe.result.to_ne_bytes());
        bytes[12..CQE_BYTES].copy_from_slice(&cqe.flags.to_ne_bytes());
        frame.fill(within, &bytes[..self.cqe_bytes as usize]);
        self.store(CQ_TAIL, tail.wrapping_add(1));
        true
    }

    /// Tells the app that a completion was lost: there was room for it nowhere (Linux counts it as well).
    pub(super) fn count_lost(&self) {
        self.store(CQ_OVERFLOW, self.load(CQ_OVERFLOW).wrapping_add(1));
    }

    /// Tells the app whether completions wait for room in the queue.
    pub(super) fn set_overflow(&self, is_set: bool) {
        self.set_flag(IORING_SQ_CQ_OVERFLOW, is_set);
    }

    /// Tells the app whether it has to call for its submissions to be taken. What is read of the ring afterwards was
    /// written no earlier than the app could see it.
    pub(super) fn set_needs_wakeup(&self, is_set: bool) {
        self.set_flag(IORING_SQ_NEED_WAKEUP, is_set);
    }

    fn set_flag(&self, flag: u32, is_set: bool) {
        let (frame, within) = self.frame(SQ_FLAGS);
        let word = frame.word(within);
        if is_set {
            word.fetch_or(flag, Ordering::SeqCst)
        } else {
            word.fetch_and(!flag, Ordering::SeqCst)
        };
    }

    /// Whether the app wants no eventfd just now.
    pub(super) fn is_eventfd_off(&self) -> bool {
        self.load(CQ_FLAGS) & IORING_CQ_EVENTFD_DISABLED != 0
    }
}

impl PageSource for RingMemory {
    fn page(&self, index: u64) -> Supply {
        let offset = index * PAGE_BYTES as u64;
        let (frames, start) = match offset {
            _ if offset >= u64::from(IORING_OFF_SQES) => (&self.entries, IORING_OFF_SQES),
            // The two rings are one (IORING_FEAT_SINGLE_MMAP), but may be mapped as two.
            _ if offset >= u64::from(IORING_OFF_CQ_RING) => (&self.rings, IORING_OFF_CQ_RING),
            _ => (&self.rings, IORING_OFF_SQ_RING),
        };
        let frame = frames.get((offset - u64::from(start)) as usize / PAGE_BYTES);
        frame.cloned().map_or(Supply::None, Supply::Page)
    }

    fn describe(&self) -> Description {
        Description { name: String::from("anon_inode:[io_uring]"), device: 0, inode: 0 }
    }
}
