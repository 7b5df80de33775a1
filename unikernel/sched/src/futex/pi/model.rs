//! Every interleaving of those who want a lock with an owner, have it, or end with it.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::super::model::{A, B, Locks};
use super::refusal::Refusal;
use super::{Futexes, LockError, OWNER, OWNER_DIED, Outcome, WAITERS, Waiter, Word, bucket_of};

#[derive(Clone)]
struct Shared(Arc<AtomicU32>);

impl Word for Shared {
    type Error = Refusal;
    fn read(&self) -> Result<u32, Refusal> {
        Ok(self.0.load(Ordering::SeqCst))
    }
    fn compare_exchange(&self, expected: u32, new: u32) -> Result<u32, Refusal> {
        let outcome = self.0.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
        Ok(outcome.unwrap_or_else(|found| found))
    }
}

#[derive(Clone)]
struct World {
    futexes: Arc<Futexes<Locks>>,
    word: Shared,
    /// Threads that have not ended.
    alive: Arc<Mutex<u32>>,
}

fn world(word: u32) -> World {
    World {
        futexes: Arc::new(Futexes::new(Locks::default())),
        word: Shared(Arc::new(AtomicU32::new(word))),
        alive: Arc::new(Mutex::new(u32::MAX)),
    }
}

/// Tries until the word holds still.
fn settled<T>(mut step: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    loop {
        match step() {
            Err(Refusal::Lock(LockError::Changed)) => thread::yield_now(),
            outcome => return outcome,
        }
    }
}

impl World {
    fn lock(&self, id: u32) -> Result<(Outcome, Arc<Waiter<()>>), Refusal> {
        let waiter = Arc::new(Waiter::for_lock(A, id, ()));
        let is_alive = |id: u32| *self.alive.lock().unwrap() & (1 << id) != 0;
        let outcome = settled(|| self.futexes.lock(&waiter, &self.word, is_alive, || {}))?;
        Ok((outcome, waiter))
    }

    fn unlock(&self, id: u32) -> Option<Arc<Waiter<()>>> {
        settled(|| self.futexes.unlock(A, id, &self.word)).unwrap()
    }

    /// As a thread ends that has the lock: the word first, if it is on the thread's list, then the threads that there
    /// are, then those who wait.
    fn end(&self, id: u32, is_robust: bool) {
        if is_robust {
            let died = |value: u32| (value & OWNER == id).then_some(value & WAITERS | OWNER_DIED);
            let _ = self.word.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, died);
        }
        *self.alive.lock().unwrap() &= !(1 << id);
        let reach = |_| Some(self.word.clone());
        while settled(|| self.futexes.inherit(bucket_of(A), id, reach)).unwrap().is_some() {}
    }

    fn value(&self) -> u32 {
        self.word.0.load(Ordering::SeqCst)
    }
}

/// The owner releases while another comes: that one has the lock in the end, one way or the other.
#[test]
fn lock_reaches_who_comes_during_the_release() {
    loom::model(|| {
        let world = world(1);
        let releaser = {
            let world = world.clone();
            thread::spawn(move || drop(world.unlock(1)))
        };
        let (outcome, waiter) = world.lock(2).unwrap();
        releaser.join().unwrap();
        assert!(outcome == Outcome::Acquired || waiter.is_woken());
        assert_eq!(world.value() & OWNER, 2);
    });
}

/// A thread gives up while the lock is given to it: it either has it, or the word does not say so.
#[test]
fn who_gives_up_has_the_lock_or_not() {
    loom::model(|| {
        let world = world(1);
        let (_, waiter) = world.lock(2).unwrap();
        let releaser = {
            let world = world.clone();
            thread::spawn(move || drop(world.unlock(1)))
        };
        let has_left = world.futexes.leave(&waiter);
        releaser.join().unwrap();
        assert_eq!(world.value() & OWNER == 2, !has_left);
        assert_eq!(waiter.is_woken(), !has_left);
    });
}

/// The owner ends while another comes: that one gets the lock and is told, or hears that there is no owner.
#[test]
fn nobody_waits_for_a_thread_that_has_ended() {
    for is_robust in [false, true] {
        loom::model(move || {
            let world = world(1);
            let ending = {
                let world = world.clone();
                thread::spawn(move || world.end(1, is_robust))
            };
            let outcome = world.lock(2);
            ending.join().unwrap();
            match outcome {
                Ok((outcome, waiter)) => {
                    assert!(outcome == Outcome::Acquired || waiter.is_woken());
                    assert_eq!((world.value() & OWNER, world.value() & OWNER_DIED), (2, OWNER_DIED));
                }
                Err(error) => {
                    assert!(!is_robust);
                    assert_eq!(error, Refusal::Lock(LockError::NoSuchOwner));
                }
            }
        });
    }
}

/// Threads are moved from a condition to the lock while its owner releases it: one has it in the end.
#[test]
fn moved_waiter_gets_the_lock() {
    loom::model(|| {
        let world = world(1);
        let waiter = Arc::new(Waiter::for_condition(B, A, 2, ()));
        world.futexes.enter(&waiter, || Ok::<_, Refusal>(())).unwrap();
        let releaser = {
            let world = world.clone();
            thread::spawn(move || drop(world.unlock(1)))
        };
        let moved =
            settled(|| world.futexes.requeue_to_lock((B, A), 0, || Ok(()), &world.word, |_| true)).unwrap();
        releaser.join().unwrap();
        assert_eq!((moved.0, world.value() & OWNER), (1, 2));
        assert!(waiter.is_woken());
    });
}
