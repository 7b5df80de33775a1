//! Advisory locks on files: `flock`'s on the whole, `fcntl`'s on ranges of bytes. There is one
//! process, but a lock can belong to an open file description, and two of those do exclude each other.

use unikernel_fs::{HeldLock, LockKind, Owner, Progress, RangeLocks, Refusal};

use super::WaitMode;
use crate::abi::Errno;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// How many locks a call takes out, or frees, before it lets others at the table, and onto the core: the app may hold as many as
/// memory has room for, as on Linux, which has no limit of its own (`RLIMIT_LOCKS` is not enforced).
const AT_ONCE: usize = 512;

/// The owner of what `fcntl(F_SETLK)` locks: the process.
pub(crate) const PROCESS: Owner = 0;

/// One file's locks.
#[derive(Default)]
pub(crate) struct FileLocks {
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
pub(crate) enum Family {
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
    pub(crate) fn lock(&self, family: Family, wanted: HeldLock, mode: WaitMode) -> Result<(), Errno> {
        let locks = self.of(family);
        if family == Family::Whole {
            // Changing the kind of a lock is not atomic: it is given up first (flock(2)).
            locks.unlock(wanted.owner, 0, u64::MAX);
        }
        while locks.take(wanted, mode)? == Progress::More {
            scheduler::breathe();
        }
        if wanted.kind == LockKind::Shared {
            // It may have taken the place of an exclusive one.
            locks.waiters.wake_all();
        }
        Ok(())
    }

    /// Gives up what an owner holds of a range.
    pub(crate) fn unlock(&self, family: Family, owner: Owner, start: u64, end: u64) {
        self.of(family).unlock(owner, start, end);
    }

    /// What would be in the way of a lock.
    pub(crate) fn conflict(&self, family: Family, wanted: &HeldLock) -> Option<HeldLock> {
        self.of(family).table.lock().conflict(wanted)
    }

    /// An owner is gone: gives up all that it held.
    pub(crate) fn release(&self, owner: Owner) {
        for family in [Family::Whole, Family::Ranges] {
            self.of(family).release(owner);
        }
    }
}

impl Locks {
    /// Takes a lock, or goes on with that.
    fn take(&self, wanted: HeldLock, mode: WaitMode) -> Result<Progress, Errno> {
        let attempt = || match self.table.lock().lock(wanted, AT_ONCE) {
            Ok(progress) => Some(Ok(progress)),
            Err(Refusal::Conflict(_)) => None,
            Err(Refusal::TooManyOwners) => Some(Err(Errno::ENOLCK)),
        };
        match mode {
            WaitMode::NonBlocking => attempt().ok_or(Errno::EAGAIN)?,
            WaitMode::MayBlock => self.waiters.wait_until(None, attempt).map_err(|_| Errno::RESTART)?,
        }
    }

    fn unlock(&self, owner: Owner, start: u64, end: u64) {
        let mut has_changed = false;
        loop {
            let (is_changed, progress) = self.table.lock().unlock(owner, start, end, AT_ONCE);
            has_changed |= is_changed;
            if progress == Progress::Done {
                break;
            }
            scheduler::breathe();
        }
        if has_changed {
            self.waiters.wake_all();
        }
    }

    fn release(&self, owner: Owner) {
        let released = self.table.lock().release(owner);
        let Some(mut released) = released else { return };
        self.waiters.wake_all();
        while released.free(AT_ONCE) == Progress::More {
            scheduler::breathe();
        }
    }
}
