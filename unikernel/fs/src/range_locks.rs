//! Byte-range locks on one file (fcntl(2)): who may not have a range that somebody else has.

use alloc::collections::BTreeMap;

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

/// What an owner holds from one byte on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    /// One past the last byte.
    end: u64,
    kind: LockKind,
}

/// What one owner holds, by first byte: no two overlap, and none that touch are of the same kind.
type Held = BTreeMap<u64, Span>;

/// All locks on one file. However many an owner holds, taking or giving up one looks at those that it meets.
#[derive(Clone, Default, Debug)]
pub struct RangeLocks {
    owners: BTreeMap<Owner, Held>,
}

/// What is held of a range, lowest first.
fn overlapping(held: &Held, start: u64, end: u64) -> impl Iterator<Item = (u64, Span)> {
    let before = held.range(..start).next_back().filter(|(_, span)| span.end > start);
    // An empty range would be none for the map.
    let from = if start < end { held.range(start..end) } else { held.range(start..start) };
    before.into_iter().chain(from).map(|(start, span)| (*start, *span))
}

/// Takes a range out.
fn cut(held: &mut Held, start: u64, end: u64) -> bool {
    let mut has_cut = false;
    loop {
        let met = overlapping(held, start, end).next();
        let Some((at, span)) = met else { return has_cut };
        has_cut = true;
        held.remove(&at);
        if at < start {
            held.insert(at, Span { end: start, ..span });
        }
        if span.end > end {
            held.insert(end, span);
        }
    }
}

/// Puts a range in where there is none, in one with its neighbours of the same kind.
fn put(held: &mut Held, start: u64, end: u64, kind: LockKind) {
    let (mut start, mut end) = (start, end);
    if let Some((&at, span)) = held.range(..start).next_back()
        && *span == (Span { end: start, kind })
    {
        held.remove(&at);
        start = at;
    }
    if let Some(span) = held.get(&end).copied().filter(|span| span.kind == kind) {
        held.remove(&end);
        end = span.end;
    }
    held.insert(start, Span { end, kind });
}

impl RangeLocks {
    /// Makes an empty table.
    pub const fn new() -> Self {
        Self { owners: BTreeMap::new() }
    }

    /// A lock of somebody else that is in the way of `wanted`.
    pub fn conflict(&self, wanted: &HeldLock) -> Option<HeldLock> {
        let is_in_the_way =
            |span: &Span| LockKind::Exclusive == span.kind || wanted.kind == LockKind::Exclusive;
        let others = self.owners.iter().filter(|(owner, _)| **owner != wanted.owner);
        let firsts = others.filter_map(|(&owner, held)| {
            let mut met = overlapping(held, wanted.start, wanted.end).filter(|(_, span)| is_in_the_way(span));
            met.next().map(|(start, span)| HeldLock { owner, start, end: span.end, kind: span.kind })
        });
        firsts.min_by_key(|lock| lock.start)
    }

    /// Takes a lock, in the place of what its owner held of the range before; or answers what is in
    /// the way, and nothing has changed.
    pub fn lock(&mut self, wanted: HeldLock) -> Result<(), HeldLock> {
        if let Some(conflict) = self.conflict(&wanted) {
            return Err(conflict);
        }
        if wanted.start < wanted.end {
            let held = self.owners.entry(wanted.owner).or_default();
            cut(held, wanted.start, wanted.end);
            put(held, wanted.start, wanted.end, wanted.kind);
        }
        Ok(())
    }

    /// Gives up what `owner` holds of a range. True if that was anything.
    pub fn unlock(&mut self, owner: Owner, start: u64, end: u64) -> bool {
        let Some(held) = self.owners.get_mut(&owner) else { return false };
        let has_cut = cut(held, start, end);
        if held.is_empty() {
            self.owners.remove(&owner);
        }
        has_cut
    }

    /// Gives up all that `owner` holds. True if that was anything.
    pub fn release(&mut self, owner: Owner) -> bool {
        self.owners.remove(&owner).is_some()
    }

    /// True if nobody holds a lock.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
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

    #[test]
    fn many_locks_of_one_owner_take_no_longer_each() {
        let mut locks = RangeLocks::new();
        for start in (0..600_000).step_by(2) {
            locks.lock(HeldLock { owner: 1, start, end: start + 1, kind: LockKind::Exclusive }).unwrap();
        }
        let other = HeldLock { owner: 2, start: 1, end: 2, kind: LockKind::Exclusive };
        assert_eq!(locks.lock(other), Ok(()));
        for start in (0..600_000).step_by(2) {
            assert!(locks.unlock(1, start, start + 1));
        }
        assert!(locks.release(2) && locks.is_empty());
    }

    #[test]
    fn neighbours_of_one_kind_are_one_lock() {
        let mut locks = RangeLocks::new();
        for (start, end) in [(4, 6), (0, 2), (2, 4), (6, u64::MAX)] {
            locks.lock(HeldLock { owner: 1, start, end, kind: LockKind::Shared }).unwrap();
        }
        let wanted = HeldLock { owner: 2, start: 3, end: 5, kind: LockKind::Exclusive };
        let all = HeldLock { owner: 1, start: 0, end: u64::MAX, kind: LockKind::Shared };
        assert_eq!(locks.conflict(&wanted), Some(all));
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
