//! A lock whose waiters sleep, and whose holder may: for what waits for a disk with state in its
//! hands. It must not be taken while a [`SpinLock`](crate::sync::SpinLock) is held, nor by an interrupt
//! handler or an idle core.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{Ordering, fence};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::thread::Thread;
use super::{WaitQueue, scheduler};
use crate::platform::events::{self, Kind};
use crate::sync::lock_order::Class;

/// A lock that waits by sleeping.
pub(crate) struct Mutex<T: ?Sized> {
    class: Class,
    waiters: WaitQueue,
    /// Never waited for, only tried.
    value: SpinMutex<T>,
}

impl<T> Mutex<T> {
    /// Makes an unlocked lock around `value`.
    #[track_caller]
    pub(crate) const fn new(value: T) -> Self {
        Self { class: Class::here(), waiters: WaitQueue::new(), value: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, sleeping until it is free. Signals do not end the sleep.
    ///
    /// # Panics
    ///
    /// If it is taken, and the caller cannot sleep: before the first thread runs, there is nobody to
    /// wait for.
    #[inline]
    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        super::scheduler::assert_may_sleep();
        with_thread(|thread| thread.locks.before_wait(&self.class));
        let value = self.value.try_lock().unwrap_or_else(|| self.wait());
        self.guard(value)
    }

    #[cold]
    #[track_caller]
    fn wait(&self) -> SpinMutexGuard<'_, T> {
        assert!(scheduler::can_block(), "a sleeping lock is taken where nobody may sleep");
        note_wait(Kind::LockBegin);
        let value = self.waiters.wait_uninterrupted(None, || self.value.try_lock());
        note_wait(Kind::LockEnd);
        value.expect("there is no deadline")
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock().map(|value| self.guard(value))
    }

    /// True if somebody holds it, who may let go of it at any time.
    pub(crate) fn is_locked(&self) -> bool {
        let is_locked = self.value.is_locked();
        fence(Ordering::Acquire);
        is_locked
    }

    #[inline]
    fn guard<'a>(&'a self, value: SpinMutexGuard<'a, T>) -> MutexGuard<'a, T> {
        with_thread(|thread| thread.locks.taken(&self.class));
        MutexGuard { value, _release: Release { class: &self.class, waiters: &self.waiters } }
    }
}

/// Notes that a thread waits for a lock, or does no more: in one place for all the types of locks.
#[cold]
#[inline(never)]
fn note_wait(kind: Kind) {
    events::note(kind, 0, 0, 0);
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Runs `work` for the running thread; nothing before there is one.
#[inline]
fn with_thread(work: impl FnOnce(&Thread)) {
    if cfg!(debug_assertions) && unikernel_hal::thread::has_current() {
        work(&super::current());
    }
}

/// Proof that a [`Mutex`] is held.
pub(crate) struct MutexGuard<'a, T: ?Sized> {
    value: SpinMutexGuard<'a, T>,
    /// Behind the value: fields are dropped in this order.
    _release: Release<'a>,
}

/// What has to be done once the lock is free.
struct Release<'a> {
    class: &'a Class,
    waiters: &'a WaitQueue,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl Drop for Release<'_> {
    #[inline]
    fn drop(&mut self) {
        with_thread(|thread| thread.locks.released(self.class));
        self.waiters.wake_one();
    }
}
