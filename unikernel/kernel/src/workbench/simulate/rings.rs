//! Users of io_uring on several cores: whatever is submitted completes once, whatever goes wrong meanwhile.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use linux_raw_sys::errno;
use linux_raw_sys::general as linux;
use linux_raw_sys::io_uring::{
    IORING_CQE_F_MORE, IORING_ENTER_GETEVENTS, IORING_ENTER_SQ_WAKEUP, IORING_SETUP_CQSIZE,
    IORING_SETUP_SQPOLL, IORING_SQ_CQ_OVERFLOW, IORING_SQ_NEED_WAKEUP, io_uring_op, io_uring_register_op,
    io_uring_sqe_flags_bit,
};
use unikernel_hal::sim::engine::Random;

use super::{judge, machine};
use crate::workbench::app::files::{pipe, read, set_nonblocking, sleep_ms, timespec, words, write};
use crate::workbench::app::net::{STREAM, unix_pair};
use crate::workbench::app::ring::{Cqe, Ring, Sqe};
use crate::workbench::app::{join, map, put, spawn};

use io_uring_op::*;
use io_uring_sqe_flags_bit::{
    IOSQE_ASYNC_BIT as ASYNC, IOSQE_FIXED_FILE_BIT as FIXED, IOSQE_IO_DRAIN_BIT as DRAIN,
    IOSQE_IO_LINK_BIT as LINK,
};

/// Entries that a user submits at least.
const ENTRIES: usize = 60;
/// Data of messages from other rings begins here.
const FIRST_MESSAGE: u64 = 1 << 40;
/// Bytes that a write to a pipe or socket has at most: all of a user's fit, so none waits for room.
const MOST_BYTES: u64 = 200;

/// What all users know.
#[derive(Default)]
struct Shared {
    /// The rings, in the order of their making.
    rings: Vec<u64>,
    /// Messages that were sent, as their senders were told.
    sent: Vec<u64>,
    got: Vec<u64>,
    /// Users that send no more.
    done: usize,
}

/// Whom an entry was, to be able to tell what has become of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Write,
    Read,
    /// A message with this data.
    Message(u64),
    Other,
}

struct Entry {
    role: Role,
    completions: u32,
}

struct User {
    ring: Ring,
    is_polled: bool,
    random: Random,
    entries: Vec<Entry>,
    shared: Rc<RefCell<Shared>>,
    pipe: (u64, u64),
    pair: (u64, u64),
    /// A page that is registered.
    page: u64,
    written: i64,
    read: i64,
}

impl User {
    fn new(mut random: Random, shared: Rc<RefCell<Shared>>) -> Self {
        let size = [2, 4, 8][random.below(3) as usize];
        let is_polled = random.one_in(4);
        let flags = if is_polled { IORING_SETUP_SQPOLL | IORING_SETUP_CQSIZE } else { IORING_SETUP_CQSIZE };
        let ring = Ring::with(size, flags, size, 1).expect("a ring");
        let (pipe, pair, page) = (pipe(0), unix_pair(STREAM), map(4096));
        let files = [pipe.0, pipe.1, pair.0, pair.1].map(|fd| (fd as i32).to_ne_bytes()).concat();
        let register = |operation: io_uring_register_op, argument: &[u8], count| {
            ring.register(operation as u32, argument, count).expect("a registration");
        };
        register(io_uring_register_op::IORING_REGISTER_FILES, &files, 4);
        register(io_uring_register_op::IORING_REGISTER_BUFFERS, &words(&[page, 4096]), 1);
        shared.borrow_mut().rings.push(ring.fd);
        Self { ring, is_polled, random, entries: Vec::new(), shared, pipe, pair, page, written: 0, read: 0 }
    }

    /// Puts an entry into the queue, with the next data.
    fn push(&mut self, sqe: Sqe, role: Role) {
        // Whoever polls the queue takes entries when it likes.
        while self.ring.waiting() == self.ring.sq_entries {
            self.enter();
        }
        let sqe = if self.random.one_in(8) { sqe.flag(ASYNC) } else { sqe };
        self.ring.push(sqe.data(self.entries.len() as u64));
        self.entries.push(Entry { role, completions: 0 });
    }

    /// Submits what waits; takes what has completed if the kernel wants that first.
    fn enter(&mut self) {
        let is_asleep = self.is_polled && self.ring.sq_flags() & IORING_SQ_NEED_WAKEUP != 0;
        let flags = if is_asleep { IORING_ENTER_SQ_WAKEUP } else { 0 };
        match self.ring.enter(self.ring.waiting(), 0, flags) {
            Ok(_) => {}
            Err(errno::EBUSY | errno::EAGAIN) => self.reap(),
            Err(error) => panic!("io_uring_enter: {error}"),
        }
        if self.is_polled {
            sleep_ms(1);
        }
    }

    /// Takes all completions, those that wait for room, too.
    fn reap(&mut self) {
        loop {
            while let Some(cqe) = self.ring.next() {
                self.note(cqe);
            }
            if self.ring.sq_flags() & IORING_SQ_CQ_OVERFLOW == 0 {
                return;
            }
            self.ring.enter(0, 0, IORING_ENTER_GETEVENTS).expect("more completions");
        }
    }

    fn note(&mut self, cqe: Cqe) {
        assert_eq!(cqe.flags & IORING_CQE_F_MORE, 0, "nobody asks for more than one");
        if cqe.data >= FIRST_MESSAGE {
            return self.shared.borrow_mut().got.push(cqe.data);
        }
        let entry = &mut self.entries[cqe.data as usize];
        entry.completions += 1;
        assert_eq!(entry.completions, 1, "entry {} completes again", cqe.data);
        let count = i64::from(cqe.result.max(0));
        match entry.role {
            Role::Write => self.written += count,
            Role::Read => self.read += count,
            Role::Message(data) if cqe.result == 0 => self.shared.borrow_mut().sent.push(data),
            Role::Message(_) | Role::Other => {}
        }
    }

    fn open_entries(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|at| self.entries[*at].completions == 0).collect()
    }

    fn timeout(&mut self, operation: io_uring_op) -> Sqe {
        let time = put(&timespec(1_000 + self.random.below(200_000)));
        Sqe { addr: time, len: 1, off: self.random.below(4), ..Sqe::new(operation) }
    }

    /// Writing to the pipe or the socket, or reading from it, with files and memory that are registered or not.
    fn transfer(&mut self, is_write: bool) -> Sqe {
        let is_pipe = self.random.one_in(2);
        let (file, index) = match (is_pipe, is_write) {
            (true, false) => (self.pipe.0, 0),
            (true, true) => (self.pipe.1, 1),
            (false, false) => (self.pair.0, 2),
            (false, true) => (self.pair.1, 3),
        };
        let len = 1 + self.random.below(MOST_BYTES);
        let operation = match (is_write, self.random.below(if is_pipe { 2 } else { 3 })) {
            (false, 0) => IORING_OP_READ,
            (false, 1) => IORING_OP_READ_FIXED,
            (false, _) => IORING_OP_RECV,
            (true, 0) => IORING_OP_WRITE,
            (true, 1) => IORING_OP_WRITE_FIXED,
            (true, _) => IORING_OP_SEND,
        };
        let is_message = matches!(operation, IORING_OP_SEND | IORING_OP_RECV);
        let is_registered = self.random.one_in(2);
        let sqe = Sqe::on(operation, if is_registered { index } else { file }, self.page, len);
        let sqe = if is_message { sqe } else { sqe.off(u64::MAX) };
        if is_registered { sqe.flag(FIXED) } else { sqe }
    }

    /// Puts one entry into the queue, or some that are linked.
    fn push_something(&mut self) {
        match self.random.below(12) {
            0 => self.push(Sqe::new(IORING_OP_NOP), Role::Other),
            1 => self.push(Sqe::new(IORING_OP_NOP).flag(DRAIN), Role::Other),
            2 | 3 => {
                let sqe = self.transfer(true);
                self.push(sqe, Role::Write);
            }
            4 => {
                let sqe = self.transfer(false);
                self.push(sqe, Role::Read);
            }
            5 => {
                let poll = Sqe::on(IORING_OP_POLL_ADD, self.pipe.0, 0, 0).op_flags(linux::POLLIN);
                self.push(poll.flag(LINK), Role::Other);
                let sqe = self.transfer(false);
                self.push(sqe, Role::Read);
            }
            6 => {
                let sqe = self.transfer(true);
                self.push(sqe.flag(LINK), Role::Write);
                let sqe = self.transfer(false);
                self.push(sqe, Role::Read);
            }
            7 => {
                let sqe = self.transfer(false);
                self.push(sqe.flag(LINK), Role::Read);
                let sqe = Sqe { off: 0, ..self.timeout(IORING_OP_LINK_TIMEOUT) };
                self.push(sqe, Role::Other);
            }
            8 => {
                let sqe = self.timeout(IORING_OP_TIMEOUT);
                self.push(sqe, Role::Other);
            }
            9 | 10 => {
                let victim = self.random.below(self.entries.len() as u64 + 1);
                self.push(Sqe { addr: victim, ..Sqe::new(IORING_OP_ASYNC_CANCEL) }, Role::Other);
            }
            _ => {
                let (to, data) = {
                    let shared = self.shared.borrow();
                    let to = shared.rings[self.random.below(shared.rings.len() as u64) as usize];
                    (to, FIRST_MESSAGE + (self.ring.fd << 20) + self.entries.len() as u64)
                };
                self.push(Sqe { off: data, ..Sqe::on(IORING_OP_MSG_RING, to, 0, 5) }, Role::Message(data));
            }
        }
    }

    fn work(&mut self) {
        let reaps_one_in = [1, 3, 20][self.random.below(3) as usize];
        while self.entries.len() < ENTRIES {
            (0..1 + self.random.below(3)).for_each(|_| self.push_something());
            self.enter();
            if self.random.one_in(reaps_one_in) {
                self.reap();
            }
        }
        self.finish();
    }

    /// Gives all that waits what it waits for, and looks whether all have completed.
    fn finish(&mut self) {
        const MOST_ROUNDS: usize = 200;
        for _ in 0..MOST_ROUNDS {
            self.reap();
            if self.open_entries().is_empty() {
                return;
            }
            // By bytes, not by cancellation, which would wait behind a drain for what it is to end.
            for file in [self.pipe.1, self.pair.1] {
                self.written += write(file, b"x").expect("a write") as i64;
            }
            self.enter();
            sleep_ms(1);
        }
        panic!("entries that never complete: {:?}", self.open_entries());
    }

    /// What was written and not read is still there.
    fn count_bytes(&mut self) {
        for file in [self.pipe.0, self.pair.0] {
            set_nonblocking(file, true);
            while let Ok(bytes) = read(file, 4096) {
                self.read += bytes.len() as i64;
            }
        }
        assert_eq!(self.written, self.read, "bytes written, and read");
    }
}

/// Users with a ring each, on several cores, who send each other messages.
pub(super) fn mixed(seed: u64) -> Result<(), String> {
    judge(&machine(seed).run(move || {
        let users = 1 + seed / 7 % 3;
        let shared = Rc::new(RefCell::new(Shared::default()));
        let work = move |own: u64, shared: Rc<RefCell<Shared>>| {
            let mut user = User::new(Random::new(seed ^ own << 40), Rc::clone(&shared));
            user.work();
            user.count_bytes();
            shared.borrow_mut().done += 1;
            // The others may still send.
            while shared.borrow().done < users as usize {
                sleep_ms(1);
            }
            user.reap();
        };
        let threads: Vec<_> = (0..users)
            .map(|own| {
                let shared = Rc::clone(&shared);
                spawn(move || work(own, shared)).expect("a thread")
            })
            .collect();
        threads.into_iter().for_each(join);
        let mut shared = shared.borrow_mut();
        shared.sent.sort_unstable();
        shared.got.sort_unstable();
        assert_eq!(shared.sent, shared.got, "messages sent, and received");
        0
    }))
}

const REFUSED: i32 = -(errno::ENOMEM as i32);

/// More completions than the queue holds: all are there, in their order, when somebody looks.
pub(super) fn overflow(seed: u64) -> Result<(), String> {
    judge(&machine(seed).run(move || {
        let mut random = Random::new(seed);
        let ring = Ring::with(8, IORING_SETUP_CQSIZE, 8, 0).expect("a ring");
        let (mut next, mut expected) = (0, 0);
        let reap = |expected: &mut u64, most: u64| {
            for _ in 0..most {
                let Some(cqe) = ring.next() else { break };
                // There may have been no memory for it.
                assert!(matches!(cqe.result, 0 | REFUSED), "{cqe:?}");
                assert_eq!(cqe.data, *expected);
                *expected += 1;
            }
        };
        for _ in 0..30 {
            for _ in 0..=random.below(8) {
                if ring.waiting() < ring.sq_entries {
                    ring.push(Sqe::new(IORING_OP_NOP).data(next));
                    next += 1;
                }
            }
            match ring.submit() {
                Ok(_) | Err(errno::EBUSY) => {}
                Err(error) => panic!("io_uring_enter: {error}"),
            }
            if random.one_in(3) {
                reap(&mut expected, random.below(12));
            }
        }
        while expected < next {
            reap(&mut expected, u64::MAX);
            let _ = ring.enter(ring.waiting(), 0, IORING_ENTER_GETEVENTS);
        }
        assert_eq!((ring.next(), ring.dropped()), (None, 0));
        0
    }))
}
