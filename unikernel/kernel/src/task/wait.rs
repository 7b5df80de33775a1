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
//! A full fence stands between the two steps of each side. So either the second look sees the condition, or the
//! waker sees that the queue is not empty, and then its lock orders the rest. Most queues are empty most of the time,
//! and a waker does not write to them (Linux: `wq_has_sleeper`).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use super::scheduler;
use super::thread::Thread;
use crate::sync::SpinLock;

/// Why a sleep ended without its condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitError {
    /// The deadline passed.
    TimedOut,
    /// A signal wants to be delivered to this thread.
    Interrupted,
}

/// Threads that sleep until somebody wakes them.
#[derive(Default)]
pub(crate) struct WaitQueue {
    waiters: SpinLock<VecDeque<Arc<Thread>>>,
    /// How many there are. Changed with the lock held.
    count: AtomicUsize,
}

impl WaitQueue {
    /// Makes an empty queue.
    pub(crate) const fn new() -> Self {
        Self { waiters: SpinLock::new(VecDeque::new()), count: AtomicUsize::new(0) }
    }

    /// Sleeps until `condition` answers `Some`, the deadline (nanoseconds since boot) passes, or
    /// a signal comes. `condition` may take locks that order before run queues; it must not sleep.
    pub(crate) fn wait_until<T>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        self.wait_with(condition, || scheduler::block(deadline_ns))
    }

    /// The same, whatever signals come; `None` if the deadline passed first.
    pub(crate) fn wait_uninterrupted<T>(
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
            self.change(|waiters| waiters.push_back(Arc::clone(&me)));
            fence(Ordering::SeqCst);
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
    #[inline]
    pub(crate) fn wake_one(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.is_empty() && self.wake_first()
    }

    #[cold]
    fn wake_first(&self) -> bool {
        loop {
            let Some(thread) = self.change(VecDeque::pop_front) else { return false };
            if scheduler::wake(&thread) {
                return true;
            }
        }
    }

    /// Wakes every waiting thread.
    #[inline]
    pub(crate) fn wake_all(&self) {
        while self.wake_one() {}
    }

    /// True if no thread waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn remove(&self, thread: &Arc<Thread>) {
        self.change(|waiters| waiters.retain(|waiter| !Arc::ptr_eq(waiter, thread)));
    }

    fn change<R>(&self, change: impl FnOnce(&mut VecDeque<Arc<Thread>>) -> R) -> R {
        let mut waiters = self.waiters.lock();
        let result = change(&mut waiters);
        self.count.store(waiters.len(), Ordering::Relaxed);
        result
    }
}
