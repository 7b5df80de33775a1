//! Threads that share locks, pipes and signals.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;
use unikernel_hal::sim::engine::Random;

use super::{judge, machine};
use crate::workbench::app::{call, get, join, map, put, spawn, word};

pub(super) fn futex(
    word_address: u64,
    operation: u32,
    value: u32,
    fourth: u64,
    second: u64,
) -> Result<u64, i32> {
    call(linux::__NR_futex, &[word_address, operation.into(), value.into(), fourth, second, 0])
}

/// Takes a lock as the C library does: 0 is free, 1 taken, 2 taken with somebody waiting (Drepper, "Futexes are tricky").
pub(super) fn take(lock: u64) {
    if app::compare_exchange(lock, 0, 1) != 0 {
        take_contended(lock);
    }
}

/// The same for whom others may wait with: whoever was moved here from another futex.
pub(super) fn take_contended(lock: u64) {
    loop {
        match app::compare_exchange(lock, 0, 2) {
            0 => return,
            1 if app::compare_exchange(lock, 1, 2) == 0 => {}
            _ => {
                let _ = futex(lock, linux::FUTEX_WAIT, 2, 0, 0);
            }
        }
    }
}

pub(super) fn release(lock: u64) {
    let mut found = word(lock);
    while app::compare_exchange(lock, found, 0) != found {
        found = word(lock);
    }
    if found == 2 {
        futex(lock, linux::FUTEX_WAKE, 1, 0, 0).expect("a wake-up");
    }
}

/// Threads add to a number under a lock: none may be lost, and nobody may wait for ever.
pub(super) fn lock(seed: u64) -> Result<(), String> {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 12;
    judge(&machine(seed).run(move || {
        let lock = map(4096);
        let number = lock + 64;
        let worker = move |own: u64| {
            let mut random = Random::new(seed ^ own);
            for _ in 0..ROUNDS {
                take(lock);
                let before = word(number);
                app::compute_ns(random.below(3_000));
                app::write(number, &(before + 1).to_le_bytes());
                release(lock);
                app::compute_ns(random.below(3_000));
            }
        };
        let others: Vec<_> =
            (1..THREADS).map(|own| spawn(move || worker(own.into())).expect("a thread")).collect();
        worker(0);
        others.into_iter().for_each(join);
        assert_eq!(word(number), THREADS * ROUNDS);
        0
    }))
}

/// Waits with a time-out are moved from one futex to another meanwhile: at the end nobody waits at either.
pub(super) fn requeue(seed: u64) -> Result<(), String> {
    judge(&machine(seed).run(move || {
        let (a, b, stop) = (map(4096), map(4096), map(4096));
        let waiter = move |own: u64| {
            let mut random = Random::new(seed ^ own << 32);
            while word(stop) == 0 {
                let wait = put(&[0u64.to_le_bytes(), (1_000 + random.below(60_000)).to_le_bytes()].concat());
                let _ = futex(a, linux::FUTEX_WAIT, 0, wait, 0);
                call(linux::__NR_munmap, &[wait, 4096]).expect("a page goes");
            }
        };
        let threads: Vec<_> = (0..3).map(|own| spawn(move || waiter(own)).expect("a thread")).collect();
        for _ in 0..30 {
            futex(a, linux::FUTEX_REQUEUE, 0, 64, b).expect("a move");
            app::compute_ns(5_000);
        }
        app::write(stop, &1u32.to_le_bytes());
        threads.into_iter().for_each(join);
        assert_eq!(futex(b, linux::FUTEX_WAKE, 1000, 0, 0), Ok(0), "entries that no thread owns");
        assert_eq!(futex(a, linux::FUTEX_WAKE, 1000, 0, 0), Ok(0), "entries that no thread owns");
        0
    }))
}

/// Threads in a ring pass bytes on through pipes; what comes back is what was sent.
pub(super) fn pipes(seed: u64) -> Result<(), String> {
    const THREADS: usize = 3;
    const BYTES: usize = 20_000;
    judge(&machine(seed).run(move || {
        let pipe = || {
            let ends = map(8);
            call(linux::__NR_pipe2, &[ends, 0]).expect("a pipe");
            (u64::from(word(ends)), u64::from(word(ends + 4)))
        };
        let links: Vec<_> = (0..=THREADS).map(|_| pipe()).collect();
        let relay = move |from: u64, to: u64, own: u64| {
            let mut random = Random::new(seed ^ own << 40);
            let buffer = map(8192);
            loop {
                let got = call(linux::__NR_read, &[from, buffer, 1 + random.below(8000)]).expect("a read");
                if got == 0 {
                    break;
                }
                let mut done = 0;
                while done < got {
                    done += call(linux::__NR_write, &[to, buffer + done, got - done]).expect("a write");
                }
            }
            call(linux::__NR_close, &[to]).expect("a close");
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|own| {
                let (from, to) = (links[own].0, links[own + 1].1);
                spawn(move || relay(from, to, own as u64)).expect("a thread")
            })
            .collect();
        let (first, last) = (links[0].1, links[THREADS].0);
        let writer = spawn(move || {
            let bytes: Vec<u8> = (0..BYTES).map(|at| (at * 7) as u8).collect();
            let bytes = put(&bytes);
            let mut done = 0;
            while done < BYTES as u64 {
                done +=
                    call(linux::__NR_write, &[first, bytes + done, BYTES as u64 - done]).expect("a write");
            }
            call(linux::__NR_close, &[first]).expect("a close");
        });
        let into = map(BYTES + 4096);
        let mut done = 0;
        loop {
            let got = call(linux::__NR_read, &[last, into + done, 4096]).expect("a read");
            if got == 0 {
                break;
            }
            done += got;
        }
        threads.into_iter().for_each(join);
        join(writer.expect("a thread"));
        assert_eq!(done, BYTES as u64);
        assert!(get(into, BYTES).iter().enumerate().all(|(at, byte)| *byte == (at * 7) as u8));
        0
    }))
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

/// A thread is sent signals while it reads from a pipe: calls go on, every signal is caught, no byte is lost or doubled.
pub(super) fn signals(seed: u64) -> Result<(), String> {
    const SIGNALS: u32 = 20;
    judge(&machine(seed).run(move || {
        let handler = app::handler(|_| {
            CAUGHT.fetch_add(1, Ordering::Relaxed);
            let _ = call(linux::__NR_sched_yield, &[]);
        });
        let flags = u64::from(linux::SA_RESTORER | linux::SA_RESTART);
        let action = put(&[handler, flags, app::RESTORER, 0].map(u64::to_le_bytes).concat());
        // SIGRTMIN: each one sent waits by itself.
        const SIGNAL: u64 = 34;
        call(linux::__NR_rt_sigaction, &[SIGNAL, action, 0, 8]).expect("an action");
        let process = call(linux::__NR_getpid, &[]).expect("an id");
        let me = call(linux::__NR_gettid, &[]).expect("an id");
        let ends = map(8);
        call(linux::__NR_pipe2, &[ends, 0]).expect("a pipe");
        let (from, to) = (u64::from(word(ends)), u64::from(word(ends + 4)));
        let sender = spawn(move || {
            let mut random = Random::new(seed ^ 77);
            let byte = map(1);
            for number in 0..SIGNALS {
                call(linux::__NR_tgkill, &[process, me, SIGNAL]).expect("a signal");
                app::compute_ns(random.below(20_000));
                app::write(byte, &[number as u8]);
                assert_eq!(call(linux::__NR_write, &[to, byte, 1]), Ok(1));
            }
            call(linux::__NR_close, &[to]).expect("a close");
        });
        let into = map(64);
        let mut next = 0;
        loop {
            let got = call(linux::__NR_read, &[from, into, 64]).expect("SA_RESTART");
            if got == 0 {
                break;
            }
            for byte in get(into, got as usize) {
                assert_eq!(byte, next);
                next += 1;
            }
        }
        join(sender.expect("a thread"));
        assert_eq!(u32::from(next), SIGNALS);
        assert_eq!(CAUGHT.load(Ordering::Relaxed), SIGNALS);
        0
    }))
}
