//! Locks. The kernel always runs with interrupts masked (see `arch`), so no lock here needs to
//! mask them: an interrupt handler can never interrupt a lock holder on the same core. What a
//! [`SpinLock`] excludes is the other cores.
//!
//! Nothing may sleep while it holds a [`SpinLock`]; `task::scheduler` checks that in debug builds.
//!
//! Lock order, outermost first:
//!
//! - `task::process` (one app, its threads, signal handlers)
//! - `file` table, then one open file, then the watches of an epoll instance
//! - `net` stack, then the NIC
//! - one pipe, counter or timer, then the watches on a file, then a ready list
//! - wait queues, futex buckets
//! - `mem::space` (regions and page tables of the app): any copy from or to the app may page-fault
//! - run queue, timers
//! - frames, heap classes
//! - console

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many spin locks are held; sleeping is allowed only at zero.
///
/// One counter serves while one core runs the kernel; it moves into the per-CPU block with the
/// second core.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// A lock that waits by spinning; the holder must not sleep.
pub struct SpinLock<T: ?Sized>(spin::mutex::SpinMutex<T>);

impl<T> SpinLock<T> {
    /// Makes an unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning until it is free.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        if cfg!(debug_assertions) {
            HELD.fetch_add(1, Ordering::Relaxed);
        }
        SpinLockGuard(self.0.lock())
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        let guard = self.0.try_lock()?;
        if cfg!(debug_assertions) {
            HELD.fetch_add(1, Ordering::Relaxed);
        }
        Some(SpinLockGuard(guard))
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Proof that a [`SpinLock`] is held.
pub struct SpinLockGuard<'a, T: ?Sized>(spin::mutex::SpinMutexGuard<'a, T>);

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Panics if the caller holds a spin lock, with the caller's location.
#[track_caller]
pub fn assert_may_sleep() {
    if cfg!(debug_assertions) {
        assert_eq!(HELD.load(Ordering::Relaxed), 0, "sleeping while a spin lock is held");
    }
}
