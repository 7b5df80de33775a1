//! Where a thread stands between running and sleeping.
//!
//! ```text
//!   sleeper                              waker
//!   -------                              -----
//!   announce (exchange)                  make the condition true
//!   look at the condition once more      claim (exchange)
//!   it does not hold: leave the core     it was announced: queue the sleeper
//! ```
//!
//! Both sides *exchange* the state, so one of them reads what the other wrote, and with it sees all
//! that was done before: if the claim came first, the sleeper's look finds the condition true; if the
//! announcement did, the waker queues the sleeper. Of several wakers one wins, so it is queued once.

use crate::atomic::{AtomicBool, AtomicU8, Ordering};

const RUNNABLE: u8 = 0;
const BLOCKED: u8 = 1;

/// One thread's state: running or queued, about to sleep or asleep, or dead.
#[derive(Debug)]
pub struct SleepState {
    state: AtomicU8,
    is_dead: AtomicBool,
}

impl SleepState {
    /// A thread that can run.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(RUNNABLE), is_dead: AtomicBool::new(false) }
    }

    /// A thread that can run.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { state: AtomicU8::new(RUNNABLE), is_dead: AtomicBool::new(false) }
    }

    /// Announces that the running thread will sleep. From here on, a waker may claim it.
    #[inline]
    pub fn begin_block(&self) {
        self.state.swap(BLOCKED, Ordering::AcqRel);
    }

    /// True if the thread has announced that it will sleep and nobody has claimed it: for checks.
    pub fn is_announced(&self) -> bool {
        self.state.load(Ordering::Relaxed) == BLOCKED
    }

    /// Takes the announcement back. False if a waker has claimed the thread already: it is on a
    /// run queue or will be, so the caller must leave the core as if it slept.
    #[must_use = "a claimed thread must give up its core"]
    #[inline]
    pub fn cancel_block(&self) -> bool {
        self.state.swap(RUNNABLE, Ordering::AcqRel) == BLOCKED
    }

    /// Claims a sleeper. True if the caller must put it on a run queue.
    #[must_use = "a claimed thread must be queued"]
    #[inline]
    pub fn claim(&self) -> bool {
        self.state.swap(RUNNABLE, Ordering::AcqRel) == BLOCKED
    }

    /// Marks the end: the thread is never queued again.
    pub fn mark_dead(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    /// True after [`Self::mark_dead`].
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }
}

impl Default for SleepState {
    fn default() -> Self {
        Self::new()
    }
}
