//! Locks. The kernel always runs with interrupts masked (see `arch`), so no lock here needs to
//! mask them: an interrupt handler can never interrupt a lock holder on the same core. What a
//! [`SpinLock`] excludes is the other cores.
//!
//! A core that waits for a lock still forgets translations when another core asks it to
//! (`arch::tlb`): the asker may hold the very lock.
//!
//! Nothing may sleep while it holds a [`SpinLock`]. Debug builds panic where that happens, and where
//! locks are taken in an order that contradicts an earlier one ([`lock_order`]).
//!
//! The lock that sleeps while it waits is `task::mutex`: for work that waits for a disk.
//!
//! Lock order, outermost first:
//!
//! - sleeping locks: an open file's offset, an inode's writers, its transfers, then a filesystem
//! - `task::process` (one app, its threads, signal handlers)
//! - `file` table, then one open file, then the watches of an epoll instance
//! - `net` stack, then the NIC, then the capture of its frames; the streams to the host
//! - one pipe, counter or timer, then the watches on a file, then a ready list
//! - wait queues, futex buckets; with a bucket held, the list of threads is looked at, as nothing comes after that
//! - `mem::space` (regions and page tables of the app): any copy from or to the app may page-fault
//! - a thread's signals
//! - run queues (one at a time), timers of a core (one at a time)
//! - frames, heap classes
//! - console

pub mod lock_order;

use core::fmt;
use core::ops::{Deref, DerefMut};

use spin::RelaxStrategy;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::arch::{cpu, tlb};
use crate::platform::events::{self, Kind};
use lock_order::{Class, Nesting};

/// What a core does while it waits for a lock.
struct ServeOthers;

impl RelaxStrategy for ServeOthers {
    #[inline]
    fn relax() {
        cpu::relax();
        tlb::serve();
    }
}

/// A lock that waits by spinning; the holder must not sleep.
pub struct SpinLock<T: ?Sized> {
    class: Class,
    mutex: SpinMutex<T, ServeOthers>,
}

impl<T> SpinLock<T> {
    /// Makes an unlocked lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { class: Class::here(), mutex: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning until it is free.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        cpu::before_lock();
        self.class.before_wait(Nesting::Never);
        self.guard(self.mutex.try_lock().unwrap_or_else(|| self.spin()))
    }

    /// Takes a lock while another that was made at the same place may be held. The caller knows why
    /// such locks are never taken in a circle, and says so.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> SpinLockGuard<'_, T> {
        cpu::before_lock();
        self.class.before_wait(Nesting::Ordered);
        self.guard(self.mutex.try_lock().unwrap_or_else(|| self.spin()))
    }

    /// Waits for the lock, in a function of its own: who finds it free, as nearly all do, saves no registers for this.
    #[cold]
    fn spin(&self) -> SpinMutexGuard<'_, T, ServeOthers> {
        events::note_spin(Kind::LockBegin);
        let guard = self.mutex.lock();
        events::note_spin(Kind::LockEnd);
        guard
    }

    /// What is in it, for its only owner.
    pub fn get_mut(&mut self) -> &mut T {
        self.mutex.get_mut()
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        self.mutex.try_lock().map(|guard| self.guard(guard))
    }

    #[inline]
    fn guard<'a>(&'a self, guard: SpinMutexGuard<'a, T, ServeOthers>) -> SpinLockGuard<'a, T> {
        self.class.taken();
        SpinLockGuard { class: &self.class, guard }
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mutex.fmt(f)
    }
}

impl<T: Default> Default for SpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Proof that a [`SpinLock`] is held.
pub struct SpinLockGuard<'a, T: ?Sized> {
    class: &'a Class,
    guard: SpinMutexGuard<'a, T, ServeOthers>,
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // The lock itself is released just after this, when the inner guard is dropped.
        self.class.released();
    }
}

/// Panics in debug builds if the caller holds a spin lock, with the caller's location.
#[inline]
#[track_caller]
pub fn assert_no_spin_lock() {
    assert_eq!(lock_order::held_count(), 0, "sleeping while a spin lock is held");
}
