//! Locks with an owner (futex(2), "Priority-inheritance futexes"). The word says who has the lock and whether others
//! wait; the kernel takes part only when they do. Then a release gives the lock to the first that waits, which it
//! names in the word, so that nobody can come between; and the lock of a thread that has ended is given on in the same
//! way.
//!
//! What must hold besides what [`futex`](super) says: all waiters of a word know the same owner; a waiter that was taken
//! off its queue owns the lock, and the word says so.
//!
//! Whoever waits is served in the order of coming: all threads have the same priority, so there is none to inherit.

use alloc::sync::Arc;

use super::{Bucket, Buckets, Futexes, OutOfMemory, Waiter, bucket_of};
use crate::atomic::{AtomicU32, Ordering};

/// Others wait (futex.h, `FUTEX_WAITERS`).
pub const WAITERS: u32 = 0x8000_0000;
/// The last owner ended without a release (`FUTEX_OWNER_DIED`).
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id (`FUTEX_TID_MASK`).
pub const OWNER: u32 = 0x3fff_ffff;

/// Who has got a lock and is to be woken, if anybody.
pub type Next<T> = Option<Arc<Waiter<T>>>;

/// Nobody: the waiter is still in the queue of a condition.
const NOBODY: u32 = 0;

/// What a waiter for a lock has besides.
#[derive(Debug)]
pub(super) struct Claim {
    /// Its thread, as the word names it.
    id: u32,
    /// Where the lock is.
    lock: u64,
    /// Who has the lock; [`NOBODY`] until the waiter is in the lock's queue. Changed with the bucket locked.
    owner: AtomicU32,
}

impl<T> Waiter<T> {
    /// Thread `id`, which will wait for the lock at `address`.
    pub fn for_lock(address: u64, id: u32, thread: T) -> Self {
        Self::for_condition(address, address, id, thread)
    }

    /// Thread `id`, which will wait at `address` until it is moved to the lock at `lock`.
    pub fn for_condition(address: u64, lock: u64, id: u32, thread: T) -> Self {
        let claim = Claim { id, lock, owner: AtomicU32::new(NOBODY) };
        Self { claim: Some(claim), ..Self::new(address, 0, thread) }
    }

    /// True if it is in the queue of the lock that it wants.
    pub fn is_at_lock(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.owner.load(Ordering::Relaxed) != NOBODY)
    }

    /// The owner of the lock in whose queue it is.
    fn owner(&self) -> Option<u32> {
        self.claim.as_ref().map(|claim| claim.owner.load(Ordering::Relaxed)).filter(|&owner| owner != NOBODY)
    }

    fn set_owner(&self, owner: u32) {
        if let Some(claim) = &self.claim {
            claim.owner.store(owner, Ordering::Relaxed);
        }
    }

    /// The thread's id, if it waits at a condition to be moved to `lock`.
    fn id_before_move_to(&self, lock: u64) -> Option<u32> {
        self.claim.as_ref().filter(|claim| claim.lock == lock && !self.is_at_lock()).map(|claim| claim.id)
    }

    fn id(&self) -> u32 {
        self.claim.as_ref().map_or(NOBODY, |claim| claim.id)
    }
}

/// The app's word, which any thread may change at any time.
pub trait Word {
    /// Why it cannot be reached.
    type Error;

    /// What it is.
    fn read(&self) -> Result<u32, Self::Error>;

    /// Makes it `new` if it is `expected`; answers what it was.
    fn compare_exchange(&self, expected: u32, new: u32) -> Result<u32, Self::Error>;
}

/// Why a lock was not taken or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockError {
    /// The word has changed between two looks: nothing was done, and it is to be tried again.
    Changed,
    /// The caller has the lock.
    Deadlock,
    /// The caller does not have the lock.
    NotOwner,
    /// There is no thread that the word names.
    NoSuchOwner,
    /// The word and those who wait there contradict each other.
    Inconsistent,
}

/// What came of wanting a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was free.
    Acquired,
    /// Another thread, this one, has it, and the word says that others wait.
    Owned(u32),
}

fn exchange<E: From<LockError>>(word: &impl Word<Error = E>, from: u32, to: u32) -> Result<(), E> {
    if word.compare_exchange(from, to)? == from { Ok(()) } else { Err(LockError::Changed.into()) }
}

/// Takes a free lock for thread `id`, or notes in its word that somebody waits. With `will_wait`, others will as soon
/// as it is taken.
fn claim<T, E: From<LockError>>(
    bucket: &Bucket<T>,
    (address, id): (u64, u32),
    word: &impl Word<Error = E>,
    will_wait: bool,
    is_alive: impl Fn(u32) -> bool,
) -> Result<Outcome, E> {
    let known = match bucket.iter().find(|waiter| waiter.is_at(address)) {
        Some(waiter) => Some(waiter.owner().ok_or(LockError::Inconsistent)?),
        None => None,
    };
    let value = word.read()?;
    let named = value & OWNER;
    if named == id {
        return Err(LockError::Deadlock.into());
    }
    let Some(owner) = known.or((named != NOBODY).then_some(named)) else {
        let waiters = if will_wait { WAITERS } else { 0 };
        return exchange(word, value, value & OWNER_DIED | waiters | id).map(|()| Outcome::Acquired);
    };
    // Between the death of an owner and the next one, the word may name nobody.
    let is_orphaned = named == NOBODY && value & OWNER_DIED != 0;
    if named != owner && !is_orphaned {
        return Err(LockError::Inconsistent.into());
    }
    if known.is_none() && !is_alive(owner) {
        // It may have released the lock before it ended.
        exchange(word, value, value)?;
        return Err(LockError::NoSuchOwner.into());
    }
    exchange(word, value, value | WAITERS)?;
    Ok(Outcome::Owned(owner))
}

/// Takes the waiter at `index` off the queue, as the owner of the lock at `address` from now on.
fn hand_over<T>(bucket: &mut Bucket<T>, index: usize, address: u64) -> Next<T> {
    let next = bucket.remove(index)?;
    bucket.iter().filter(|waiter| waiter.is_at(address)).for_each(|waiter| waiter.set_owner(next.id()));
    next.note_woken();
    Some(next)
}

impl<B: Buckets> Futexes<B> {
    /// Takes the lock for the thread of `waiter`, or queues that; `prepare` then announces the sleep.
    ///
    /// `is_alive` is called with the bucket locked. When a thread ends, that must be known there before
    /// [`Self::inherit`] is called for it.
    pub fn lock<E: From<LockError> + From<OutOfMemory>>(
        &self,
        waiter: &Arc<Waiter<B::Thread>>,
        word: &impl Word<Error = E>,
        is_alive: impl Fn(u32) -> bool,
        prepare: impl FnOnce(),
    ) -> Result<Outcome, E> {
        let address = waiter.address.load(Ordering::Relaxed);
        self.0.with(bucket_of(address), |bucket| {
            bucket.try_reserve(1).map_err(|_| OutOfMemory)?;
            let outcome = claim(bucket, (address, waiter.id()), word, false, is_alive)?;
            if let Outcome::Owned(owner) = outcome {
                waiter.set_owner(owner);
                prepare();
                bucket.push_back(Arc::clone(waiter));
            }
            Ok(outcome)
        })
    }

    /// Takes the lock for thread `id` if it is free.
    pub fn try_lock<E: From<LockError>>(
        &self,
        address: u64,
        id: u32,
        word: &impl Word<Error = E>,
        is_alive: impl Fn(u32) -> bool,
    ) -> Result<Outcome, E> {
        self.0.with(bucket_of(address), |bucket| claim(bucket, (address, id), word, false, is_alive))
    }

    /// Has a waiter that was woken by something else than a waker announce its next sleep; false if a waker was
    /// faster.
    pub fn stay(&self, waiter: &Arc<Waiter<B::Thread>>, prepare: impl Fn()) -> bool {
        self.with_bucket_of(waiter, |_| {
            let stays = !waiter.is_woken();
            if stays {
                prepare();
            }
            stays
        })
    }

    /// Releases the lock that thread `id` has: to the first that waits, which the caller wakes, or to nobody.
    pub fn unlock<E: From<LockError>>(
        &self,
        address: u64,
        id: u32,
        word: &impl Word<Error = E>,
    ) -> Result<Next<B::Thread>, E> {
        self.0.with(bucket_of(address), |bucket| {
            let value = word.read()?;
            if value & OWNER != id {
                return Err(LockError::NotOwner.into());
            }
            let Some(index) = bucket.iter().position(|waiter| waiter.is_at(address)) else {
                return exchange(word, value, 0).map(|()| None);
            };
            if bucket[index].owner() != Some(id) {
                return Err(LockError::Inconsistent.into());
            }
            exchange(word, value, WAITERS | bucket[index].id())?;
            Ok(hand_over(bucket, index, address))
        })
    }

    /// Gives on one lock in a bucket that thread `id`, which has ended, had, if there is one whose word `reach`
    /// can change. The caller wakes who gets it, and comes again.
    pub fn inherit<E: From<LockError>, W: Word<Error = E>>(
        &self,
        bucket: usize,
        id: u32,
        reach: impl Fn(u64) -> Option<W>,
    ) -> Result<Next<B::Thread>, E> {
        self.0.with(bucket, |bucket| {
            let Some(index) = bucket.iter().position(|waiter| waiter.owner() == Some(id)) else {
                return Ok(None);
            };
            let address = bucket[index].address.load(Ordering::Relaxed);
            if let Some(word) = reach(address) {
                let value = word.read()?;
                exchange(&word, value, OWNER_DIED | WAITERS | bucket[index].id())?;
            }
            Ok(hand_over(bucket, index, address))
        })
    }

    /// Gives the lock at `to` to the first waiter at `from` if it is free, and moves up to `move_count` of those
    /// behind it there, or one more if it is not; all in one step, unless `check` fails. Answers how many there were,
    /// and which one, which the caller wakes, has the lock.
    pub fn requeue_to_lock<E: From<LockError> + From<OutOfMemory>>(
        &self,
        (from, to): (u64, u64),
        move_count: usize,
        check: impl FnOnce() -> Result<(), E>,
        word: &impl Word<Error = E>,
        is_alive: impl Fn(u32) -> bool,
    ) -> Result<(usize, Next<B::Thread>), E> {
        let (source, target) = (bucket_of(from), bucket_of(to));
        let step = |source: &mut Bucket<B::Thread>, mut target: Option<&mut Bucket<B::Thread>>| {
            check()?;
            let Some(index) = source.iter().position(|waiter| waiter.is_at(from)) else {
                return Ok((0, None));
            };
            let most = move_count.saturating_add(1);
            let movable = check_movable(source, (from, to), most)?;
            if let Some(target) = &mut target {
                target.try_reserve(movable).map_err(|_| OutOfMemory)?;
            }
            let first = source[index].id();
            let queue = target.as_deref().unwrap_or(source);
            let outcome = claim(queue, (to, first), word, move_count > 0, is_alive)?;
            let (owner, woken) = match outcome {
                Outcome::Owned(owner) => (owner, None),
                Outcome::Acquired => (first, hand_over(source, index, to)),
            };
            let rest = movable - usize::from(woken.is_some());
            move_to_lock(source, target, (from, to), rest, owner);
            Ok((movable, woken))
        };
        if source == target {
            return self.0.with(source, |bucket| step(bucket, None));
        }
        self.0.with_two(source.min(target), source.max(target), |lower, upper| {
            let (source, target) = if source < target { (lower, upper) } else { (upper, lower) };
            step(source, Some(target))
        })
    }
}

/// How many of the first `most` waiters at `from` there are; all of them must want to go to `to`.
fn check_movable<T>(source: &Bucket<T>, (from, to): (u64, u64), most: usize) -> Result<usize, LockError> {
    let concerned = || source.iter().filter(|waiter| waiter.is_at(from)).take(most);
    if concerned().any(|waiter| waiter.id_before_move_to(to).is_none()) {
        return Err(LockError::Inconsistent);
    }
    Ok(concerned().count())
}

/// Moves the first `count` waiters at `from` to the lock at `to`, which `owner` has; without a `target`, both words
/// have the same bucket.
fn move_to_lock<T>(
    source: &mut Bucket<T>,
    mut target: Option<&mut Bucket<T>>,
    (from, to): (u64, u64),
    count: usize,
    owner: u32,
) {
    let (mut moved, mut index) = (0, 0);
    while moved < count && index < source.len() {
        if !source[index].is_at(from) {
            index += 1;
            continue;
        }
        let Some(waiter) = source.remove(index) else { break };
        waiter.address.store(to, Ordering::Relaxed);
        waiter.set_owner(owner);
        moved += 1;
        match &mut target {
            Some(target) => target.push_back(waiter),
            // Room was made for it just now.
            None => source.push_back(waiter),
        }
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(test)]
mod refusal;
#[cfg(all(test, not(loom)))]
mod tests;
