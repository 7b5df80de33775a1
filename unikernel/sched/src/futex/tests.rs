//! What one thread can see of the queues: order, bits, counts; and memory of one bucket for two words.

use std::cell::RefCell;
use std::sync::Arc;
use std::vec::Vec;

use super::{BUCKETS, Bucket, Buckets, Futexes, IsLock, OutOfMemory, Requeued, Waiter};

#[derive(Debug, PartialEq)]
enum Refused {
    OutOfMemory,
    IsLock,
}

impl From<OutOfMemory> for Refused {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<IsLock> for Refused {
    fn from(_: IsLock) -> Self {
        Self::IsLock
    }
}

pub(super) struct Cells([RefCell<Bucket<u32>>; BUCKETS]);

impl Buckets for Cells {
    type Thread = u32;
    fn with<R>(&self, bucket: usize, work: impl FnOnce(&mut Bucket<u32>) -> R) -> R {
        work(&mut self.0[bucket].borrow_mut())
    }
    fn with_two<R>(
        &self,
        lower: usize,
        upper: usize,
        work: impl FnOnce(&mut Bucket<u32>, &mut Bucket<u32>) -> R,
    ) -> R {
        assert!(lower < upper);
        work(&mut self.0[lower].borrow_mut(), &mut self.0[upper].borrow_mut())
    }
}

pub(super) fn queues() -> Futexes<Cells> {
    Futexes::new(Cells(std::array::from_fn(|_| RefCell::default())))
}

fn enter(queues: &Futexes<Cells>, address: u64, bits: u32, id: u32) -> Arc<Waiter<u32>> {
    let waiter = Arc::new(Waiter::new(address, bits, id));
    assert_eq!(queues.enter(&waiter, || Ok::<_, OutOfMemory>(())), Ok(()));
    waiter
}

fn wake(queues: &Futexes<Cells>, address: u64, count: usize, bits: u32) -> Vec<u32> {
    let mut woken = Vec::new();
    let counted = queues.take(address, count, bits, |waiter| woken.push(*waiter.thread()));
    assert_eq!(counted, Ok(woken.len()));
    woken
}

const ALL: u32 = u32::MAX;
/// Two words with different buckets, and one that shares the first one's.
pub(super) const A: u64 = 0x1000;
pub(super) const B: u64 = 0x1004;
pub(super) const C: u64 = A + 4 * BUCKETS as u64;

#[test]
fn wakes_in_order_by_address_and_bits() {
    let queues = queues();
    for (id, (address, bits)) in [(A, ALL), (C, ALL), (A, 1), (A, 2), (B, ALL)].into_iter().enumerate() {
        enter(&queues, address, bits, id as u32);
    }
    assert_eq!(wake(&queues, A, 9, 2), [0, 3]);
    assert_eq!(wake(&queues, A, 0, ALL), []);
    assert_eq!(wake(&queues, A, 9, ALL), [2]);
    assert_eq!(wake(&queues, C, 1, ALL), [1]);
    assert_eq!(wake(&queues, B, 1, ALL), [4]);
}

#[test]
fn requeue_wakes_the_first_and_moves_the_next() {
    for (from, to) in [(A, B), (B, A), (A, C)] {
        let queues = queues();
        (0..6).for_each(|id| drop(enter(&queues, from, ALL, id)));
        enter(&queues, to, ALL, 9);
        let mut woken = Vec::new();
        let wake_two = |waiter: Arc<Waiter<u32>>| woken.push(*waiter.thread());
        let done = queues.requeue((from, to), (2, 3), || Ok::<_, Refused>(()), wake_two);
        assert_eq!((done, woken), (Ok(Requeued { woken: 2, moved: 3 }), std::vec![0, 1]));
        assert_eq!(wake(&queues, from, 9, ALL), [5]);
        let mut moved = wake(&queues, to, 9, ALL);
        moved.sort_unstable();
        assert_eq!(moved, [2, 3, 4, 9]);
    }
}

/// Each counts once, however many moves are asked for: a word onto itself is no endless loop.
#[test]
fn requeue_onto_itself_ends() {
    let queues = queues();
    (0..3).for_each(|id| drop(enter(&queues, A, ALL, id)));
    let done = queues.requeue((A, A), (1, usize::MAX), || Ok::<_, Refused>(()), drop);
    assert_eq!(done, Ok(Requeued { woken: 1, moved: 2 }));
    assert_eq!(wake(&queues, A, 9, ALL), [1, 2]);
}

#[test]
fn refused_steps_change_nothing() {
    let queues = queues();
    let waiter = enter(&queues, A, ALL, 1);
    assert_eq!(queues.requeue((A, B), (1, 1), || Err(Refused::OutOfMemory), drop), Err(Refused::OutOfMemory));
    let other = Arc::new(Waiter::new(A, ALL, 2));
    assert_eq!(queues.enter(&other, || Err(OutOfMemory)), Err(OutOfMemory));
    assert!(!queues.leave(&other));
    assert!(!waiter.is_woken());
    assert_eq!(wake(&queues, A, 9, ALL), [1]);
    assert!(waiter.is_woken() && !queues.leave(&waiter));
}

#[test]
fn leaves_from_where_it_was_moved_to() {
    let queues = queues();
    let waiter = enter(&queues, A, ALL, 1);
    assert!(queues.requeue((A, B), (0, 1), || Ok::<_, Refused>(()), drop).is_ok());
    assert!(queues.leave(&waiter) && !queues.leave(&waiter));
    assert_eq!(wake(&queues, B, 9, ALL), []);
}
