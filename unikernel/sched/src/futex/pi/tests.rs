//! What one thread can see of locks with an owner: the word after each step, who gets a lock, what is refused.

use std::cell::Cell;
use std::sync::Arc;

use super::super::tests::{A, B, C, Cells, queues};
use super::refusal::Refusal;
use super::{Futexes, LockError, OWNER_DIED, OutOfMemory, Outcome, WAITERS, Waiter, Word};

/// A word that nobody else changes, unless `meanwhile` says so.
#[derive(Default)]
struct Plain {
    value: Cell<u32>,
    meanwhile: Cell<Option<u32>>,
}

impl Word for &Plain {
    type Error = Refusal;
    fn read(&self) -> Result<u32, Refusal> {
        let value = self.value.get();
        if let Some(new) = self.meanwhile.take() {
            self.value.set(new);
        }
        Ok(value)
    }
    fn compare_exchange(&self, expected: u32, new: u32) -> Result<u32, Refusal> {
        let found = self.value.get();
        if found == expected {
            self.value.set(new);
        }
        Ok(found)
    }
}

fn of(value: u32) -> Plain {
    Plain { value: Cell::new(value), ..Plain::default() }
}

type World = Futexes<Cells>;

fn lock_as(
    world: &World,
    address: u64,
    word: &Plain,
    id: u32,
) -> Result<(Outcome, Arc<Waiter<u32>>), Refusal> {
    let waiter = Arc::new(Waiter::for_lock(address, id, id));
    let outcome = world.lock(&waiter, &word, |id| id < 100, || {})?;
    Ok((outcome, waiter))
}

fn refusal(world: &World, word: &Plain, id: u32) -> Option<Refusal> {
    lock_as(world, A, word, id).err()
}

fn unlock(world: &World, word: &Plain, id: u32) -> Result<Option<u32>, Refusal> {
    Ok(world.unlock(A, id, &word)?.map(|waiter| *waiter.thread()))
}

#[test]
fn lock_passes_from_owner_to_owner() {
    let (world, word) = (queues(), of(0));
    assert_eq!(lock_as(&world, A, &word, 1).unwrap().0, Outcome::Acquired);
    assert_eq!(word.value.get(), 1);
    let second = lock_as(&world, A, &word, 2).unwrap();
    assert_eq!((second.0, word.value.get()), (Outcome::Owned(1), WAITERS | 1));
    lock_as(&world, A, &word, 3).unwrap();
    // Another lock in the same bucket is none of theirs.
    let other = of(9);
    lock_as(&world, C, &other, 4).unwrap();
    assert_eq!(unlock(&world, &word, 2), Err(Refusal::Lock(LockError::NotOwner)));
    assert_eq!(unlock(&world, &word, 1), Ok(Some(2)));
    assert!(second.1.is_woken());
    assert_eq!(word.value.get(), WAITERS | 2);
    assert_eq!(unlock(&world, &word, 2), Ok(Some(3)));
    assert_eq!(unlock(&world, &word, 3), Ok(None));
    assert_eq!((word.value.get(), other.value.get()), (0, WAITERS | 9));
}

#[test]
fn what_contradicts_is_refused() {
    let (world, word) = (queues(), of(1));
    assert_eq!(refusal(&world, &word, 1), Some(Refusal::Lock(LockError::Deadlock)));
    word.value.set(500);
    assert_eq!(refusal(&world, &word, 1), Some(Refusal::Lock(LockError::NoSuchOwner)));
    assert_eq!(word.value.get(), 500);
    word.value.set(1);
    lock_as(&world, A, &word, 2).unwrap();
    // The app writes nonsense while somebody waits.
    for nonsense in [0, 3, WAITERS, OWNER_DIED | 3] {
        word.value.set(nonsense);
        assert_eq!(refusal(&world, &word, 5), Some(Refusal::Lock(LockError::Inconsistent)));
    }
    word.value.set(3);
    assert_eq!(unlock(&world, &word, 3), Err(Refusal::Lock(LockError::Inconsistent)));
    // Whoever sleeps on the word itself waits for no lock.
    let plain = Arc::new(Waiter::new(B, 1, 7));
    world.enter(&plain, || Ok::<_, OutOfMemory>(())).unwrap();
    assert_eq!(lock_as(&world, B, &of(0), 1).err(), Some(Refusal::Lock(LockError::Inconsistent)));
    assert_eq!(world.take(A, 1, u32::MAX, drop), Err(super::super::IsLock));
}

#[test]
fn change_between_two_looks_does_nothing() {
    let (world, word) = (queues(), of(0));
    for (before, after) in [(0, 1), (1, 0), (500, OWNER_DIED)] {
        word.value.set(before);
        word.meanwhile.set(Some(after));
        assert_eq!(refusal(&world, &word, 2), Some(Refusal::Lock(LockError::Changed)));
        assert_eq!(word.value.get(), after);
    }
    word.value.set(2);
    word.meanwhile.set(Some(WAITERS | 2));
    assert_eq!(unlock(&world, &word, 2), Err(Refusal::Lock(LockError::Changed)));
}

#[test]
fn trying_does_not_wait() {
    let (world, word) = (queues(), of(0));
    let attempt = |id| world.try_lock(A, id, &&word, |_| true);
    assert_eq!(attempt(1), Ok(Outcome::Acquired));
    assert_eq!(attempt(2), Ok(Outcome::Owned(1)));
    assert_eq!(attempt(1), Err(Refusal::Lock(LockError::Deadlock)));
    assert_eq!(unlock(&world, &word, 1), Ok(None));
}

#[test]
fn lock_of_a_dead_owner_is_given_on() {
    let (world, word) = (queues(), of(1));
    lock_as(&world, A, &word, 2).unwrap();
    lock_as(&world, A, &word, 3).unwrap();
    let reach = |address| (address == A).then_some(&word);
    let inherit = |id| {
        let next = world.inherit(super::bucket_of(A), id, reach)?;
        Ok::<_, Refusal>(next.map(|waiter| *waiter.thread()))
    };
    assert_eq!(inherit(9), Ok(None));
    assert_eq!(inherit(1), Ok(Some(2)));
    assert_eq!(word.value.get(), OWNER_DIED | WAITERS | 2);
    // As the list of robust futexes leaves it.
    word.value.set(OWNER_DIED | WAITERS);
    assert_eq!(lock_as(&world, A, &word, 4).unwrap().0, Outcome::Owned(2));
    assert_eq!(inherit(2), Ok(Some(3)));
    assert_eq!(unlock(&world, &word, 3), Ok(Some(4)));
    // Without a word in reach, the waiter does not wait for ever.
    lock_as(&world, A, &word, 5).unwrap();
    let next = world.inherit(super::bucket_of(A), 4, |_| None::<&Plain>).unwrap();
    assert_eq!(next.map(|waiter| *waiter.thread()), Some(5));
    word.value.set(OWNER_DIED);
    assert_eq!(lock_as(&world, A, &word, 6).unwrap().0, Outcome::Acquired);
    assert_eq!(word.value.get(), OWNER_DIED | 6);
}

fn wait_at(world: &World, address: u64, lock: u64, id: u32) -> Arc<Waiter<u32>> {
    let waiter = Arc::new(Waiter::for_condition(address, lock, id, id));
    world.enter(&waiter, || Ok::<_, OutOfMemory>(())).unwrap();
    waiter
}

fn requeue(world: &World, to: u64, count: usize, word: &Plain) -> Result<(usize, Option<u32>), Refusal> {
    let (done, woken) = world.requeue_to_lock((A, to), count, || Ok(()), &word, |_| true)?;
    Ok((done, woken.map(|waiter| *waiter.thread())))
}

#[test]
fn condition_gives_the_lock_to_the_first_and_moves_the_others() {
    for to in [B, C] {
        let (world, word) = (queues(), of(0));
        let waiters = [1, 2, 3, 4].map(|id| wait_at(&world, A, to, id));
        assert_eq!(requeue(&world, to, 2, &word), Ok((3, Some(1))));
        assert_eq!(word.value.get(), WAITERS | 1);
        assert_eq!(waiters.each_ref().map(|waiter| waiter.is_at_lock()), [false, true, true, false]);
        let next = world.unlock(to, 1, &&word).unwrap().unwrap();
        assert_eq!(*next.thread(), 2);
        assert!(world.leave(&waiters[2]));
        assert!(world.unlock(to, 2, &&word).unwrap().is_none());
        // A lock that is taken: nobody is woken.
        word.value.set(8);
        assert_eq!(requeue(&world, to, 2, &word), Ok((1, None)));
        assert_eq!((word.value.get(), waiters[3].is_at_lock()), (WAITERS | 8, true));
        assert_eq!(requeue(&world, to, 2, &word), Ok((0, None)));
    }
}

#[test]
fn condition_for_another_lock_is_refused() {
    let (world, word) = (queues(), of(0));
    let _first = wait_at(&world, A, B, 1);
    let _second = wait_at(&world, A, C, 2);
    assert_eq!(requeue(&world, C, 1, &word), Err(Refusal::Lock(LockError::Inconsistent)));
    assert_eq!(requeue(&world, B, 1, &word), Err(Refusal::Lock(LockError::Inconsistent)));
    word.value.set(1);
    assert_eq!(requeue(&world, B, 0, &word), Err(Refusal::Lock(LockError::Deadlock)));
    word.value.set(0);
    assert_eq!(requeue(&world, B, 0, &word), Ok((1, Some(1))));
    assert_eq!(word.value.get(), 1);
    assert_eq!(world.take(A, 1, u32::MAX, drop), Err(super::super::IsLock));
    let plain = world.requeue((A, B), (1, 1), || Ok::<_, PlainError>(()), drop);
    assert_eq!(plain, Err(PlainError::IsLock));
}

#[derive(Debug, PartialEq)]
enum PlainError {
    OutOfMemory,
    IsLock,
}

impl From<OutOfMemory> for PlainError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<super::super::IsLock> for PlainError {
    fn from(_: super::super::IsLock) -> Self {
        Self::IsLock
    }
}
