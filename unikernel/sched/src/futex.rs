//! The queues of futex(2): threads that sleep on a word of the app's, in buckets by its address.
//!
//! What must hold, whoever comes between: a thread that is queued is in the bucket of its address; it leaves the queue
//! once, by a waker, which counts it, or by itself, when its time is over ([`Futexes::leave`] tells which). So as many
//! are woken as wakers answer, and no entry is left whose thread has gone. A look at the word and what is done because
//! of it, entering a queue or moving others to another word, are one step for every waker.
//!
//! The locks are the machine's ([`Buckets`]). A move takes two, the lower bucket's first.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};

pub mod pi;

/// Waiters are spread over this many queues by address.
pub const BUCKETS: usize = if cfg!(loom) { 2 } else { 64 };

/// One queue.
pub type Bucket<T> = VecDeque<Arc<Waiter<T>>>;

/// The queues and their locks.
pub trait Buckets {
    /// What a waker wakes.
    type Thread;

    /// Runs `work` with a bucket locked.
    fn with<R>(&self, bucket: usize, work: impl FnOnce(&mut Bucket<Self::Thread>) -> R) -> R;

    /// Runs `work` with two buckets locked, `lower` first.
    fn with_two<R>(
        &self,
        lower: usize,
        upper: usize,
        work: impl FnOnce(&mut Bucket<Self::Thread>, &mut Bucket<Self::Thread>) -> R,
    ) -> R;
}

/// A thread that waits.
#[derive(Debug)]
pub struct Waiter<T> {
    /// Changed with the locks of both buckets held.
    address: AtomicU64,
    bits: u32,
    is_woken: AtomicBool,
    /// Of who waits for a lock with an owner.
    claim: Option<pi::Claim>,
    thread: T,
}

impl<T> Waiter<T> {
    /// A thread that will wait at `address` for a wake with a common bit.
    pub fn new(address: u64, bits: u32, thread: T) -> Self {
        let (address, is_woken) = (AtomicU64::new(address), AtomicBool::new(false));
        Self { address, bits, is_woken, claim: None, thread }
    }

    /// The thread.
    pub fn thread(&self) -> &T {
        &self.thread
    }

    /// True if a waker has taken it off its queue.
    pub fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    fn is_at(&self, address: u64) -> bool {
        self.address.load(Ordering::Relaxed) == address
    }

    fn note_woken(&self) {
        self.is_woken.store(true, Ordering::Release);
    }
}

/// There is no memory for an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Somebody there waits for a lock with an owner ([`pi`]), which only a release of that lock can wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IsLock;

/// How many a requeue has woken, and how many moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Requeued {
    /// Woken.
    pub woken: usize,
    /// Moved.
    pub moved: usize,
}

/// All queues.
#[derive(Debug)]
pub struct Futexes<B>(B);

/// Futexes are words; neighbours should not share a queue.
fn bucket_of(address: u64) -> usize {
    (address >> 2) as usize % BUCKETS
}

impl<B: Buckets> Futexes<B> {
    /// Queues with these locks.
    pub const fn new(buckets: B) -> Self {
        Self(buckets)
    }

    /// Queues a waiter, unless `prepare` fails, which looks at the word and announces the sleep.
    pub fn enter<E: From<OutOfMemory>>(
        &self,
        waiter: &Arc<Waiter<B::Thread>>,
        prepare: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.with(bucket_of(waiter.address.load(Ordering::Relaxed)), |bucket| {
            bucket.try_reserve(1).map_err(|_| OutOfMemory)?;
            prepare()?;
            bucket.push_back(Arc::clone(waiter));
            Ok(())
        })
    }

    /// Takes a waiter off whatever queue it is in. False if a waker was faster, which has counted it.
    pub fn leave(&self, waiter: &Arc<Waiter<B::Thread>>) -> bool {
        self.with_bucket_of(waiter, |bucket| {
            let index = bucket.iter().position(|other| Arc::ptr_eq(other, waiter));
            index.and_then(|index| bucket.remove(index)).is_some()
        })
    }

    /// Runs `work` with the bucket locked that a waiter belongs to.
    fn with_bucket_of<R>(
        &self,
        waiter: &Arc<Waiter<B::Thread>>,
        mut work: impl FnMut(&mut Bucket<B::Thread>) -> R,
    ) -> R {
        loop {
            let address = waiter.address.load(Ordering::Relaxed);
            let outcome = self.0.with(bucket_of(address), |bucket| {
                // A move has both locks while it changes the address.
                waiter.is_at(address).then(|| work(bucket))
            });
            if let Some(result) = outcome {
                return result;
            }
        }
    }

    /// Takes up to `count` waiters with a common bit off the queue of `address` and gives them to `woken`, with the lock
    /// held, for as long as that has room. Answers how many; those that were woken before a refusal stay so.
    pub fn take(
        &self,
        address: u64,
        count: usize,
        bits: u32,
        mut woken: impl FnMut(Arc<Waiter<B::Thread>>),
    ) -> Result<usize, IsLock> {
        self.0.with(bucket_of(address), |bucket| {
            let (mut taken, mut index) = (0, 0);
            while taken < count && index < bucket.len() {
                let waiter = &bucket[index];
                if waiter.is_at(address) && waiter.claim.is_some() {
                    return Err(IsLock);
                }
                if !waiter.is_at(address) || waiter.bits & bits == 0 {
                    index += 1;
                    continue;
                }
                let Some(waiter) = bucket.remove(index) else { break };
                waiter.note_woken();
                woken(waiter);
                taken += 1;
            }
            Ok(taken)
        })
    }

    /// Takes up to `wake_count` waiters off the queue of `from`, and moves up to `move_count` of those behind them to
    /// `to`, unless `check` fails; all in one step. `woken` is called with the locks held.
    pub fn requeue<E: From<OutOfMemory> + From<IsLock>>(
        &self,
        (from, to): (u64, u64),
        (wake_count, move_count): (usize, usize),
        check: impl FnOnce() -> Result<(), E>,
        mut woken: impl FnMut(Arc<Waiter<B::Thread>>),
    ) -> Result<Requeued, E> {
        let (source, target) = (bucket_of(from), bucket_of(to));
        let step = |source: &mut Bucket<B::Thread>, target: Option<&mut Bucket<B::Thread>>| {
            check()?;
            if source.iter().any(|waiter| waiter.is_at(from) && waiter.claim.is_some()) {
                return Err(IsLock.into());
            }
            Ok(move_waiters(source, target, (from, to), (wake_count, move_count), &mut woken)?)
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

/// The step of [`Futexes::requeue`]; without a `target`, both words have the same bucket.
fn move_waiters<T>(
    source: &mut Bucket<T>,
    mut target: Option<&mut Bucket<T>>,
    (from, to): (u64, u64),
    (wake_count, move_count): (usize, usize),
    woken: &mut impl FnMut(Arc<Waiter<T>>),
) -> Result<Requeued, OutOfMemory> {
    let mut done = Requeued::default();
    if let Some(target) = &mut target {
        // All at once, before anything has happened.
        let waiting = source.iter().filter(|waiter| waiter.is_at(from)).count();
        let most = waiting.saturating_sub(wake_count).min(move_count);
        target.try_reserve(most).map_err(|_| OutOfMemory)?;
    }
    source.retain(|waiter| {
        if !waiter.is_at(from) {
            return true;
        }
        if done.woken < wake_count {
            done.woken += 1;
            waiter.note_woken();
            woken(Arc::clone(waiter));
            return false;
        }
        if done.moved == move_count {
            return true;
        }
        done.moved += 1;
        waiter.address.store(to, Ordering::Relaxed);
        match &mut target {
            Some(target) => {
                target.push_back(Arc::clone(waiter));
                false
            }
            None => true,
        }
    });
    Ok(done)
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
