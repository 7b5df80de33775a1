//! Threads: handing over, creating, sharing the cores.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use crate::best_ns;

/// Pins the calling thread to one core.
fn pin(core: usize) {
    // SAFETY: the set is whole, and the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word lives as long as the borrow; a null time-out means for ever.
    unsafe {
        let timeout = std::ptr::null::<libc::timespec>();
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, timeout);
    }
}

/// Waits until the word is `turn`, sleeping.
fn wait_for(word: &AtomicU32, turn: u32) {
    while word.load(Ordering::Acquire) != turn {
        futex(word, libc::FUTEX_WAIT, 1 - turn);
    }
}

fn pass(word: &AtomicU32, turn: u32) {
    word.store(turn, Ordering::Release);
    futex(word, libc::FUTEX_WAKE, 1);
}

/// A turn given to another thread on the same core and back, by futexes.
pub(crate) fn futex_round_trip() -> f64 {
    const COUNT: u32 = 2_000;
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            for _ in 0..COUNT * crate::ROUNDS as u32 {
                wait_for(&word, 1);
                pass(&word, 0);
            }
        });
        let measured = scope.spawn(|| {
            pin(0);
            best_ns(COUNT, |count| {
                for _ in 0..count {
                    pass(&word, 1);
                    wait_for(&word, 0);
                }
            })
        });
        measured.join().expect("the measuring thread ends")
    })
}

/// A thread that does nothing, made and waited for.
pub(crate) fn create_and_join() -> f64 {
    best_ns(300, |count| {
        for _ in 0..count {
            thread::spawn(|| {}).join().expect("the thread ends");
        }
    })
}

/// Keeps a core busy for a fixed number of steps.
fn work() -> u64 {
    (0..30_000_000u64).fold(1, |sum, step| black_box(sum.wrapping_mul(6364136223846793005) ^ step))
}

fn time_of(threads: usize) -> f64 {
    let barrier = Arc::new(Barrier::new(threads));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                barrier.wait();
                let start = Instant::now();
                black_box(work());
                start.elapsed().as_secs_f64()
            })
        })
        .collect();
    workers.into_iter().map(|worker| worker.join().expect("the worker ends")).fold(0.0, f64::max)
}

/// How many times the work of one thread two threads do in the same time; 1 on one core.
pub(crate) fn speed_up() -> f64 {
    // One after the other, so that a slow spell of the machine hits both.
    let ratios = (0..crate::ROUNDS).map(|_| 2.0 * time_of(1) / time_of(2));
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn free_kib() -> f64 {
    // SAFETY: the structure is whole, and the call fills it.
    unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        assert_eq!(libc::sysinfo(&mut info), 0);
        info.freeram as f64 * f64::from(info.mem_unit) / 1024.0
    }
}

/// 1,000 threads alive at once, and 10,000 one after another; answers the memory that did not come
/// back, in KiB. Kernels keep some for the next threads, so the first round does not count.
pub(crate) fn many() -> f64 {
    many_at_once();
    many_in_turn(1_000);
    let before = free_kib();
    many_at_once();
    many_in_turn(10_000);
    before - free_kib()
}

fn many_at_once() {
    const COUNT: usize = 1_000;
    let barrier = Arc::new(Barrier::new(COUNT + 1));
    let threads: Vec<_> = (0..COUNT)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            let builder = thread::Builder::new().stack_size(64 * 1024);
            let wait = move || {
                barrier.wait();
            };
            builder.spawn(wait).expect("a thread")
        })
        .collect();
    barrier.wait();
    threads.into_iter().for_each(|thread| thread.join().expect("the thread ends"));
}

fn many_in_turn(count: usize) {
    for _ in 0..count {
        thread::spawn(|| {}).join().expect("the thread ends");
    }
}
