//! A lock whose waiters sleep, and whose holder may: for what waits for a disk with state in its
//! hands. It must not be taken while a [`SpinLock`](crate::sync::SpinLock) is held, nor by an interrupt
//! handler or an idle core.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use super::thread::Thread;
use super::{WaitQueue, scheduler};
use crate::arch::cpu::this_cpu;
use crate::sync::lock_order::Class;

/// A lock that waits by sleeping.
pub struct Mutex<T: ?Sized> {
    class: Class,
    is_locked: AtomicBool,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through the guard, of which there is one at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// Makes an unlocked lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            class: Class::here(),
            is_locked: AtomicBool::new(false),
            waiters: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
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
    pub fn lock(&self) -> MutexGuard<'_, T> {
        super::scheduler::assert_may_sleep();
        with_thread(|thread| thread.locks.before_wait(&self.class));
        if !self.try_take() {
            assert!(scheduler::can_block(), "a sleeping lock is taken where nobody may sleep");
            self.waiters.wait_uninterrupted(None, || self.try_take().then_some(()));
        }
        self.guard()
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.try_take().then(|| self.guard())
    }

    /// True if somebody holds it, who may let go of it at any time.
    pub fn is_locked(&self) -> bool {
        self.is_locked.load(Ordering::Acquire)
    }

    #[inline]
    fn try_take(&self) -> bool {
        self.is_locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        with_thread(|thread| thread.locks.taken(&self.class));
        MutexGuard { mutex: self }
    }
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
    if cfg!(debug_assertions) && !this_cpu().current_thread().is_null() {
        work(&super::current());
    }
}

/// Proof that a [`Mutex`] is held.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this is the one guard.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and it is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        with_thread(|thread| thread.locks.released(&self.mutex.class));
        self.mutex.is_locked.store(false, Ordering::Release);
        self.mutex.waiters.wake_one();
    }
}
