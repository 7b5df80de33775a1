//! How late a thread wakes up from a timed sleep, as `cyclictest` measures it: alone, and while other
//! threads compute on every core. Prints p50, p99 and the most, in microseconds; fails if a wake-up is
//! so late that it must have been lost for a while, or a busy thread kept its core for too long.
//!
//! The bounds leave room for an emulator whose processors are taken away by the host now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use guest_tests::check;

const SLEEPS: usize = 300;
const PERIOD: Duration = Duration::from_millis(2);
/// A slice is 4 ms: with one busy thread more than cores, a wake-up waits for one at most.
const MOST_P99_IDLE: Duration = Duration::from_millis(20);
const MOST_P99_BUSY: Duration = Duration::from_millis(60);
const MOST: Duration = Duration::from_millis(1_000);

fn main() {
    let cores = thread::available_parallelism().unwrap().get();
    let idle = measure();
    show("idle", &idle);
    let is_over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..cores)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    hint::black_box((0..1_000u64).sum::<u64>());
                }
            })
        })
        .collect();
    let loaded = measure();
    is_over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    show("busy", &loaded);
    check!(percentile(&idle, 99) < MOST_P99_IDLE && percentile(&idle, 100) < MOST);
    check!(percentile(&loaded, 99) < MOST_P99_BUSY && percentile(&loaded, 100) < MOST);
}

/// Sleeps until fixed points in time; answers how late each wake-up was, sorted.
fn measure() -> Vec<Duration> {
    let mut late = Vec::with_capacity(SLEEPS);
    let mut wanted = Instant::now();
    for _ in 0..SLEEPS {
        wanted += PERIOD;
        thread::sleep(wanted.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        late.push(now.saturating_duration_since(wanted));
        // A late wake-up is not held against the next one.
        wanted = wanted.max(now);
    }
    late.sort();
    late
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn show(name: &str, sorted: &[Duration]) {
    let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(sorted, percent).as_micros());
    println!("wake-up latency, {name}: p50 {p50} us, p99 {p99} us, max {most} us");
}
