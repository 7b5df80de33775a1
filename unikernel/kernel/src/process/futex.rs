//! The kernel's part of the app's locks: sleeping on a word until somebody wakes it (futex(2)).
//! The app is one process, so a futex is its virtual address. [`pi`](super::futex_pi): those with an owner.

use alloc::sync::Arc;

use arrayvec::ArrayVec;
use unikernel_sched::futex::pi::LockError;
use unikernel_sched::futex::{self, BUCKETS, Bucket, Buckets, Futexes, IsLock, OutOfMemory, Requeued};

use crate::mem::fault::{Missing, paging_in};
use crate::mem::user::{Fault, UserPtr};
use crate::platform::events::{self, Kind};
use crate::sync::SpinLock;
use crate::task::thread::Thread;
use crate::task::wait::WaitError;
use crate::task::{current, scheduler};

/// Threads woken between two looks at the queue.
const WAKE_BATCH: usize = 16;

pub(super) type Waiter = futex::Waiter<Arc<Thread>>;

pub(super) struct Locks([SpinLock<Bucket<Arc<Thread>>>; BUCKETS]);

impl Buckets for Locks {
    type Thread = Arc<Thread>;

    fn with<R>(&self, bucket: usize, work: impl FnOnce(&mut Bucket<Arc<Thread>>) -> R) -> R {
        work(&mut self.0[bucket].lock())
    }

    fn with_two<R>(
        &self,
        lower: usize,
        upper: usize,
        work: impl FnOnce(&mut Bucket<Arc<Thread>>, &mut Bucket<Arc<Thread>>) -> R,
    ) -> R {
        let mut lower = self.0[lower].lock();
        // Always in the order of their numbers.
        work(&mut lower, &mut self.0[upper].lock_nested())
    }
}

pub(super) static FUTEXES: Futexes<Locks> =
    Futexes::new(Locks([const { SpinLock::new(Bucket::new()) }; BUCKETS]));

/// Why a wait did not happen or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FutexError {
    /// The word does not have the expected value.
    ValueChanged,
    /// The address is not the app's.
    Fault,
    /// There is no memory for an entry in a queue.
    OutOfMemory,
    /// The deadline passed.
    TimedOut,
    /// A signal came.
    Interrupted,
    /// Somebody waits there for a lock with an owner.
    IsLock,
    /// A lock with an owner cannot be taken or released like this.
    Lock(LockError),
    /// It is taken, and the caller does not wait.
    Taken,
}

impl From<Fault> for FutexError {
    fn from(_: Fault) -> Self {
        Self::Fault
    }
}

/// Why a step with a bucket locked was not done.
pub(super) enum Refusal {
    Missing(Missing),
    Error(FutexError),
}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Self::Error(FutexError::OutOfMemory)
    }
}

impl From<IsLock> for Refusal {
    fn from(_: IsLock) -> Self {
        Self::Error(FutexError::IsLock)
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        Self::Error(FutexError::Lock(error))
    }
}

/// The look at a word before a step, with the bucket locked.
pub(super) fn look(word: UserPtr<u32>, expected: u32) -> Result<(), Refusal> {
    if word.try_read()? == expected { Ok(()) } else { Err(Refusal::Error(FutexError::ValueChanged)) }
}

/// Does a step as soon as the word is in memory.
pub(super) fn complete<T>(mut step: impl FnMut() -> Result<T, Refusal>) -> Result<T, FutexError> {
    paging_in(|| match step() {
        Ok(value) => Ok(Ok(value)),
        Err(Refusal::Error(error)) => Ok(Err(error)),
        Err(Refusal::Missing(missing)) => Err(missing),
    })?
}

/// Sleeps while the word at `address` is `expected`, until a wake with a common bit.
pub(crate) fn wait(
    address: u64,
    expected: u32,
    bits: u32,
    deadline_ns: Option<u64>,
) -> Result<(), FutexError> {
    loop {
        let waiter = Arc::new(Waiter::new(address, bits, Arc::clone(&current())));
        complete(|| {
            FUTEXES.enter(&waiter, || {
                look(UserPtr::new(address), expected)?;
                waiter.thread().begin_block();
                Ok(())
            })
        })?;
        events::note(Kind::FutexWait, expected, address, 0);
        let outcome = scheduler::block(deadline_ns);
        // Whoever was woken says so, even if its time was over at the same moment: the waker has counted it.
        if waiter.is_woken() || !FUTEXES.leave(&waiter) {
            return Ok(());
        }
        match outcome {
            // By something else, such as the timer of an earlier sleep.
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Err(FutexError::TimedOut),
            Err(WaitError::Interrupted) => return Err(FutexError::Interrupted),
        }
    }
}

/// Wakes up to `count` threads that wait at `address` with a common bit; answers how many. The queue's lock is not
/// held meanwhile: an interrupt for another core can take long where a host is busy, and whoever is woken often has a
/// futex of its own to wake (Linux: `wake_q`).
pub(crate) fn wake(address: u64, count: usize, bits: u32) -> Result<usize, FutexError> {
    let mut woken = 0;
    loop {
        let mut batch = ArrayVec::<Arc<Waiter>, WAKE_BATCH>::new();
        let taken = FUTEXES.take(address, WAKE_BATCH.min(count - woken), bits, |waiter| batch.push(waiter));
        batch.iter().for_each(wake_thread);
        taken.map_err(|IsLock| FutexError::IsLock)?;
        woken += batch.len();
        if !batch.is_full() {
            events::note(Kind::FutexWake, woken as u32, address, 0);
            return Ok(woken);
        }
    }
}

pub(super) fn wake_thread(waiter: &Arc<Waiter>) {
    // Its time may have been over already; then it finds that it was woken.
    let _ = scheduler::wake(waiter.thread());
}

/// Wakes up to `wake_count` waiters of `from` and moves up to `move_count` others to `to`, if the word at `from` is
/// `expected`; all in one step.
pub(crate) fn requeue(
    (from, to): (u64, u64),
    counts: (usize, usize),
    expected: Option<u32>,
) -> Result<Requeued, FutexError> {
    let mut batch = ArrayVec::<Arc<Waiter>, WAKE_BATCH>::new();
    let done = complete(|| {
        let check = || expected.map_or(Ok(()), |expected| look(UserPtr::new(from), expected));
        FUTEXES.requeue((from, to), counts, check, |waiter| {
            // More than one is hardly ever asked for.
            if let Err(more) = batch.try_push(waiter) {
                wake_thread(&more.element());
            }
        })
    })?;
    batch.iter().for_each(wake_thread);
    Ok(done)
}
