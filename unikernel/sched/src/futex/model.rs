//! Every interleaving of waiters, wakers and moves, on two words in two buckets.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use loom::thread;

use super::{Bucket, Buckets, Futexes, IsLock, OutOfMemory, Waiter};

pub(super) const A: u64 = 0;
pub(super) const B: u64 = 4;
const ALL: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Locks([Mutex<Bucket<()>>; 2]);

impl Buckets for Locks {
    type Thread = ();
    fn with<R>(&self, bucket: usize, work: impl FnOnce(&mut Bucket<()>) -> R) -> R {
        work(&mut self.0[bucket].lock().unwrap())
    }
    fn with_two<R>(
        &self,
        lower: usize,
        upper: usize,
        work: impl FnOnce(&mut Bucket<()>, &mut Bucket<()>) -> R,
    ) -> R {
        let mut lower = self.0[lower].lock().unwrap();
        work(&mut lower, &mut self.0[upper].lock().unwrap())
    }
}

#[derive(Debug, PartialEq)]
struct Refused;

impl From<OutOfMemory> for Refused {
    fn from(_: OutOfMemory) -> Self {
        Self
    }
}

impl From<IsLock> for Refused {
    fn from(_: IsLock) -> Self {
        Self
    }
}

type World = Arc<Futexes<Locks>>;

fn world() -> World {
    Arc::new(Futexes::new(Locks::default()))
}

fn queued_at(world: &World, address: u64) -> Arc<Waiter<()>> {
    let waiter = Arc::new(Waiter::new(address, ALL, ()));
    world.enter(&waiter, || Ok::<_, Refused>(())).unwrap();
    waiter
}

fn wake(world: &World, address: u64) -> usize {
    world.take(address, usize::MAX, ALL, drop).expect("nobody wants a lock")
}

fn requeue(world: &World, from: u64, to: u64) -> usize {
    world.requeue((from, to), (0, usize::MAX), || Ok::<_, Refused>(()), drop).unwrap().moved
}

/// A thread whose time is over goes while it is moved, there and back: nothing of it stays.
#[test]
fn waiter_that_leaves_while_it_is_moved_leaves_nothing() {
    loom::model(|| {
        let world = world();
        let waiter = queued_at(&world, A);
        let mover = {
            let world = world.clone();
            thread::spawn(move || requeue(&world, A, B) + requeue(&world, B, A))
        };
        assert!(world.leave(&waiter), "nobody has woken it");
        mover.join().unwrap();
        assert_eq!(wake(&world, A) + wake(&world, B), 0, "an entry without a thread");
    });
}

/// A thread goes, or is woken, and is moved by a third: wakers count it if and only if it does not leave by itself.
#[test]
fn waiter_is_counted_once() {
    loom::model(|| {
        let world = world();
        let waiter = queued_at(&world, A);
        let woken = Arc::new(AtomicUsize::new(0));
        let waker = {
            let (world, woken) = (world.clone(), woken.clone());
            thread::spawn(move || woken.fetch_add(wake(&world, B), Ordering::Relaxed))
        };
        let mover = {
            let world = world.clone();
            thread::spawn(move || requeue(&world, A, B))
        };
        let left = world.leave(&waiter);
        waker.join().unwrap();
        mover.join().unwrap();
        let woken = woken.load(Ordering::Relaxed);
        assert_eq!((woken, waiter.is_woken()), (usize::from(!left), !left));
    });
}

/// Two moves against each other do not wait for each other for good, and lose nobody.
#[test]
fn moves_in_both_directions() {
    loom::model(|| {
        let world = world();
        let _waiters = [queued_at(&world, A), queued_at(&world, B)];
        let mover = {
            let world = world.clone();
            thread::spawn(move || requeue(&world, A, B))
        };
        requeue(&world, B, A);
        mover.join().unwrap();
        assert_eq!(wake(&world, A) + wake(&world, B), 2);
    });
}

/// The word changes, and a thread sleeps on the new value: a move that has seen the old one must not take it along.
#[test]
fn move_that_compares_takes_only_those_who_saw_the_same() {
    loom::model(|| {
        let world = world();
        let word = Arc::new(AtomicU32::new(0));
        let sleeper = {
            let (world, word) = (world.clone(), word.clone());
            thread::spawn(move || {
                word.store(1, Ordering::Relaxed);
                queued_at(&world, A)
            })
        };
        let is_old = || if word.load(Ordering::Relaxed) == 0 { Ok(()) } else { Err(Refused) };
        let outcome = world.requeue((A, B), (0, usize::MAX), is_old, drop);
        sleeper.join().unwrap();
        assert!(outcome.is_err() || outcome.unwrap().moved == 0);
        assert_eq!(wake(&world, A), 1);
    });
}

/// The word changes before the wake: the thread does not sleep, or is woken.
#[test]
fn waiter_sees_the_change_or_is_woken() {
    loom::model(|| {
        let world = world();
        let word = Arc::new(AtomicU32::new(0));
        let waker = {
            let (world, word) = (world.clone(), word.clone());
            thread::spawn(move || {
                word.store(1, Ordering::Relaxed);
                wake(&world, A)
            })
        };
        let waiter = Arc::new(Waiter::new(A, ALL, ()));
        let is_old = || if word.load(Ordering::Relaxed) == 0 { Ok(()) } else { Err(Refused) };
        let sleeps = world.enter(&waiter, is_old).is_ok();
        assert_eq!(waker.join().unwrap(), usize::from(sleeps));
    });
}
