//! Advisory locks on files: `flock`'s on the whole, `fcntl`'s on ranges of bytes. There is one
//! process, but a lock can belong to an open file description, and two of those do exclude each other.

use unikernel_fs::{HeldLock, LockKind, Owner, RangeLocks};

use super::WaitMode;
use crate::sync::SpinLock;
use crate::syscall::Errno;
use crate::task::WaitQueue;

/// The owner of what `fcntl(F_SETLK)` locks: the process.
pub const PROCESS: Owner = 0;

/// One file's locks.
#[derive(Default)]
pub struct FileLocks {
    /// `flock(2)`: each covers the whole file. They and the other kind do not see each other.
    whole: Locks,
    /// `fcntl(2)`.
    ranges: Locks,
}

#[derive(Default)]
struct Locks {
    table: SpinLock<RangeLocks>,
    /// Threads that wait for somebody to let go.
    waiters: WaitQueue,
}

/// Which of the two independent families of locks is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// `flock(2)`.
    Whole,
    /// `fcntl(2)`.
    Ranges,
}

impl FileLocks {
    fn of(&self, family: Family) -> &Locks {
        match family {
            Family::Whole => &self.whole,
            Family::Ranges => &self.ranges,
        }
    }

    /// Takes a lock; waits for it or answers `EAGAIN`.
    pub fn lock(&self, family: Family, wanted: HeldLock, mode: WaitMode) -> Result<(), Errno> {
        let locks = self.of(family);
        if family == Family::Whole {
            // Changing the kind of a lock is not atomic: it is given up first (flock(2)).
            locks.unlock(wanted.owner, 0, u64::MAX);
        }
        let attempt = || locks.table.lock().lock(wanted).ok();
        match mode {
            WaitMode::NonBlocking => attempt().ok_or(Errno::EAGAIN)?,
            WaitMode::MayBlock => locks.waiters.wait_until(None, attempt).map_err(|_| Errno::RESTART)?,
        }
        if wanted.kind == LockKind::Shared {
            // It may have taken the place of an exclusive one.
            locks.waiters.wake_all();
        }
        Ok(())
    }

    /// Gives up what an owner holds of a range.
    pub fn unlock(&self, family: Family, owner: Owner, start: u64, end: u64) {
        self.of(family).unlock(owner, start, end);
    }

    /// What would be in the way of a lock.
    pub fn conflict(&self, family: Family, wanted: &HeldLock) -> Option<HeldLock> {
        self.of(family).table.lock().conflict(wanted)
    }

    /// An owner is gone: gives up all that it held.
    pub fn release(&self, owner: Owner) {
        for family in [Family::Whole, Family::Ranges] {
            self.of(family).unlock(owner, 0, u64::MAX);
        }
    }
}

impl Locks {
    fn unlock(&self, owner: Owner, start: u64, end: u64) {
        let has_changed = {
            let mut table = self.table.lock();
            !table.is_empty() && table.unlock(owner, start, end)
        };
        if has_changed {
            self.waiters.wake_all();
        }
    }
}
