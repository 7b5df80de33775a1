//! One thread, and the calls that it makes by the dispatcher's table: numbers, descriptors, paths and pointers at random.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

use guest_tests::call_table::{Call, Kind};
use guest_tests::random::Random;
use guest_tests::raw_syscall;

use crate::world::{self, PAGE, SCRATCH_PAGES, Sort, THREADS, WORLD};

/// Calls that are not made with whatever comes: they would end the program or take its memory or its watchdog's signals
/// away. Most are made with care in [`crate::composed`].
const NOT_AT_RANDOM: &[&str] = &[
    "exit",
    "exit_group",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigsuspend",
    "sigaltstack",
    "rt_sigreturn",
    "setrlimit",
    "prlimit64",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "close",
    "close_range",
    "dup2",
    "dup3",
    "ppoll",
    "pselect6",
    "epoll_pwait",
    "epoll_pwait2",
    "reboot",
    "timer_create",
    "mq_notify",
    "io_uring_enter",
];

/// A thread's random choices, and its place in the world.
pub(crate) struct Worker {
    pub(crate) random: Random,
    pub(crate) index: usize,
    table: &'static [Call],
    /// Bytes of scratch memory that the call in the making has taken.
    taken: u64,
}

/// Lets a worker make its calls on a thread of its own; false if its seat is taken.
pub(crate) fn start(mut worker: Worker, index: usize, calls: u64) -> bool {
    let seat = &WORLD.seats[index];
    if seat.thread.compare_exchange(0, -1, Acquire, Relaxed).is_err() {
        return false;
    }
    let work = move || {
        world::use_signal_stack(index);
        seat.thread.store(raw_syscall(libc::SYS_gettid, [0; 6]) as i32, Relaxed);
        (0..calls).for_each(|_| worker.step());
        seat.thread.store(0, Release);
    };
    let is_started = thread::Builder::new().stack_size(128 << 10).spawn(work).is_ok();
    if !is_started {
        seat.thread.store(0, Release);
    }
    is_started
}

impl Worker {
    pub(crate) fn new(seed: u64, index: usize, table: &'static [Call]) -> Self {
        let mut random = Random::new(seed * THREADS as u64 + index as u64);
        // Neighbouring seeds are alike in their first numbers.
        for _ in 0..8 {
            random.number();
        }
        Self { random, index, table, taken: 0 }
    }

    /// True in one case of so many.
    pub(crate) fn one_in(&mut self, cases: usize) -> bool {
        self.random.below(cases) == 0
    }

    fn step(&mut self) {
        self.taken = 0;
        match self.random.below(16) {
            0..7 => self.call_of_table(),
            7..13 => self.composed(),
            13 => self.network(),
            14 => self.ring(),
            _ => self.touch(),
        }
    }

    /// Makes a call and notes it.
    pub(crate) fn call(&mut self, number: i64, arguments: [u64; 6]) -> i64 {
        let seat = &WORLD.seats[self.index];
        seat.begin(number, &arguments);
        let result = raw_syscall(number, arguments);
        seat.end(result);
        result
    }

    /// A call that answers a descriptor, which is kept.
    pub(crate) fn open_call(&mut self, sort: Sort, number: i64, arguments: [u64; 6]) {
        let result = self.call(number, arguments);
        self.keep(sort, result);
    }

    /// Keeps a descriptor, in place of one that is closed.
    pub(crate) fn keep(&mut self, sort: Sort, result: i64) {
        let Some(fd) = i32::try_from(result).ok().filter(|fd| *fd > 2) else { return };
        if let Some(old) = WORLD.keep_descriptor(sort, self.random.below(1 << 16), fd) {
            self.call(libc::SYS_close, [old as u64, 0, 0, 0, 0, 0]);
        }
    }

    /// Another thread of a few calls.
    pub(crate) fn start_other(&mut self) {
        let (index, seed) = (THREADS / 2 + self.random.below(THREADS / 2), self.random.number() >> 8);
        start(Self::new(seed, index, self.table), index, 20);
    }

    fn call_of_table(&mut self) {
        let table = self.table;
        let call = self.random.pick(table);
        if NOT_AT_RANDOM.contains(&call.name) {
            return;
        }
        let mut arguments = [0; 6];
        for (value, (name, kind)) in arguments.iter_mut().zip(&call.args) {
            *value = self.argument(call.name, name, *kind);
        }
        let result = self.call(call.number, arguments);
        if let Some(sort) = sort_made(call.name) {
            self.keep(sort, result);
        }
    }

    fn argument(&mut self, call: &str, name: &str, kind: Kind) -> u64 {
        match kind {
            Kind::Fd if name.contains("dirfd") && !self.one_in(4) => libc::AT_FDCWD as u64,
            Kind::Fd => match sort_taken(call) {
                Some(sort) => self.descriptor_of(sort),
                None => self.descriptor(),
            },
            Kind::Str if call.contains("xattr") && name == "name" => self.text("user.fuzz"),
            Kind::Str => self.path(),
            Kind::Size
                if matches!(name, "addrlen" | "optlen" | "size" | "iovcnt" | "nfds") && !self.one_in(8) =>
            {
                *self.random.pick(&[4, 8, 8, 8, 16, 24])
            }
            // What is copied from an endless file would fill the memory.
            Kind::Size if matches!(call, "sendfile" | "copy_file_range") => self.random.below(1 << 16) as u64,
            Kind::Size => self.size(),
            Kind::Clock => self.random.below(12) as u64,
            Kind::Number => self.number_for(call, name),
            Kind::Pointer => self.pointer(name),
        }
    }

    fn number_for(&mut self, call: &str, name: &str) -> u64 {
        if self.one_in(8) {
            return self.number();
        }
        match name {
            "cmd" if call == "fcntl" => {
                *self.random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032, 1033, 1034])
            }
            "len" | "length" | "nbytes" => self.size(),
            _ if name.contains("off") => self.size(),
            "timeout" | "seconds" | "whence" | "how" => self.random.below(3) as u64,
            "pid" | "tid" | "who" | "idtype" if self.one_in(2) => 0,
            "pid" | "tid" | "who" => self.any_thread(),
            "timerid" => self.any_timer(),
            "wd" => self.random.below(6) as u64,
            "mode" if call != "fallocate" => 0o700 | self.random.below(8) as u64,
            _ if name.contains("flags") && self.one_in(2) => 0,
            "mode" | "op" | "how_many" | "flags" => {
                *self.random.pick(&[0, 1, 2, 3, 4, 0x10, 0x100, 0x800, 0x1000])
            }
            _ => self.number(),
        }
    }

    /// A pointer to what the argument's name promises, or not.
    fn pointer(&mut self, name: &str) -> u64 {
        match self.random.below(16) {
            0 => return 0,
            1 => return self.bad_address(),
            2..4 => return self.arena_address(),
            _ => {}
        }
        match name {
            "iov" => self.iovecs(8),
            "addr" | "dest_addr" | "src_addr" => self.socket_address().0,
            "msg" => self.message(),
            "fds" => self.poll_set(),
            "timeout" | "tp" | "request" | "new_value" | "times" | "tv" => self.short_time(),
            "buf" => self.scratch(SCRATCH_PAGES * PAGE / 2),
            _ => self.words(32),
        }
    }

    /// So many bytes of scratch memory for the call in the making.
    pub(crate) fn scratch(&mut self, len: u64) -> u64 {
        let len = len.next_multiple_of(16);
        let limit = SCRATCH_PAGES * PAGE;
        let at = if self.taken + len > limit { 0 } else { self.taken };
        self.taken = at + len;
        world::scratch(self.index) + at
    }

    /// Writes words to scratch memory.
    pub(crate) fn put(&mut self, words: &[u64]) -> u64 {
        let address = self.scratch(words.len() as u64 * 8);
        // SAFETY: the scratch memory is this thread's and is always mapped; calls that write there are over, or
        // write what nobody relies on.
        unsafe { (address as *mut u64).copy_from(words.as_ptr(), words.len()) };
        address
    }

    /// Random words.
    fn words(&mut self, count: usize) -> u64 {
        let words: Vec<u64> = (0..count).map(|_| self.number()).collect();
        self.put(&words)
    }
}

/// What a call makes, if it makes a descriptor.
fn sort_made(name: &str) -> Option<Sort> {
    Some(match name {
        "open" | "creat" | "openat" | "openat2" | "memfd_create" => Sort::File,
        "socket" | "accept" | "accept4" => Sort::Stream,
        "dup" | "fcntl" => Sort::Folder,
        "epoll_create" | "epoll_create1" => Sort::Epoll,
        "inotify_init" | "inotify_init1" => Sort::Inotify,
        "mq_open" => Sort::Queue,
        "eventfd" | "eventfd2" | "signalfd" | "signalfd4" | "timerfd_create" | "io_uring_setup" => {
            Sort::Counter
        }
        _ => return None,
    })
}

/// What a call is for; `None` if it takes anything.
fn sort_taken(name: &str) -> Option<Sort> {
    Some(match name {
        "listen" | "accept" | "accept4" | "shutdown" | "connect" | "getpeername" => Sort::Stream,
        "sendto" | "recvfrom" | "sendmmsg" | "recvmmsg" | "bind" | "getsockname" => Sort::Datagram,
        "getdents64" | "fchdir" | "fstatfs" => Sort::Folder,
        "epoll_wait" => Sort::Epoll,
        "inotify_add_watch" | "inotify_rm_watch" => Sort::Inotify,
        "mq_timedsend" | "mq_timedreceive" | "mq_getsetattr" => Sort::Queue,
        "timerfd_settime" | "timerfd_gettime" | "signalfd4" => Sort::Counter,
        "pread64" | "pwrite64" | "preadv" | "pwritev" | "lseek" | "ftruncate" | "fallocate" | "fsync"
        | "fdatasync" | "sync_file_range" | "fadvise64" | "flock" | "copy_file_range" | "fsetxattr"
        | "fgetxattr" => Sort::File,
        _ => return None,
    })
}
