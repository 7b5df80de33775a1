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

/// What one owner holds of one kind: ends by first byte. No two overlap or touch.
type Spans = BTreeMap<u64, u64>;

/// All locks on one file. However many an owner holds, a call looks at those that it meets, and changes no more than its
/// caller allows: who holds a lock of the kernel meanwhile can let go of it in between.
#[derive(Clone, Default, Debug)]
pub struct RangeLocks {
    /// By owner. What an owner holds is in both maps only while it changes its kind.
    exclusive: BTreeMap<Owner, Spans>,
    shared: BTreeMap<Owner, Spans>,
    /// Locks that are held, but what they take the place of has not been taken out yet.
    replacing: BTreeMap<Owner, HeldLock>,
}

/// Whether a call has done all of its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All.
    Done,
    /// It must be called again.
    More,
}

/// Why a lock is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Somebody else's is in the way.
    Conflict(HeldLock),
    /// [`RangeLocks::MAX_OWNERS`] hold locks on the file.
    TooManyOwners,
}

/// Locks that nobody holds any more, to be freed.
#[derive(Debug)]
pub struct Released {
    spans: [Spans; 2],
}

/// What is held of a range, lowest first.
fn overlapping(spans: &Spans, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let before = spans.range(..start).next_back().filter(|(_, until)| **until > start);
    // An empty range would be none for the map.
    let from = if start < end { spans.range(start..end) } else { spans.range(start..start) };
    before.into_iter().chain(from).map(|(start, end)| (*start, *end))
}

/// True if something is held of a range: one look, where [`overlapping`] takes two.
fn is_met(spans: &Spans, start: u64, end: u64) -> bool {
    spans.range(..end).next_back().is_some_and(|(_, until)| *until > start)
}

/// Takes a range out, as far as the `budget` of spans goes. True if any was.
fn cut(spans: &mut Spans, start: u64, end: u64, budget: &mut usize) -> bool {
    let mut has_cut = false;
    while *budget > 0 && is_met(spans, start, end) {
        let met = overlapping(spans, start, end).next();
        let Some((at, until)) = met else { break };
        has_cut = true;
        *budget -= 1;
        spans.remove(&at);
        if at < start {
            spans.insert(at, start);
        }
        if until > end {
            spans.insert(end, until);
        }
    }
    has_cut
}

/// Puts a range in where there is none, in one with its neighbours.
fn put(spans: &mut Spans, start: u64, end: u64) {
    let (mut start, mut end) = (start, end);
    if let Some((&at, &until)) = spans.range(..start).next_back()
        && until == start
    {
        spans.remove(&at);
        start = at;
    }
    if let Some(until) = spans.remove(&end) {
        end = until;
    }
    spans.insert(start, end);
}

/// The first part of what an owner holds of one kind that a range meets.
fn first_met(owner: Owner, spans: &Spans, kind: LockKind, wanted: &HeldLock) -> Option<HeldLock> {
    if !is_met(spans, wanted.start, wanted.end) {
        return None;
    }
    let (start, end) = overlapping(spans, wanted.start, wanted.end).next()?;
    Some(HeldLock { owner, start, end, kind })
}

impl RangeLocks {
    /// Owners that one file's locks can have, counted for each kind: who takes an exclusive lock looks at all of them.
    pub const MAX_OWNERS: usize = 16_384;

    /// Makes an empty table.
    pub const fn new() -> Self {
        Self { exclusive: BTreeMap::new(), shared: BTreeMap::new(), replacing: BTreeMap::new() }
    }

    fn conflicts(&self, wanted: &HeldLock) -> impl Iterator<Item = HeldLock> {
        let is_exclusive = wanted.kind == LockKind::Exclusive;
        let exclusive = self.exclusive.iter().filter_map(|(&owner, spans)| {
            if owner == wanted.owner { None } else { first_met(owner, spans, LockKind::Exclusive, wanted) }
        });
        // Who wants to share is in nobody's way who does.
        let shared = self.shared.iter().take_while(move |_| is_exclusive).filter_map(|(&owner, spans)| {
            if owner == wanted.owner { None } else { first_met(owner, spans, LockKind::Shared, wanted) }
        });
        let replacing = self.replacing.values().copied().filter(move |lock| {
            let is_in_the_way = is_exclusive || lock.kind == LockKind::Exclusive;
            lock.owner != wanted.owner && is_in_the_way && lock.start < wanted.end && wanted.start < lock.end
        });
        replacing.chain(exclusive).chain(shared)
    }

    /// The first lock of somebody else that is in the way of `wanted`.
    pub fn conflict(&self, wanted: &HeldLock) -> Option<HeldLock> {
        self.conflicts(wanted).min_by_key(|lock| lock.start)
    }

    /// Takes a lock, in the place of what its owner held of the range before; or answers what is in
    /// the way, and nothing has changed. From the first call on it is held, also if there is [`Progress::More`] to do:
    /// up to `most` locks are replaced in a call.
    pub fn lock(&mut self, wanted: HeldLock, most: usize) -> Result<Progress, Refusal> {
        if wanted.start >= wanted.end {
            return Ok(Progress::Done);
        }
        let mut budget = most;
        // What another thread of the same owner has begun comes first, and what the last call has.
        if let Some(&begun) = self.replacing.get(&wanted.owner) {
            let progress = self.replace(wanted.owner, &mut budget);
            if progress == Progress::More || begun == wanted {
                return Ok(progress);
            }
        }
        if let Some(conflict) = self.conflicts(&wanted).next() {
            return Err(Refusal::Conflict(conflict));
        }
        let of_kind = self.of_kind(wanted.kind);
        if of_kind.len() >= Self::MAX_OWNERS && !of_kind.contains_key(&wanted.owner) {
            return Err(Refusal::TooManyOwners);
        }
        let is_free = [&self.exclusive, &self.shared].into_iter().all(|owners| {
            owners.get(&wanted.owner).is_none_or(|spans| !is_met(spans, wanted.start, wanted.end))
        });
        if is_free {
            put(self.of_kind(wanted.kind).entry(wanted.owner).or_default(), wanted.start, wanted.end);
            return Ok(Progress::Done);
        }
        self.replacing.insert(wanted.owner, wanted);
        Ok(self.replace(wanted.owner, &mut budget))
    }

    fn of_kind(&mut self, kind: LockKind) -> &mut BTreeMap<Owner, Spans> {
        match kind {
            LockKind::Exclusive => &mut self.exclusive,
            LockKind::Shared => &mut self.shared,
        }
    }

    /// Takes a range out of both kinds. True if there was any.
    fn cut(&mut self, owner: Owner, start: u64, end: u64, budget: &mut usize) -> bool {
        let mut has_cut = false;
        for owners in [&mut self.exclusive, &mut self.shared] {
            let Some(spans) = owners.get_mut(&owner) else { continue };
            has_cut |= cut(spans, start, end, budget);
            if spans.is_empty() {
                owners.remove(&owner);
            }
        }
        has_cut
    }

    /// Goes on with what an owner's lock takes the place of.
    fn replace(&mut self, owner: Owner, budget: &mut usize) -> Progress {
        let Some(&HeldLock { start, end, kind, .. }) = self.replacing.get(&owner) else {
            return Progress::Done;
        };
        self.cut(owner, start, end, budget);
        if *budget == 0 {
            return Progress::More;
        }
        put(self.of_kind(kind).entry(owner).or_default(), start, end);
        self.replacing.remove(&owner);
        Progress::Done
    }

    /// Gives up what `owner` holds of a range, up to `most` locks in a call. Answers if that was anything, and if there is more.
    pub fn unlock(&mut self, owner: Owner, start: u64, end: u64, most: usize) -> (bool, Progress) {
        let mut budget = most;
        if self.replace(owner, &mut budget) == Progress::More {
            return (false, Progress::More);
        }
        let has_cut = self.cut(owner, start, end, &mut budget);
        (has_cut, if budget == 0 { Progress::More } else { Progress::Done })
    }

    /// Gives up all that `owner` holds, at once; `None` if that is nothing.
    pub fn release(&mut self, owner: Owner) -> Option<Released> {
        let begun = self.replacing.remove(&owner);
        let (exclusive, shared) = (self.exclusive.remove(&owner), self.shared.remove(&owner));
        let is_none = begun.is_none() && exclusive.is_none() && shared.is_none();
        (!is_none).then(|| Released { spans: [exclusive, shared].map(Option::unwrap_or_default) })
    }

    /// True if nobody holds a lock.
    pub fn is_empty(&self) -> bool {
        self.exclusive.is_empty() && self.shared.is_empty() && self.replacing.is_empty()
    }
}

impl Released {
    /// Frees up to `most` locks.
    pub fn free(&mut self, most: usize) -> Progress {
        let [exclusive, shared] = &mut self.spans;
        for _ in 0..most {
            if exclusive.pop_first().or_else(|| shared.pop_first()).is_none() {
                return Progress::Done;
            }
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: u64 = 24;

    /// Calls until all is done, with as few as `most` in a call.
    fn lock(locks: &mut RangeLocks, wanted: HeldLock, most: usize) -> Result<(), Refusal> {
        while locks.lock(wanted, most)? == Progress::More {
            // It is held from the first call on.
            let others = HeldLock { owner: wanted.owner + 1, kind: LockKind::Exclusive, ..wanted };
            assert!(locks.conflict(&others).is_some());
        }
        Ok(())
    }

    fn unlock(locks: &mut RangeLocks, owner: Owner, start: u64, end: u64, most: usize) -> bool {
        let mut has_changed = false;
        loop {
            let (is_changed, progress) = locks.unlock(owner, start, end, most);
            has_changed |= is_changed;
            if progress == Progress::Done {
                return has_changed;
            }
        }
    }

    fn kind(is_exclusive: bool) -> LockKind {
        if is_exclusive { LockKind::Exclusive } else { LockKind::Shared }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut locks = RangeLocks::new();
        lock(&mut locks, HeldLock { owner: 1, start: 0, end: 10, kind: LockKind::Exclusive }, 9).unwrap();
        assert!(unlock(&mut locks, 1, 4, 6, 9));
        let other = |start, end| HeldLock { owner: 2, start, end, kind: LockKind::Shared };
        assert!(locks.conflict(&other(3, 4)).is_some() && locks.conflict(&other(6, 7)).is_some());
        assert_eq!(lock(&mut locks, other(4, 6), 9), Ok(()));
    }

    #[test]
    fn many_locks_take_no_longer_each_and_a_call_changes_few() {
        const LOCKS: u64 = 300_000;
        let mut locks = RangeLocks::new();
        let at = |owner, start, kind| HeldLock { owner, start, end: start + 1, kind };
        for index in 0..LOCKS {
            for owner in [0, 1] {
                let wanted = at(owner, 2 * index + owner, LockKind::Exclusive);
                assert_eq!(locks.lock(wanted, 2), Ok(Progress::Done));
            }
        }
        // One lock in the place of all, which a call takes a part of only.
        for start in (0..2 * LOCKS).skip(1).step_by(2) {
            assert_eq!(locks.unlock(1, start, start + 1, 2), (true, Progress::Done));
        }
        let all = HeldLock { owner: 0, start: 0, end: u64::MAX, kind: LockKind::Shared };
        assert_eq!(locks.lock(all, 100), Ok(Progress::More));
        assert!(matches!(locks.lock(at(1, 2 * LOCKS, LockKind::Exclusive), 2), Err(Refusal::Conflict(_))));
        assert_eq!(lock(&mut locks, all, 100), Ok(()));
        assert_eq!(locks.conflict(&at(1, 0, LockKind::Exclusive)), Some(all));
        assert!(unlock(&mut locks, 0, 0, u64::MAX, 100) && locks.is_empty());
    }

    #[test]
    fn what_is_released_is_free_at_once() {
        let mut locks = RangeLocks::new();
        let at = |owner, start| HeldLock { owner, start, end: start + 1, kind: LockKind::Exclusive };
        (0..1000).for_each(|index| lock(&mut locks, at(1, 2 * index), 9).unwrap());
        let mut released = locks.release(1).unwrap();
        assert!(locks.is_empty() && locks.release(1).is_none());
        assert_eq!(lock(&mut locks, at(2, 500), 9), Ok(()));
        let calls = (0..).take_while(|_| released.free(100) == Progress::More).count();
        assert_eq!(calls, 10);
    }

    #[test]
    fn owners_are_counted() {
        let mut locks = RangeLocks::new();
        let at = |owner| HeldLock { owner, start: 0, end: 1, kind: LockKind::Shared };
        let most = RangeLocks::MAX_OWNERS as u64;
        (0..most).for_each(|owner| lock(&mut locks, at(owner), 9).unwrap());
        assert_eq!(lock(&mut locks, at(most), 9), Err(Refusal::TooManyOwners));
        assert_eq!(lock(&mut locks, at(0), 9), Ok(()));
        assert!(unlock(&mut locks, 5, 0, 1, 9));
        assert_eq!(lock(&mut locks, at(most), 9), Ok(()));
    }

    #[test]
    fn neighbours_of_one_kind_are_one_lock() {
        let mut locks = RangeLocks::new();
        for (start, end) in [(4, 6), (0, 2), (2, 4), (6, u64::MAX)] {
            lock(&mut locks, HeldLock { owner: 1, start, end, kind: LockKind::Shared }, 9).unwrap();
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
            most in 1..9usize,
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
                    let outcome = lock(&mut locks, HeldLock { owner, start, end, kind: wanted }, most);
                    prop_assert_eq!(outcome.is_ok(), is_free);
                    if is_free {
                        model[owner as usize][bytes].fill(Some(wanted));
                    }
                } else {
                    let had = model[owner as usize][bytes.clone()].iter().any(Option::is_some);
                    prop_assert_eq!(unlock(&mut locks, owner, start, end, most), had);
                    model[owner as usize][bytes].fill(None);
                }
            }
            (0..3).for_each(|owner| { locks.release(owner); });
            prop_assert!(locks.is_empty());
        }
    }
}
