//! Random system calls by several threads on what earlier calls have left: descriptors, mappings, timers, signals, futexes,
//! sockets, rings, files in memory and on a disk. `fuzz_calls FIRST-SEED ROUNDS CALLS`: each round is one seed, an empty world and
//! so many calls a thread.
//!
//! The kernel must neither panic nor hang. A call that waits is interrupted by a signal within milliseconds; a thread
//! whose call does not end for all that has found a fault, and its last calls are printed.
//!
//! - [`worker`]: a thread, and calls by the dispatcher's table; [`composed`]: calls that need structures, or care;
//!   [`signals`] and [`network`]; [`rings`]: io_uring(7); [`world`]: what the threads share; [`touch`]: memory that may not be there.

mod composed;
mod network;
mod rings;
mod signals;
mod touch;
mod values;
mod worker;
mod world;

use std::process::exit;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::call_table;
use worker::Worker;
use world::{THREADS, WORLD};

/// Threads of a round; they start others, which live shortly.
const WORKERS: usize = 3;
/// How long a call may take although it is interrupted: a busy host, a full disk.
const LONGEST_CALL: Duration = Duration::from_secs(30);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<u64>().expect("a number"));
    let mut next = |default| arguments.next().unwrap_or(default);
    let (first, rounds, calls) = (next(1), next(10), next(400));
    let table: &'static [call_table::Call] = call_table::calls().leak();
    assert!(table.len() > 150, "the dispatcher's table was not understood");
    world::prepare();
    touch::prepare();
    world::use_signal_stack(THREADS);
    for seed in first..first + rounds {
        println!("seed {seed}");
        WORLD.renew();
        signals::install_handlers();
        Worker::new(seed, WORKERS, table).populate();
        for index in 0..WORKERS {
            worker::start(Worker::new(seed, index, table), index, calls);
        }
        watch(seed);
    }
    WORLD.renew();
    println!("no fault in {rounds} rounds of {WORKERS} x {calls} calls");
}

/// Interrupts what waits until all threads are done.
fn watch(seed: u64) {
    let mut seen = [(0, Instant::now()); THREADS];
    while WORLD.seats.iter().any(|seat| seat.thread.load(Relaxed) != 0) {
        thread::sleep(Duration::from_millis(1));
        for (seat, (last, since)) in WORLD.seats.iter().zip(&mut seen) {
            let (thread, progress) = (seat.thread.load(Relaxed), seat.progress.load(Relaxed));
            if thread <= 0 || progress != *last {
                (*last, *since) = (progress, Instant::now());
                continue;
            }
            signals::interrupt(thread);
            if since.elapsed() > LONGEST_CALL {
                println!("HANG in seed {seed}");
                WORLD.seats.iter().enumerate().for_each(|(index, seat)| seat.print(index));
                exit(1);
            }
        }
    }
}
