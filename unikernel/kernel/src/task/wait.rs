//! Sleeping until a condition holds. One primitive serves futexes, files, sockets and timers.
//!
//! A lost wake-up needs a gap between looking and sleeping. [`WaitQueue::wait_until`] closes it by
//! taking the *condition*: it looks, registers, looks again, and only then sleeps.
//!
//! ```text
//!   waiter                          waker
//!   ------                          -----
//!   mark myself Blocking, enqueue   make the condition true
//!   condition()?  (second look)     wake: take a waiter from the queue,
//!   no: sleep                             make it runnable
//! ```
//!
//! Whichever of "enqueue" and "wake" takes the queue lock first, either the second look sees the
//! condition or the waker sees the waiter.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::scheduler;
use super::thread::Thread;
use crate::sync::SpinLock;

/// Why a sleep ended without its condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitError {
    /// The deadline passed.
    TimedOut,
    /// A signal wants to be delivered to this thread.
    Interrupted,
}

/// Threads that sleep until somebody wakes them.
#[derive(Default)]
pub struct WaitQueue {
    waiters: SpinLock<VecDeque<Arc<Thread>>>,
}

impl WaitQueue {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self { waiters: SpinLock::new(VecDeque::new()) }
    }

    /// Sleeps until `condition` answers `Some`, the deadline (nanoseconds since boot) passes, or
    /// a signal comes. `condition` may take locks that order before run queues; it must not sleep.
    pub fn wait_until<T>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        self.wait_with(condition, || scheduler::block(deadline_ns))
    }

    /// The same, whatever signals come; `None` if the deadline passed first.
    pub fn wait_uninterrupted<T>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.wait_with(condition, || scheduler::block_uninterrupted(deadline_ns)).ok()
    }

    fn wait_with<T>(
        &self,
        mut condition: impl FnMut() -> Option<T>,
        block: impl Fn() -> Result<(), WaitError>,
    ) -> Result<T, WaitError> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        loop {
            let me = super::current();
            me.begin_block();
            self.waiters.lock().push_back(Arc::clone(&me));
            if let Some(value) = condition() {
                me.cancel_block();
                self.remove(&me);
                return Ok(value);
            }
            let outcome = block();
            self.remove(&me);
            if let Some(value) = condition() {
                return Ok(value);
            }
            outcome?;
        }
    }

    /// Wakes the thread that has waited longest. True if there was one.
    pub fn wake_one(&self) -> bool {
        loop {
            let Some(thread) = self.waiters.lock().pop_front() else { return false };
            if scheduler::wake(&thread) {
                return true;
            }
        }
    }

    /// Wakes every waiting thread.
    pub fn wake_all(&self) {
        while self.wake_one() {}
    }

    /// True if no thread waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.lock().is_empty()
    }

    fn remove(&self, thread: &Arc<Thread>) {
        self.waiters.lock().retain(|waiter| !Arc::ptr_eq(waiter, thread));
    }
}
