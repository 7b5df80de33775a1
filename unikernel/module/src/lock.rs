//! A lock for what several cores change.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::abi;

/// A value that one core at a time has. Interrupts are masked wherever a module runs, so no handler can interrupt the holder; who has it
/// must not wait for anything, nor take it again.
#[derive(Debug, Default)]
pub struct Lock<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: one core at a time gets at the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Makes one around a value.
    pub const fn new(value: T) -> Self {
        Self { is_taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the value, until the guard is dropped.
    pub fn lock(&self) -> Guard<'_, T> {
        while self.is_taken.swap(true, Ordering::Acquire) {
            // SAFETY: nothing goes there, and nothing comes back. The kernel does what another core may wait for.
            unsafe { abi::uk_relax() };
        }
        Guard(self)
    }
}

/// The value of a [`Lock`].
#[derive(Debug)]
pub struct Guard<'a, T>(&'a Lock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard has the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; the guard is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}
