//! The address space's lock, with turns: who works in pieces lets go of it between two, but on another core it would be taken
//! again before whoever waits there has seen that it is free.

use crate::arch::cpu;
use core::sync::atomic::{AtomicU32, Ordering};

use super::Space;
use crate::arch::tlb;
use crate::platform::time;
use crate::sync::{SpinLock, SpinLockGuard};

/// How long somebody else may take to have a turn: the host may have taken its processor away.
const MOST_NS: u64 = 1_000_000;

pub(super) struct SpaceLock {
    space: SpinLock<Space>,
    /// Cores that wait.
    waiting: AtomicU32,
    /// Turns of those that have waited, modulo 2^32.
    turns: AtomicU32,
}

impl SpaceLock {
    #[track_caller]
    pub(super) const fn new(space: Space) -> Self {
        Self { space: SpinLock::new(space), waiting: AtomicU32::new(0), turns: AtomicU32::new(0) }
    }

    /// As [`SpinLock::lock`].
    #[inline]
    #[track_caller]
    pub(super) fn lock(&self) -> SpinLockGuard<'_, Space> {
        self.space.try_lock().unwrap_or_else(|| self.wait())
    }

    /// As [`SpinLock::try_lock`].
    pub(super) fn try_lock(&self) -> Option<SpinLockGuard<'_, Space>> {
        self.space.try_lock()
    }

    #[cold]
    #[track_caller]
    fn wait(&self) -> SpinLockGuard<'_, Space> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.space.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
        guard
    }

    /// If another core waits for the lock, which the caller does not hold, lets it have its turn.
    pub(super) fn let_others(&self) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let before = self.turns.load(Ordering::Relaxed);
        let end_ns = time::now_ns() + MOST_NS;
        while self.turns.load(Ordering::Relaxed) == before && time::now_ns() < end_ns {
            cpu::relax();
            tlb::serve();
        }
    }
}
