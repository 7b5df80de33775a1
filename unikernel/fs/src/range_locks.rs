//! Byte-range locks on one file (fcntl(2)): who may not have a range that somebody else has.

use alloc::vec::Vec;

/// Who holds a lock. Locks of one owner never conflict.
pub type Owner = u64;

/// What a lock lets others do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Others may share it.
    Shared,
    /// Others may not have it.
    Exclusive,
}

/// A lock that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldLock {
    /// Who holds it.
    pub owner: Owner,
    /// Its first byte.
    pub start: u64,
    /// One past its last byte; `u64::MAX` for the end of the file, wherever that will be.
    pub end: u64,
    /// What it lets others do.
    pub kind: LockKind,
}

impl HeldLock {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }

    fn conflicts(&self, wanted: &Self) -> bool {
        self.owner != wanted.owner
            && self.overlaps(wanted.start, wanted.end)
            && (self.kind == LockKind::Exclusive || wanted.kind == LockKind::Exclusive)
    }
}

/// All locks on one file.
#[derive(Clone, Default, Debug)]
pub struct RangeLocks {
    held: Vec<HeldLock>,
}

impl RangeLocks {
    /// Makes an empty table.
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// A lock of somebody else that is in the way of `wanted`.
    pub fn conflict(&self, wanted: &HeldLock) -> Option<HeldLock> {
        self.held.iter().filter(|held| held.conflicts(wanted)).min_by_key(|held| held.start).copied()
    }

    /// Takes a lock, in the place of what its owner held of the range before; or answers what is in
    /// the way, and nothing has changed.
    pub fn lock(&mut self, wanted: HeldLock) -> Result<(), HeldLock> {
        if let Some(conflict) = self.conflict(&wanted) {
            return Err(conflict);
        }
        self.unlock(wanted.owner, wanted.start, wanted.end);
        self.held.push(wanted);
        Ok(())
    }

    /// Gives up what `owner` holds of a range. True if that was anything.
    pub fn unlock(&mut self, owner: Owner, start: u64, end: u64) -> bool {
        let (cut, mut kept): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|held| held.owner == owner && held.overlaps(start, end));
        for held in &cut {
            if held.start < start {
                kept.push(HeldLock { end: start, ..*held });
            }
            if held.end > end {
                kept.push(HeldLock { start: end, ..*held });
            }
        }
        self.held = kept;
        !cut.is_empty()
    }

    /// Gives up all that `owner` holds. True if that was anything.
    pub fn release(&mut self, owner: Owner) -> bool {
        self.unlock(owner, 0, u64::MAX)
    }

    /// True if nobody holds a lock.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: u64 = 24;

    fn kind(is_exclusive: bool) -> LockKind {
        if is_exclusive { LockKind::Exclusive } else { LockKind::Shared }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut locks = RangeLocks::new();
        locks.lock(HeldLock { owner: 1, start: 0, end: 10, kind: LockKind::Exclusive }).unwrap();
        assert!(locks.unlock(1, 4, 6));
        let other = |start, end| HeldLock { owner: 2, start, end, kind: LockKind::Shared };
        assert!(locks.conflict(&other(3, 4)).is_some() && locks.conflict(&other(6, 7)).is_some());
        assert_eq!(locks.lock(other(4, 6)), Ok(()));
    }

    proptest! {
        /// Against a model that has one entry for each byte and owner.
        #[test]
        fn agrees_with_locking_single_bytes(
            steps in prop::collection::vec(
                (0..3u64, 0..BYTES, 1..BYTES, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut locks = RangeLocks::new();
            let mut model = [[None::<LockKind>; BYTES as usize * 2]; 3];
            for (owner, start, len, is_lock, is_exclusive) in steps {
                let (end, wanted) = (start + len, kind(is_exclusive));
                let bytes = start as usize..end as usize;
                if is_lock {
                    let is_free = (0..3).filter(|&other| other != owner as usize).all(|other| {
                        model[other][bytes.clone()].iter().all(|held| match held {
                            None => true,
                            Some(held) => *held == LockKind::Shared && wanted == LockKind::Shared,
                        })
                    });
                    let outcome = locks.lock(HeldLock { owner, start, end, kind: wanted });
                    prop_assert_eq!(outcome.is_ok(), is_free);
                    if is_free {
                        model[owner as usize][bytes].fill(Some(wanted));
                    }
                } else {
                    let had = model[owner as usize][bytes.clone()].iter().any(Option::is_some);
                    prop_assert_eq!(locks.unlock(owner, start, end), had);
                    model[owner as usize][bytes].fill(None);
                }
            }
            (0..3).for_each(|owner| { locks.release(owner); });
            prop_assert!(locks.is_empty());
        }
    }
}
