//! Futexes with an owner: the app's locks with priority inheritance (futex(2)). The queues and what is done with the word
//! are `unikernel_sched::futex::pi`; here are the word itself, which threads there are, and sleeping.
//!
//! All threads have the same priority, so none is inherited.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_sched::futex::BUCKETS;
use unikernel_sched::futex::pi::{LockError, Outcome, Word};

use super::futex::{FUTEXES, FutexError, Refusal, Waiter, complete, look, wake_thread};
use crate::mem::user::UserPtr;
use crate::task::current;
use crate::task::process::process;
use crate::task::scheduler;
use crate::task::thread::{Thread, ThreadId};
use crate::task::wait::WaitError;

/// The app's word.
struct UserWord(UserPtr<u32>);

impl Word for UserWord {
    type Error = Refusal;

    fn read(&self) -> Result<u32, Refusal> {
        Ok(self.0.try_read()?)
    }

    fn compare_exchange(&self, expected: u32, new: u32) -> Result<u32, Refusal> {
        Ok(self.0.try_compare_exchange(expected, new)?)
    }
}

fn word_at(address: u64) -> UserWord {
    UserWord(UserPtr::new(address))
}

/// Somebody has waited for a lock: from then on ending threads look whether they had one.
static ARE_USED: AtomicBool = AtomicBool::new(false);

/// Called with a bucket locked; a thread that ends leaves the list of threads before it calls [`inherit`].
fn is_alive(id: u32) -> bool {
    process().thread(id as ThreadId).is_some()
}

fn own_id() -> u32 {
    current().id as u32
}

/// Does a step as soon as the word is in memory and holds still, or until a signal comes.
fn settle<T>(step: impl FnMut() -> Result<T, Refusal>) -> Result<T, FutexError> {
    settle_unless(step, || current().signals.lock().has_deliverable())
}

/// The same until `gives_up`. The app may change the word at any time, so no lock is held between two looks.
fn settle_unless<T>(
    mut step: impl FnMut() -> Result<T, Refusal>,
    gives_up: impl Fn() -> bool,
) -> Result<T, FutexError> {
    loop {
        match complete(&mut step) {
            Err(FutexError::Lock(LockError::Changed)) if gives_up() => return Err(FutexError::Interrupted),
            Err(FutexError::Lock(LockError::Changed)) => scheduler::yield_now(),
            outcome => return outcome,
        }
    }
}

/// Takes the lock at `address`, waiting for it until the deadline.
pub(crate) fn lock(address: u64, deadline_ns: Option<u64>) -> Result<(), FutexError> {
    // Before the look at who is alive; the lock on the list of threads orders the two.
    ARE_USED.store(true, Ordering::Relaxed);
    let waiter = Arc::new(Waiter::for_lock(address, own_id(), Arc::clone(&current())));
    let outcome =
        settle(|| FUTEXES.lock(&waiter, &word_at(address), is_alive, || waiter.thread().begin_block()))?;
    match outcome {
        Outcome::Acquired => Ok(()),
        Outcome::Owned(_) => sleep(&waiter, deadline_ns).map_err(|error| match error {
            WaitError::TimedOut => FutexError::TimedOut,
            WaitError::Interrupted => FutexError::Interrupted,
        }),
    }
}

/// Takes the lock at `address` if it is free.
pub(crate) fn try_lock(address: u64) -> Result<(), FutexError> {
    match settle(|| FUTEXES.try_lock(address, own_id(), &word_at(address), is_alive))? {
        Outcome::Acquired => Ok(()),
        Outcome::Owned(_) => Err(FutexError::Taken),
    }
}

/// Releases the lock at `address`, to the first that waits.
pub(crate) fn unlock(address: u64) -> Result<(), FutexError> {
    let next = settle(|| FUTEXES.unlock(address, own_id(), &word_at(address)))?;
    if let Some(next) = next {
        wake_thread(&next);
    }
    Ok(())
}

/// Sleeps while the word at `address` is `expected`, until the lock at `lock` was taken for the calling thread.
pub(crate) fn wait_requeue(
    (address, lock): (u64, u64),
    expected: u32,
    deadline_ns: Option<u64>,
) -> Result<(), FutexError> {
    ARE_USED.store(true, Ordering::Relaxed);
    let waiter = Arc::new(Waiter::for_condition(address, lock, own_id(), Arc::clone(&current())));
    complete(|| {
        FUTEXES.enter(&waiter, || {
            look(UserPtr::new(address), expected)?;
            waiter.thread().begin_block();
            Ok::<(), Refusal>(())
        })
    })?;
    sleep(&waiter, deadline_ns).map_err(|error| match error {
        WaitError::TimedOut => FutexError::TimedOut,
        // It cannot wait for the condition again, which may have come.
        WaitError::Interrupted if waiter.is_at_lock() => FutexError::ValueChanged,
        WaitError::Interrupted => FutexError::Interrupted,
    })
}

/// Moves waiters at `from`, where the word is `expected`, to the lock at `to`, up to `move_count` besides one that may get
/// it at once. Answers how many there were.
pub(crate) fn requeue(
    (from, to): (u64, u64),
    move_count: usize,
    expected: Option<u32>,
) -> Result<usize, FutexError> {
    let check = || expected.map_or(Ok(()), |expected| look(UserPtr::new(from), expected));
    let (count, woken) =
        settle(|| FUTEXES.requeue_to_lock((from, to), move_count, check, &word_at(to), is_alive))?;
    if let Some(woken) = woken {
        wake_thread(&woken);
    }
    Ok(count)
}

/// Sleeps until a waker has given the lock to the waiter, which is queued. Otherwise that has left its queue.
fn sleep(waiter: &Arc<Waiter>, deadline_ns: Option<u64>) -> Result<(), WaitError> {
    loop {
        let outcome = scheduler::block(deadline_ns);
        if waiter.is_woken() {
            return Ok(());
        }
        match outcome {
            // By something else: it keeps its place in the queue.
            Ok(()) if FUTEXES.stay(waiter, || waiter.thread().begin_block()) => {}
            Ok(()) => return Ok(()),
            Err(error) => return if FUTEXES.leave(waiter) { Err(error) } else { Ok(()) },
        }
    }
}

/// Gives the locks of a thread that has ended, and is not in the list of threads any more, to those who wait for them.
pub(crate) fn inherit(thread: &Thread) {
    if !ARE_USED.load(Ordering::Relaxed) {
        return;
    }
    let id = thread.id as u32;
    for bucket in 0..BUCKETS {
        loop {
            let step = || FUTEXES.inherit(bucket, id, |address| Some(word_at(address)));
            let next = settle_unless(step, || false)
                // The word cannot be reached any more: nobody else will look at it, either.
                .or_else(|_| complete(|| FUTEXES.inherit(bucket, id, |_| None::<UserWord>)));
            match next {
                Ok(Some(next)) => wake_thread(&next),
                _ => break,
            }
        }
    }
}
