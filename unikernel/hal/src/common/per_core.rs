//! One value a core, each on cache lines of its own, so that cores do not slow each other down.

use core::ops::Deref;

use unikernel_sched::MAX_CORES;

use crate::arch::cpu::this_cpu;

/// A value with cache lines of its own.
#[repr(align(64))]
pub struct Line<T>(pub T);

/// One `T` for each core. It dereferences to that of the core which runs the code; others can look
/// at it too, so a `T` is atomic or locked. [`per_core!`](crate::per_core) makes one.
pub struct PerCore<T>(pub [Line<T>; MAX_CORES]);

/// Makes a [`PerCore`] from a constant expression.
#[macro_export]
macro_rules! per_core {
    ($value:expr) => {
        $crate::arch::per_core::PerCore(
            [const { $crate::arch::per_core::Line($value) }; unikernel_sched::MAX_CORES],
        )
    };
}

impl<T> PerCore<T> {
    /// The value of one core.
    #[inline]
    pub fn of(&self, core: usize) -> &T {
        &self.0[core].0
    }

    /// The values of all cores that there could be.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

impl<T> Deref for PerCore<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.of(this_cpu().index())
    }
}
