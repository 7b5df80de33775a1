//! What calls leave behind and other calls meet: descriptors, memory, timers, names; shared by all threads.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use guest_tests::raw_syscall;

pub(crate) const PAGE: u64 = 4096;
/// Threads at most: those of a round, and short ones that they start.
pub(crate) const THREADS: usize = 8;
/// Where calls map, unmap and protect: nothing else of the program lies here.
pub(crate) const ARENA: u64 = 0x10_0000_0000;
pub(crate) const ARENA_PAGES: u64 = 1024;
/// Each thread's structures and buffers, which stay mapped. Behind them is nothing.
pub(crate) const SCRATCH: u64 = 0x20_0000_0000;
pub(crate) const SCRATCH_PAGES: u64 = 32;
/// Each thread's second stack for signals.
const STACKS: u64 = 0x30_0000_0000;
pub(crate) const STACK_LEN: u64 = 128 << 10;
/// Signals that are sent at random; `SIGUSR1` ends waits and is nobody else's.
pub(crate) const SIGNALS: [i32; 8] =
    [libc::SIGUSR2, libc::SIGALRM, libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD, 40, 41, 64];

/// What a descriptor is. Each kind has its own slots, so that most calls meet what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    File,
    Stream,
    Datagram,
    Pipe,
    Epoll,
    Counter,
    Inotify,
    Queue,
    Folder,
}

/// All of them.
pub(crate) const SORTS: [Sort; 9] = [
    Sort::File,
    Sort::Stream,
    Sort::Datagram,
    Sort::Pipe,
    Sort::Epoll,
    Sort::Counter,
    Sort::Inotify,
    Sort::Queue,
    Sort::Folder,
];

const SLOTS_EACH: usize = 6;
const DESCRIPTORS: usize = SORTS.len() * SLOTS_EACH;
const TIMERS: usize = 8;
const CALLS_KEPT: usize = 12;

/// A call that was made.
struct Record {
    number: AtomicU64,
    arguments: [AtomicU64; 6],
    result: AtomicU64,
}

/// One thread, as the watchdog and the other threads see it.
pub(crate) struct Seat {
    /// 0 if nobody sits here.
    pub(crate) thread: AtomicI32,
    /// Calls begun and ended.
    pub(crate) progress: AtomicU64,
    records: [Record; CALLS_KEPT],
}

/// What all threads share.
pub(crate) struct World {
    descriptors: [AtomicI32; DESCRIPTORS],
    timers: [AtomicI32; TIMERS],
    pub(crate) seats: [Seat; THREADS],
}

pub(crate) static WORLD: World = World {
    descriptors: [const { AtomicI32::new(-1) }; DESCRIPTORS],
    timers: [const { AtomicI32::new(-1) }; TIMERS],
    seats: [const {
        Seat {
            thread: AtomicI32::new(0),
            progress: AtomicU64::new(0),
            records: [const {
                Record {
                    number: AtomicU64::new(u64::MAX),
                    arguments: [const { AtomicU64::new(0) }; 6],
                    result: AtomicU64::new(0),
                }
            }; CALLS_KEPT],
        }
    }; THREADS],
};

/// The folders in which calls make files: in memory, and on the disk if there is one.
pub(crate) fn folders() -> Vec<PathBuf> {
    let disk = std::env::var_os("DATA").map(PathBuf::from);
    disk.into_iter().chain([std::env::temp_dir()]).map(|place| place.join("fuzz")).collect()
}

/// Scratch memory of a thread.
pub(crate) fn scratch(seat: usize) -> u64 {
    SCRATCH + seat as u64 * (SCRATCH_PAGES + 1) * PAGE
}

/// The second stack of a thread.
pub(crate) fn signal_stack(seat: usize) -> u64 {
    STACKS + seat as u64 * STACK_LEN
}

/// Gives the calling thread a second stack that holds all signals at once, which that of `std` does not.
pub(crate) fn use_signal_stack(seat: usize) {
    let stack = [signal_stack(seat), 0, STACK_LEN];
    raw_syscall(libc::SYS_sigaltstack, [stack.as_ptr() as u64, 0, 0, 0, 0, 0]);
}

/// Maps what stays mapped.
pub(crate) fn prepare() {
    for seat in 0..THREADS {
        map(scratch(seat), SCRATCH_PAGES * PAGE, libc::PROT_READ | libc::PROT_WRITE);
    }
    map(STACKS, (THREADS + 1) as u64 * STACK_LEN, libc::PROT_READ | libc::PROT_WRITE);
}

fn map(address: u64, len: u64, protection: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let arguments = [address, len, protection as u64, flags as u64, u64::MAX, 0];
    assert_eq!(raw_syscall(libc::SYS_mmap, arguments), address as i64, "memory for the test itself");
}

impl World {
    /// Empties it for the next round.
    pub(crate) fn renew(&self) {
        for id in 0..256 {
            raw_syscall(libc::SYS_timer_delete, [id, 0, 0, 0, 0, 0]);
        }
        raw_syscall(libc::SYS_setitimer, [0, 0, 0, 0, 0, 0]);
        raw_syscall(libc::SYS_close_range, [3, u64::from(u32::MAX), 0, 0, 0, 0]);
        raw_syscall(libc::SYS_munlockall, [0; 6]);
        raw_syscall(libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]);
        self.descriptors.iter().chain(&self.timers).for_each(|slot| slot.store(-1, Relaxed));
        raw_syscall(libc::SYS_munmap, [ARENA, ARENA_PAGES * PAGE, 0, 0, 0, 0]);
        map(ARENA, 64 * PAGE, libc::PROT_READ | libc::PROT_WRITE);
        std::env::set_current_dir("/").expect("there is a root");
        for folder in folders() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(folder.join("d")).expect("it can be made");
            fs::write(folder.join("a"), [7; 10_000]).expect("there is room again");
        }
    }

    /// A descriptor's number, which may be closed by now.
    pub(crate) fn descriptor(&self, at: usize) -> u64 {
        self.descriptors[at % DESCRIPTORS].load(Relaxed) as u64
    }

    /// The same, of some sort.
    pub(crate) fn descriptor_of(&self, sort: Sort, at: usize) -> u64 {
        self.descriptor(slot(sort, at))
    }

    /// Keeps a new descriptor; what was in its slot is to be closed.
    pub(crate) fn keep_descriptor(&self, sort: Sort, at: usize, fd: i32) -> Option<i32> {
        let old = self.descriptors[slot(sort, at)].swap(fd, Relaxed);
        (old > 2 && old != fd).then_some(old)
    }

    pub(crate) fn timer(&self, at: usize) -> &AtomicI32 {
        &self.timers[at % TIMERS]
    }
}

fn slot(sort: Sort, at: usize) -> usize {
    sort as usize * SLOTS_EACH + at % SLOTS_EACH
}

impl Seat {
    /// Notes a call that is about to be made.
    pub(crate) fn begin(&self, number: i64, arguments: &[u64; 6]) {
        let record = &self.records[(self.progress.load(Relaxed) / 2) as usize % CALLS_KEPT];
        record.number.store(number as u64, Relaxed);
        record.arguments.iter().zip(arguments).for_each(|(kept, value)| kept.store(*value, Relaxed));
        self.progress.fetch_add(1, Relaxed);
    }

    /// Notes its result.
    pub(crate) fn end(&self, result: i64) {
        let record = &self.records[(self.progress.load(Relaxed) / 2) as usize % CALLS_KEPT];
        record.result.store(result as u64, Relaxed);
        self.progress.fetch_add(1, Relaxed);
    }

    /// The last calls, oldest first.
    pub(crate) fn print(&self, index: usize) {
        let progress = self.progress.load(Relaxed);
        println!("thread {index}, calls begun and ended: {progress}");
        let newest = progress.div_ceil(2);
        for at in newest.saturating_sub(CALLS_KEPT as u64)..newest {
            let record = &self.records[at as usize % CALLS_KEPT];
            let number = record.number.load(Relaxed) as u32;
            let name = unikernel_report::calls::name(number).unwrap_or("?");
            let arguments = record.arguments.each_ref().map(|value| value.load(Relaxed));
            let result = record.result.load(Relaxed) as i64;
            let is_over = at * 2 + 1 < progress;
            println!("  {name}{arguments:x?} = {}", if is_over { result.to_string() } else { "?".into() });
        }
    }
}
