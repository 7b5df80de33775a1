//! Arguments at random: numbers that mean something, sizes, addresses, paths, times, vectors.

use std::sync::atomic::Ordering::Relaxed;

use crate::worker::Worker;
use crate::world::{self, ARENA, ARENA_PAGES, PAGE, Sort, THREADS, WORLD};

/// More than a machine has, so that nothing takes all there is.
const HUGE: [u64; 7] = [0x7fff_ffff, 1 << 32, 1 << 40, 1 << 62, i64::MAX as u64, u64::MAX, u64::MAX - 4095];
const NAMES: [&str; 14] =
    ["a", "b", "c", "d", "e", "d/a", "d/b", "d/d", "d/d/a", "e/a", "e/b", "a/", "d/.", ""];
const SPECIAL: [&str; 14] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/urandom",
    "/proc/self/maps",
    "/proc/self/status",
    "/proc/self/stat",
    "/proc/meminfo",
    "/proc/net/tcp",
    "/proc/mounts",
    "/proc/self/task",
    "/proc/self/fd",
    "/dev/shm/fuzz",
    "/",
];

impl Worker {
    pub(crate) fn descriptor(&mut self) -> u64 {
        match self.random.below(40) {
            0 => u64::MAX,
            1 => 1000,
            2 => libc::AT_FDCWD as u64,
            at => WORLD.descriptor(at * 7 + self.random.below(48)),
        }
    }

    /// One of a sort, as a rule.
    pub(crate) fn descriptor_of(&mut self, sort: Sort) -> u64 {
        if self.one_in(16) {
            return self.descriptor();
        }
        WORLD.descriptor_of(sort, self.random.below(1 << 16))
    }

    pub(crate) fn any_thread(&mut self) -> u64 {
        WORLD.seats[self.random.below(THREADS)].thread.load(Relaxed) as u64
    }

    pub(crate) fn any_timer(&mut self) -> u64 {
        WORLD.timer(self.random.below(1 << 16)).load(Relaxed) as u64
    }

    /// A number as flags, commands and counts are.
    pub(crate) fn number(&mut self) -> u64 {
        match self.random.below(12) {
            0..3 => self.random.below(4) as u64,
            3..6 => self.random.below(64) as u64,
            6 => 1 << self.random.below(32),
            7 => (1 << self.random.below(24)) | (1 << self.random.below(24)),
            8 => u64::from(u32::MAX),
            9 => *self.random.pick(&HUGE),
            10 => self.random.below(1 << 16) as u64,
            _ => self.random.number() >> self.random.below(64),
        }
    }

    /// A length or a place in a file.
    pub(crate) fn size(&mut self) -> u64 {
        match self.random.below(32) {
            0 => *self.random.pick(&HUGE),
            1..8 => self.random.below(64) as u64,
            8..14 => PAGE * self.random.below(16) as u64,
            14..18 => PAGE * self.random.below(16) as u64 + self.random.below(3) as u64 + PAGE - 1,
            _ => self.random.below(1 << 16) as u64,
        }
    }

    /// What no program may use.
    pub(crate) fn bad_address(&mut self) -> u64 {
        *self.random.pick(&[
            1,
            0xffff_8000_0000_0000,
            0xffff_ffff_8000_0000,
            0x0000_8000_0000_0000,
            0x0000_7fff_ffff_f000,
            0x10_0000,
            u64::MAX - 7,
        ])
    }

    /// Memory that may be mapped, or a file, or nothing; also odd, and over the ends of pages.
    pub(crate) fn arena_address(&mut self) -> u64 {
        let offset = *self.random.pick(&[0, 0, 0, 8, 1, PAGE - 4, PAGE - 1, 2048]);
        self.arena_page() + offset
    }

    /// Most often near its beginning, so that mappings meet.
    pub(crate) fn arena_page(&mut self) -> u64 {
        let pages = if self.one_in(8) { ARENA_PAGES as usize - 64 } else { 48 };
        ARENA + PAGE * self.random.below(pages) as u64
    }

    /// A length of memory, in whole pages as a rule.
    pub(crate) fn span(&mut self) -> u64 {
        if self.one_in(16) {
            return *self.random.pick(&[0, 1, 4095, 4097, PAGE * 64]);
        }
        PAGE * (1 + self.random.below(24) as u64)
    }

    pub(crate) fn text(&mut self, text: &str) -> u64 {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize((text.len() + 1).next_multiple_of(8), 0);
        let words: Vec<u64> =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight"))).collect();
        self.put(&words)
    }

    pub(crate) fn path(&mut self) -> u64 {
        match self.random.below(24) {
            0 => return self.bad_address(),
            1 | 2 => {
                let special = *self.random.pick(&SPECIAL);
                return self.text(special);
            }
            3 => {
                let number = self.random.below(64);
                let folder = *self.random.pick(&["fd", "fdinfo", "task"]);
                return self.text(&format!("/proc/self/{folder}/{number}"));
            }
            4..8 => {
                let name = *self.random.pick(&NAMES);
                return self.text(name);
            }
            _ => {}
        }
        let folders = world::folders();
        let path = self.random.pick(&folders).join(self.random.pick(&NAMES));
        self.text(&path.to_string_lossy())
    }

    /// An interval and a value, both short: `timespec`, `itimerspec`.
    pub(crate) fn short_time(&mut self) -> u64 {
        let nanoseconds = |worker: &mut Self| match worker.random.below(8) {
            0 => worker.number(),
            1 => 0,
            _ => worker.random.below(2_000_000) as u64,
        };
        let (interval, value) = (nanoseconds(self), nanoseconds(self));
        let interval = if self.one_in(2) { 0 } else { interval.max(1_000_000) };
        if self.one_in(2) { self.put(&[0, value, 0, value]) } else { self.put(&[0, interval, 0, value]) }
    }

    /// A buffer and its length.
    pub(crate) fn buffer(&mut self) -> (u64, u64) {
        let limit = 1 << self.random.below(15);
        let len = self.random.below(limit) as u64;
        match self.random.below(8) {
            0 => (self.arena_address(), self.size()),
            1 => (self.arena_address(), len),
            2 if self.one_in(4) => (self.bad_address(), len),
            _ => (self.scratch(len), len),
        }
    }

    pub(crate) fn iovecs(&mut self, count: usize) -> u64 {
        let mut words = Vec::new();
        for _ in 0..count {
            let (address, len) = self.buffer();
            words.extend([address, len]);
        }
        self.put(&words)
    }
}
