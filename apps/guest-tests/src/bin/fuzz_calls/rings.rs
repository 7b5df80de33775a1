//! io_uring(7) by hand: the rings' memory holds what it happens to hold.

use guest_tests::raw_syscall;

use crate::touch::{load, store};
use crate::worker::Worker;
use crate::world::{ARENA, ARENA_PAGES, PAGE, THREADS};

/// Operations that this kernel knows, and some that nobody does.
const OPERATIONS: usize = 64;
/// Each thread has a ring at a place of its own, at the arena's end.
const RING_PAGES: u64 = 4;
const SQ_OFFSET: u64 = 0;
const SQES_OFFSET: u64 = 0x1000_0000;
const ENTRIES: u64 = 16;

/// Where `io_uring_params` has the offsets of the submission ring.
const SQ_OFF_WORD: usize = 10;

fn place(index: usize) -> u64 {
    ARENA + (ARENA_PAGES - (THREADS - index) as u64 * RING_PAGES) * PAGE
}

impl Worker {
    pub(crate) fn ring(&mut self) {
        if self.one_in(8) || self.ring_fd() == 0 {
            return self.make_ring();
        }
        let count = 1 + self.random.below(4) as u32;
        let at = place(self.index);
        // The last page of a ring's place keeps its number and offsets.
        let notes = at + 3 * PAGE;
        let (Some(fd), Some(tail_at), Some(array_at)) = (load(notes), load(notes + 4), load(notes + 8))
        else {
            return;
        };
        let (tail_at, array_at) =
            (at + u64::from(tail_at) % (2 * PAGE), at + u64::from(array_at) % (2 * PAGE));
        let Some(tail) = load(tail_at) else { return };
        for offset in 0..count {
            let slot = u64::from(tail.wrapping_add(offset)) % ENTRIES;
            self.write_entry(at + 2 * PAGE + slot * 64);
            store(array_at + 4 * slot, if self.one_in(32) { u32::MAX } else { slot as u32 });
        }
        store(tail_at, tail.wrapping_add(count));
        let (wait, flags) = (self.random.below(3) as u64, *self.random.pick(&[0, 1, 1, 1, 9]));
        if flags == 9 {
            let time = self.short_time();
            let argument = self.put(&[0, 8, time]);
            self.call(libc::SYS_io_uring_enter, [fd.into(), count.into(), wait, flags, argument, 24]);
        } else {
            self.call(libc::SYS_io_uring_enter, [fd.into(), count.into(), wait, flags, 0, 0]);
        }
        self.reap(at, notes);
    }

    fn ring_fd(&self) -> u32 {
        load(place(self.index) + 3 * PAGE).unwrap_or(0)
    }

    fn make_ring(&mut self) {
        let at = place(self.index);
        let flags = *self.random.pick(&[0, 0, 1 << 8, 1 << 12 | 1 << 13, 1 << 3]);
        let mut parameters = [0; 15];
        parameters[1] = flags;
        let parameters = self.put(&parameters);
        let fd = self.call(libc::SYS_io_uring_setup, [ENTRIES, parameters, 0, 0, 0, 0]);
        if fd < 0 {
            return;
        }
        let old = self.ring_fd();
        let (protection, fixed) = (3, (libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE) as u64);
        self.call(libc::SYS_mmap, [at, 2 * PAGE, protection, fixed, fd as u64, SQ_OFFSET]);
        self.call(libc::SYS_mmap, [at + 2 * PAGE, PAGE, protection, fixed, fd as u64, SQES_OFFSET]);
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
        raw_syscall(libc::SYS_mmap, [at + 3 * PAGE, PAGE, protection, anonymous, u64::MAX, 0]);
        let word = |index: usize| load(parameters + 4 * index as u64).unwrap_or(0);
        // Tail and array of the one ring; head and tail of the other.
        let notes = [fd as u32, word(SQ_OFF_WORD + 1), word(SQ_OFF_WORD + 6), word(20), word(21)];
        for (index, note) in notes.into_iter().enumerate() {
            store(at + 3 * PAGE + 4 * index as u64, note);
        }
        if old > 2 {
            self.call(libc::SYS_close, [old.into(), 0, 0, 0, 0, 0]);
        }
    }

    fn write_entry(&mut self, entry: u64) {
        let operation = self.random.below(OPERATIONS) as u32;
        let flags = if self.one_in(3) { self.random.below(64) as u32 } else { 0 };
        let (address, len) = match self.random.below(6) {
            0 => (self.short_time(), 1),
            1 => (self.iovecs(4), 4),
            2 => (self.message(), 1),
            3 => (self.path(), 0o644),
            _ => self.buffer(),
        };
        let offset = if self.one_in(2) { u64::MAX } else { self.size() };
        let (word, user_data) = (self.number(), self.random.below(64) as u64);
        let words = [
            operation | flags << 8 | (self.random.below(8) as u32) << 16,
            self.descriptor() as u32,
            offset as u32,
            (offset >> 32) as u32,
            address as u32,
            (address >> 32) as u32,
            len as u32,
            if self.one_in(2) { 0 } else { word as u32 },
            user_data as u32,
            0,
            if self.one_in(4) { self.random.below(4) as u32 } else { 0 },
            if self.one_in(4) { self.number() as u32 } else { 0 },
        ];
        for (index, word) in words.into_iter().enumerate() {
            store(entry + 4 * index as u64, word);
        }
    }

    /// Takes the completions, without looking at them.
    fn reap(&mut self, at: u64, notes: u64) {
        let (Some(head), Some(tail)) = (load(notes + 12), load(notes + 16)) else { return };
        if let (Some(tail), false) = (load(at + u64::from(tail) % (2 * PAGE)), self.one_in(4)) {
            store(at + u64::from(head) % (2 * PAGE), tail);
        }
    }
}
