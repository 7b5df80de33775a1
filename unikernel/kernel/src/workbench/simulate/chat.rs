//! Messages from threads to threads, through a queue under a lock and condition variables, and on through a pipe.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;
use unikernel_hal::sim::engine::Random;

use super::threads::{futex, release, take, take_contended};
use super::{judge, machine};
use crate::workbench::app::{call, get, join, map, put, spawn, word};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;
/// What each producer sends.
const MESSAGES: u64 = 25;
/// Messages that the queue holds.
const PLACES: u32 = 4;
/// A consumer that gets this one ends.
const END: u64 = u64::MAX;

/// A queue in the app's memory: a lock, two condition variables, and the messages.
#[derive(Clone, Copy)]
struct Queue(u64);

impl Queue {
    fn lock(self) -> u64 {
        self.0
    }

    /// Changes whenever a place becomes free.
    fn has_place(self) -> u64 {
        self.0 + 64
    }

    /// Changes whenever a message comes.
    fn has_message(self) -> u64 {
        self.0 + 128
    }

    fn head(self) -> u64 {
        self.0 + 192
    }

    fn tail(self) -> u64 {
        self.0 + 256
    }

    fn place(self, number: u32) -> u64 {
        self.0 + 512 + u64::from(number % PLACES) * 8
    }

    fn len(self) -> u32 {
        word(self.tail()).wrapping_sub(word(self.head()))
    }

    fn put(self, message: u64, wakes_all: bool) {
        take(self.lock());
        while self.len() == PLACES {
            self.wait(self.has_place());
        }
        let tail = word(self.tail());
        app::write(self.place(tail), &message.to_le_bytes());
        app::write(self.tail(), &(tail + 1).to_le_bytes());
        self.tell(self.has_message(), wakes_all);
        release(self.lock());
    }

    fn take(self, wakes_all: bool) -> u64 {
        take(self.lock());
        while self.len() == 0 {
            self.wait(self.has_message());
        }
        let head = word(self.head());
        let message = u64::from_le_bytes(get(self.place(head), 8).try_into().expect("eight bytes"));
        app::write(self.head(), &(head + 1).to_le_bytes());
        self.tell(self.has_place(), wakes_all);
        release(self.lock());
        message
    }

    /// pthread_cond_wait(3), as C libraries have it.
    fn wait(self, condition: u64) {
        let seen = word(condition);
        release(self.lock());
        let _ = futex(condition, linux::FUTEX_WAIT, seen, 0, 0);
        take_contended(self.lock());
    }

    /// pthread_cond_signal(3), or pthread_cond_broadcast(3), which moves all but one to the lock. Call it with the lock.
    fn tell(self, condition: u64, wakes_all: bool) {
        let next = word(condition).wrapping_add(1);
        app::write(condition, &next.to_le_bytes());
        if !wakes_all {
            futex(condition, linux::FUTEX_WAKE, 1, 0, 0).expect("a wake-up");
            return;
        }
        const ALL: u64 = i32::MAX as u64;
        let arguments = [condition, linux::FUTEX_CMP_REQUEUE.into(), 1, ALL, self.lock(), next.into()];
        call(linux::__NR_futex, &arguments).expect("only who has the lock changes the word");
        // Who was moved waits for the lock, and its owner has to know.
        app::compare_exchange(self.lock(), 1, 2);
    }
}

/// Each message arrives once, and those of one producer that one consumer takes in their order.
pub(super) fn chat(seed: u64) -> Result<(), String> {
    judge(&machine(seed).run(move || {
        let queue = Queue(map(4096));
        let ends = map(8);
        call(linux::__NR_pipe2, &[ends, 0]).expect("a pipe");
        let (from, to) = (u64::from(word(ends)), u64::from(word(ends + 4)));
        let wakes_all = seed.is_multiple_of(2);
        let produce = move |own: u64| {
            let mut random = Random::new(seed ^ own << 24);
            for number in 0..MESSAGES {
                queue.put(own * MESSAGES + number, wakes_all);
                app::compute_ns(random.below(4_000));
            }
        };
        let consume = move |own: u64| {
            let mut random = Random::new(seed ^ own << 56);
            loop {
                let message = queue.take(wakes_all);
                if message == END {
                    return;
                }
                app::compute_ns(random.below(4_000));
                let bytes = put(&[own, message].map(u64::to_le_bytes).concat());
                assert_eq!(
                    call(linux::__NR_write, &[to, bytes, 16]),
                    Ok(16),
                    "a write of less than PIPE_BUF"
                );
                call(linux::__NR_munmap, &[bytes, 4096]).expect("a page goes");
            }
        };
        let producers: Vec<_> =
            (0..PRODUCERS).map(|own| spawn(move || produce(own)).expect("a thread")).collect();
        let consumers: Vec<_> =
            (0..CONSUMERS).map(|own| spawn(move || consume(own)).expect("a thread")).collect();
        let closer = spawn(move || {
            producers.into_iter().for_each(join);
            (0..CONSUMERS).for_each(|_| queue.put(END, wakes_all));
            consumers.into_iter().for_each(join);
            call(linux::__NR_close, &[to]).expect("a close");
        });
        collect(from);
        join(closer.expect("a thread"));
        0
    }))
}

/// Reads what consumers have written, and checks it.
fn collect(from: u64) {
    let mut seen = vec![0u32; (PRODUCERS * MESSAGES) as usize];
    let mut last = vec![None; (PRODUCERS * CONSUMERS) as usize];
    let into = map(4096);
    let mut bytes = Vec::new();
    loop {
        let count = call(linux::__NR_read, &[from, into, 100]).expect("a read");
        if count == 0 {
            break;
        }
        bytes.extend(get(into, count as usize));
    }
    for entry in bytes.chunks(16) {
        let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("whole entries"));
        let (consumer, message) = (number(0), number(8));
        seen[message as usize] += 1;
        let before = &mut last[(consumer * PRODUCERS + message / MESSAGES) as usize];
        assert!(before.replace(message) < Some(message), "{message} comes after a later one");
    }
    assert!(seen.iter().all(|count| *count == 1), "each message once: {seen:?}");
}
