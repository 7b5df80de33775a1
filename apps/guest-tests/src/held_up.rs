//! What tests of long calls share: a thread that wakes up again and again, and is to do so in time whatever others call. How long
//! it is kept waiting at most is held against how long the call takes: who waits for all of it has been held up.
//!
//! A host that is busy can hold up anybody, so the best of some rounds counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
/// For how long there are more rounds, where one is short: a busy host is busy for a while.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the other thread may always wait: a call that takes no longer than some of these proves nothing.
const SHORT: Duration = Duration::from_millis(3);
/// The part of a call that it may wait.
const PART: u32 = 2;
/// How long the other thread sleeps each time.
const NAP: Duration = Duration::from_micros(300);

/// The thread that is not to be held up.
pub struct Other {
    /// The longest that it was, since that was set to 0, in nanoseconds.
    longest_ns: Arc<AtomicU64>,
    /// Its rounds.
    rounds: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Other {
    /// Starts it. In each of its rounds it does what `make` has made there, too.
    pub fn start<R: FnMut()>(make: impl FnOnce() -> R + Send + 'static) -> Self {
        let (longest_ns, rounds, is_over) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (longest, round, over) = (Arc::clone(&longest_ns), Arc::clone(&rounds), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut act = make();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(NAP);
                act();
                let took = start.elapsed().saturating_sub(NAP);
                longest.fetch_max(took.as_nanos() as u64, Ordering::SeqCst);
                round.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { longest_ns, rounds, is_over, thread: Some(thread) }
    }

    /// Waits for the end of the round that is under way, and for one more.
    fn wait(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        while self.rounds.load(Ordering::SeqCst) < before + 2 {
            thread::sleep(NAP);
        }
    }

    /// Checks that a call does not hold it up, in some round.
    pub fn is_not_held_up<T>(&self, what: &str, mut prepare: impl FnMut() -> T, mut call: impl FnMut(T)) {
        let mut seen = Vec::new();
        let begin = Instant::now();
        while seen.len() < ROUNDS || begin.elapsed() < PATIENCE {
            let prepared = prepare();
            self.wait();
            self.longest_ns.store(0, Ordering::SeqCst);
            let start = Instant::now();
            call(prepared);
            let took = start.elapsed();
            self.wait();
            let waited = Duration::from_nanos(self.longest_ns.load(Ordering::SeqCst));
            seen.push((took, waited));
            if waited <= SHORT.max(took / PART) {
                println!("{what}: {took:?}, the other waited {waited:?}");
                return;
            }
        }
        println!("{what}: another thread is held up: (the call took, the other waited) {seen:?}");
        std::process::exit(1);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
