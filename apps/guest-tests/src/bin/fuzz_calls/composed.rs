//! Calls that need structures, or care: memory in the arena only, signals that have handlers, masks that leave the
//! watchdog's signal through.

use std::sync::atomic::Ordering::Relaxed;

use crate::touch;
use crate::worker::Worker;
use crate::world::{self, ARENA, ARENA_PAGES, PAGE, SIGNALS, SORTS, Sort, THREADS, WORLD};

/// Futex words that all threads use, in the first page of the first thread's scratch memory and of the arena.
const FUTEXES: usize = 4;

impl Worker {
    pub(crate) fn composed(&mut self) {
        match self.random.below(20) {
            0..3 => self.map(),
            3..6 => self.change_mapping(),
            6 => self.send_signal(),
            7 => self.signal_settings(),
            8..10 => self.futex(),
            10 => self.timers(),
            11..13 => self.epoll(),
            13 => self.wait_for_many(),
            14 => self.descriptors(),
            15 => self.pair(),
            16 if self.one_in(2) => self.counter(),
            16 if self.one_in(2) => self.queue(),
            16 => self.locks(),
            17 => self.open(),
            18 => self.vectors(),
            _ if self.one_in(4) => self.start_other(),
            _ => self.watch_files(),
        }
    }

    /// Makes some of everything, as a round begins.
    pub(crate) fn populate(&mut self) {
        for _ in 0..8 {
            self.open();
            self.pair();
            self.server();
            self.counter();
            self.timers();
            self.queue();
            self.map();
            self.socket();
        }
        self.open_call(Sort::Epoll, libc::SYS_epoll_create1, [0; 6]);
        self.open_call(Sort::Epoll, libc::SYS_epoll_create1, [0; 6]);
        self.open_call(Sort::Inotify, libc::SYS_inotify_init1, [libc::O_NONBLOCK as u64, 0, 0, 0, 0, 0]);
        (0..8).for_each(|_| self.watch_files());
        for folder in world::folders() {
            let path = self.text(&folder.to_string_lossy());
            self.open_call(Sort::Folder, libc::SYS_openat, [libc::AT_FDCWD as u64, path, 0, 0, 0, 0]);
        }
        (0..16).for_each(|_| self.epoll());
    }

    /// Files that count events, time and signals.
    fn counter(&mut self) {
        let flags = *self.random.pick(&[0, libc::O_NONBLOCK as u64]);
        match self.random.below(4) {
            0 => {
                let mask = self.mask();
                self.open_call(Sort::Counter, libc::SYS_signalfd4, [u64::MAX, mask, 8, flags, 0, 0]);
            }
            1 => {
                let clock = *self.random.pick(&[0, 1, 7]);
                self.open_call(Sort::Counter, libc::SYS_timerfd_create, [clock, flags, 0, 0, 0, 0]);
            }
            2 => {
                let (fd, time) = (self.descriptor_of(Sort::Counter), self.short_time());
                self.call(libc::SYS_timerfd_settime, [fd, u64::from(self.index == 0), time, 0, 0, 0]);
            }
            _ => {
                let kind = *self.random.pick(&[0, 1]);
                self.open_call(Sort::Counter, libc::SYS_eventfd2, [2, flags | kind, 0, 0, 0, 0]);
            }
        }
    }

    pub(crate) fn touch(&mut self) {
        for _ in 0..self.random.below(8) {
            let address = self.arena_address();
            if self.one_in(2) {
                touch::store(address, self.random.number() as u32);
            } else {
                touch::load(address);
            }
        }
    }

    fn protection(&mut self) -> u64 {
        *self.random.pick(&[3, 3, 3, 1, 1, 0, 2, 5, 7])
    }

    fn map(&mut self) {
        let (address, len, protection) = (self.arena_page(), self.span(), self.protection());
        let shared = *self.random.pick(&[libc::MAP_SHARED, libc::MAP_PRIVATE]);
        let place = *self.random.pick(&[libc::MAP_FIXED, libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE, 0]);
        let more = *self.random.pick(&[0, 0, libc::MAP_POPULATE, libc::MAP_LOCKED, libc::MAP_NORESERVE]);
        let (kind, fd) = if self.one_in(2) {
            (libc::MAP_ANONYMOUS, u64::MAX)
        } else {
            (0, self.descriptor_of(Sort::File))
        };
        let offset = if self.one_in(3) { self.size() } else { PAGE * self.random.below(8) as u64 };
        let flags = (shared | place | more | kind) as u64;
        let result = self.call(libc::SYS_mmap, [address, len, protection, flags, fd, offset]);
        self.unmap_stray(result, len);
    }

    /// What was mapped outside of the arena is nobody's.
    fn unmap_stray(&mut self, result: i64, len: u64) {
        let is_inside = (ARENA..ARENA + ARENA_PAGES * PAGE).contains(&(result as u64));
        if result > 0 && !is_inside {
            self.call(libc::SYS_munmap, [result as u64, len, 0, 0, 0, 0]);
        }
    }

    fn change_mapping(&mut self) {
        let (address, len) = (self.arena_page(), self.span());
        match self.random.below(12) {
            0..2 => drop(self.call(libc::SYS_munmap, [address, len, 0, 0, 0, 0])),
            2..4 => {
                let protection = self.protection();
                self.call(libc::SYS_mprotect, [address, len, protection, 0, 0, 0]);
            }
            4..7 => self.remap(address, len),
            7..10 => {
                let advice =
                    *self.random.pick(&[0, 1, 2, 3, 4, 4, 8, 8, 9, 10, 12, 14, 16, 18, 20, 21, 22, 23, 25]);
                self.call(libc::SYS_madvise, [address, len, advice, 0, 0, 0]);
            }
            10 => {
                let flags = self.random.below(8) as u64;
                self.call(libc::SYS_msync, [address, len, flags, 0, 0, 0]);
            }
            _ => {
                let number = *self.random.pick(&[libc::SYS_mlock, libc::SYS_munlock]);
                self.call(number, [address, len, 0, 0, 0, 0]);
            }
        }
    }

    fn remap(&mut self, address: u64, old_len: u64) {
        let old_len = if self.one_in(8) { 0 } else { old_len };
        let (len, target) = (self.span(), self.arena_page());
        let flags = *self.random.pick(&[0, 1, 3, 3, 5, 7]);
        let result = self.call(libc::SYS_mremap, [address, old_len, len, flags, target, 0]);
        self.unmap_stray(result, len);
    }

    fn futex(&mut self) {
        let word = |worker: &mut Self| {
            let at = 4 * worker.random.below(FUTEXES) as u64;
            if worker.one_in(4) { ARENA + at } else { world::scratch(THREADS - 1) + at }
        };
        let (first, second) = (word(self), word(self));
        let operation =
            *self.random.pick(&[0, 0, 0, 1, 1, 3, 4, 4, 5, 9, 9, 10]) | (128 * self.random.below(2) as u64);
        let value = self.random.below(4) as u64;
        let is_wait = matches!(operation & 127, 0 | 9);
        let time = if is_wait && self.one_in(4) { 0 } else { self.short_time() };
        let fourth = if is_wait { time } else { self.random.below(4) as u64 };
        let last = *self.random.pick(&[0, 1, u64::from(u32::MAX), 0x0100_1000, 0x1f00_0001]);
        if self.one_in(3) {
            touch::store(first, self.random.below(3) as u32);
        }
        self.call(libc::SYS_futex, [first, operation, value, fourth, second, last]);
    }

    fn timers(&mut self) {
        let slot = self.random.below(1 << 16);
        let timer = self.any_timer();
        if self.one_in(3) {
            let (signal, thread) = (*self.random.pick(&SIGNALS[1..]) as u64, self.any_thread());
            let notify = *self.random.pick(&[0, 0, 1, 4]);
            let event = self.put(&[7, signal | notify << 32, thread, 0, 0, 0, 0, 0]);
            let (clock, id) = (*self.random.pick(&[0, 1, 1, 2, 3, 7, 9]), self.put(&[0]));
            if self.call(libc::SYS_timer_create, [clock, event, id, 0, 0, 0]) == 0 {
                // SAFETY: the place was just written.
                let new = unsafe { *(id as *const i32) };
                let old = WORLD.timer(slot).swap(new, Relaxed);
                self.call(libc::SYS_timer_delete, [old as u64, 0, 0, 0, 0, 0]);
            }
            return;
        }
        let (time, flags) = (self.short_time(), u64::from(self.one_in(4)));
        self.call(libc::SYS_timer_settime, [timer, flags, time, 0, 0, 0]);
    }

    fn epoll(&mut self) {
        let (instance, fd) = (self.descriptor_of(Sort::Epoll), self.descriptor());
        match self.random.below(6) {
            0 => self.open_call(Sort::Epoll, libc::SYS_epoll_create1, [0; 6]),
            1..4 => {
                let how = *self.random.pick(&[0, 0, 1 << 31, 1 << 31, 1 << 30, 3 << 30, 1 << 28]);
                let events = self.random.number() & 0x201f | how;
                let event = self.put(&[events | (fd << 32), 0]);
                let operation = *self.random.pick(&[1, 1, 1, 2, 3]);
                self.call(libc::SYS_epoll_ctl, [instance, operation, fd, event, 0, 0]);
            }
            4 => {
                let (events, mask, wait) = (self.scratch(12 * 8), self.mask(), self.random.below(3) as u64);
                self.call(libc::SYS_epoll_pwait, [instance, events, 8, wait, mask, 8]);
            }
            _ => {
                let (events, time) = (self.scratch(12 * 8), self.short_time());
                self.call(libc::SYS_epoll_pwait2, [instance, events, 8, time, 0, 8]);
            }
        }
    }

    pub(crate) fn poll_set(&mut self) -> u64 {
        let words: Vec<u64> = (0..8)
            .map(|_| u64::from(self.descriptor() as u32) | (self.random.number() & 0x201f) << 32)
            .collect();
        self.put(&words)
    }

    fn wait_for_many(&mut self) {
        let (time, mask) = (self.short_time(), self.mask());
        if self.one_in(2) {
            let set = self.poll_set();
            self.call(libc::SYS_ppoll, [set, 8, time, mask, 8, 0]);
        } else {
            let bits: [u64; 2] = [self.random.number() & !7, self.random.number()];
            let (set, argument) = (self.put(&bits), self.put(&[mask, 8]));
            self.call(libc::SYS_pselect6, [100, set, set, 0, time, argument]);
        }
    }

    fn descriptors(&mut self) {
        let sort = *self.random.pick(&SORTS);
        let (fd, to) = (self.descriptor_of(sort), 120 + self.random.below(16) as u64);
        let to = if self.one_in(8) { to - 110 } else { to };
        match self.random.below(8) {
            0..3 => drop(self.call(libc::SYS_close, [if fd > 2 { fd } else { u64::MAX }, 0, 0, 0, 0, 0])),
            3..5 => self.open_call(sort, libc::SYS_dup3, [fd, to, 0, 0, 0, 0]),
            5 if self.one_in(4) => {
                let last = to + self.random.below(8) as u64;
                let flags = self.random.below(3) as u64 * 2;
                self.call(libc::SYS_close_range, [to, last, flags, 0, 0, 0]);
            }
            _ => self.open_call(sort, libc::SYS_dup, [fd, 0, 0, 0, 0, 0]),
        }
    }

    /// Two descriptors at once: a pipe, or sockets.
    pub(crate) fn pair(&mut self) {
        let (pair, flags) =
            (self.put(&[0]), *self.random.pick(&[0, 0, libc::O_NONBLOCK, libc::O_CLOEXEC]) as u64);
        let (sort, kind) =
            *self.random.pick(&[(Sort::Pipe, 0), (Sort::Stream, 1), (Sort::Stream, 5), (Sort::Datagram, 2)]);
        let result = if kind == 0 {
            self.call(libc::SYS_pipe2, [pair, flags, 0, 0, 0, 0])
        } else {
            self.call(libc::SYS_socketpair, [1, kind | flags, 0, pair, 0, 0])
        };
        if result == 0 {
            // SAFETY: the place was just written.
            let [one, other] = unsafe { *(pair as *const [i32; 2]) };
            self.keep(sort, one.into());
            self.keep(sort, other.into());
        }
    }

    fn locks(&mut self) {
        let kind = self.random.below(3) as u64;
        let (start, len) = (self.random.below(64) as u64, self.random.below(16) as u64);
        let lock = self.put(&[kind, start, len, 0]);
        let command = *self.random.pick(&[5, 6, 6, 7, 36, 37, 38]);
        let fd = self.descriptor_of(Sort::File);
        self.call(libc::SYS_fcntl, [fd, command, lock, 0, 0, 0]);
    }

    fn open(&mut self) {
        let access = *self.random.pick(&[libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY]);
        let kinds =
            [libc::O_CREAT, libc::O_CREAT, libc::O_TRUNC, libc::O_APPEND, libc::O_DIRECT, libc::O_NONBLOCK];
        let more =
            [libc::O_DIRECTORY, libc::O_EXCL, libc::O_TMPFILE, libc::O_PATH, libc::O_NOFOLLOW, libc::O_DSYNC];
        let sort = if self.one_in(4) { Sort::Folder } else { Sort::File };
        let mut flags = access | *self.random.pick(&kinds);
        if self.one_in(3) {
            flags |= *self.random.pick(&more);
        }
        let (path, folder) =
            (self.path(), if self.one_in(4) { self.descriptor() } else { libc::AT_FDCWD as u64 });
        self.open_call(sort, libc::SYS_openat, [folder, path, flags as u64, 0o644, 0, 0]);
    }

    fn vectors(&mut self) {
        let number =
            *self.random.pick(&[libc::SYS_readv, libc::SYS_writev, libc::SYS_preadv2, libc::SYS_pwritev2]);
        let sort = *self.random.pick(&[Sort::File, Sort::File, Sort::Pipe, Sort::Counter, Sort::Stream]);
        let (fd, count) = (self.descriptor_of(sort), 1 + self.random.below(8));
        let (vectors, offset) = (self.iovecs(count), self.size());
        let offset = if self.one_in(3) { u64::MAX } else { offset };
        let flags = *self.random.pick(&[0, 0, 2, 4, 8, 16]);
        self.call(number, [fd, vectors, count as u64, offset, 0, flags]);
    }

    fn watch_files(&mut self) {
        if self.one_in(3) {
            return self.open_call(
                Sort::Inotify,
                libc::SYS_inotify_init1,
                [libc::O_NONBLOCK as u64, 0, 0, 0, 0, 0],
            );
        }
        let how = *self.random.pick(&[0, 0, 0, 1 << 29, 1 << 31, 1 << 24]);
        let (fd, path, mask) =
            (self.descriptor_of(Sort::Inotify), self.path(), self.random.number() & 0xfff | how);
        self.call(libc::SYS_inotify_add_watch, [fd, path, mask, 0, 0, 0]);
    }

    /// Message queues: of a few names, and what goes through them.
    fn queue(&mut self) {
        let fd = self.descriptor_of(Sort::Queue);
        let (time, scratch) = (self.short_time(), self.scratch(64));
        match self.random.below(8) {
            0 | 1 => {
                let name = *self.random.pick(&["a", "b", "c", "d"]);
                let (name, attributes) = (self.text(name), self.put(&[0, 4, 32, 0, 0, 0, 0, 0]));
                let flags = (libc::O_CREAT | libc::O_RDWR) as u64 | *self.random.pick(&[0, 0, 0x800, 0x80]);
                self.open_call(Sort::Queue, libc::SYS_mq_open, [name, flags, 0o600, attributes, 0, 0]);
            }
            2 => {
                let name = *self.random.pick(&["a", "b", "c", "d"]);
                let name = self.text(name);
                self.call(libc::SYS_mq_unlink, [name, 0, 0, 0, 0, 0]);
            }
            3 => {
                let (value, how) = (self.random.number(), self.random.below(3) as u64);
                // What is ignored by default, or the number of a descriptor.
                let event = self.put(&[value, libc::SIGURG as u64 | how << 32, 0, 0, 0, 0, 0, 0]);
                let event = if self.one_in(4) { 0 } else { event };
                self.call(libc::SYS_mq_notify, [fd, event, 0, 0, 0, 0]);
            }
            4 | 5 => {
                let (len, priority) = (self.random.below(34) as u64, self.random.below(3) as u64);
                self.call(libc::SYS_mq_timedsend, [fd, scratch, len, priority, time, 0]);
            }
            _ => _ = self.call(libc::SYS_mq_timedreceive, [fd, scratch, 32, 0, time, 0]),
        }
    }
}
