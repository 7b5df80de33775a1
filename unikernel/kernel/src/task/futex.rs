//! The kernel's part of the app's locks: sleeping on a word until somebody wakes it (futex(2)).
//! The app is one process, so a futex is its virtual address.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;

use super::thread::Thread;
use super::wait::WaitError;
use super::{current, scheduler};
use crate::mem::fault::paging_in;
use crate::mem::user::{Fault, UserPtr};
use crate::sync::SpinLock;

/// Waiters are spread over this many queues by address.
const BUCKETS: usize = 64;
/// Threads woken between two looks at the queue.
const WAKE_BATCH: usize = 16;

struct Waiter {
    address: AtomicU64,
    bits: u32,
    is_woken: AtomicBool,
    thread: Arc<Thread>,
}

static QUEUES: [SpinLock<VecDeque<Arc<Waiter>>>; BUCKETS] =
    [const { SpinLock::new(VecDeque::new()) }; BUCKETS];

fn queue(address: u64) -> &'static SpinLock<VecDeque<Arc<Waiter>>> {
    // Futexes are words; neighbours should not share a queue.
    &QUEUES[(address >> 2) as usize % BUCKETS]
}

/// Why a wait did not happen or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FutexError {
    /// The word does not have the expected value.
    ValueChanged,
    /// The address is not the app's.
    Fault,
    /// The deadline passed.
    TimedOut,
    /// A signal came.
    Interrupted,
}

impl From<Fault> for FutexError {
    fn from(_: Fault) -> Self {
        Self::Fault
    }
}

/// Sleeps while the word at `address` is `expected`, until a wake with a common bit.
pub fn wait(address: u64, expected: u32, bits: u32, deadline_ns: Option<u64>) -> Result<(), FutexError> {
    let waiter = Arc::new(Waiter {
        address: AtomicU64::new(address),
        bits,
        is_woken: AtomicBool::new(false),
        thread: Arc::clone(&current()),
    });
    let word = UserPtr::<u32>::new(address);
    let is_queued = paging_in(|| {
        // The look at the word and the entry into the queue are one step for every waker.
        let mut waiters = queue(address).lock();
        if word.try_read()? != expected {
            return Ok(false);
        }
        waiter.thread.begin_block();
        waiters.push_back(Arc::clone(&waiter));
        Ok(true)
    })?;
    if !is_queued {
        return Err(FutexError::ValueChanged);
    }
    let outcome = scheduler::block(deadline_ns);
    if waiter.is_woken.load(Ordering::Acquire) {
        return Ok(());
    }
    leave(&waiter);
    match outcome {
        // A wake-up that was not for the futex cannot be told from a spurious one, which
        // futex(2) allows.
        Ok(()) => Ok(()),
        Err(WaitError::TimedOut) => Err(FutexError::TimedOut),
        Err(WaitError::Interrupted) => Err(FutexError::Interrupted),
    }
}

/// Takes a waiter out of whatever queue it is in; a requeue may have moved it.
fn leave(waiter: &Arc<Waiter>) {
    loop {
        let address = waiter.address.load(Ordering::Acquire);
        let mut waiters = queue(address).lock();
        if waiter.address.load(Ordering::Acquire) == address {
            waiters.retain(|other| !Arc::ptr_eq(other, waiter));
            return;
        }
    }
}

/// Wakes up to `count` threads that wait at `address` with a common bit; answers how many. The queue's lock is not
/// held meanwhile: an interrupt for another core can take long where a host is busy, and whoever is woken often has a
/// futex of its own to wake (Linux: `wake_q`).
pub fn wake(address: u64, count: usize, bits: u32) -> usize {
    let mut woken = 0;
    loop {
        let batch = take_waiters(address, count - woken, bits);
        batch.iter().for_each(|waiter| _ = scheduler::wake(&waiter.thread));
        woken += batch.len();
        if !batch.is_full() {
            return woken;
        }
    }
}

/// Takes up to `count` waiters from the queue of `address`, as many as a batch holds. They wait no more, even if their
/// deadline passes before [`wake`] comes to them.
fn take_waiters(address: u64, count: usize, bits: u32) -> ArrayVec<Arc<Waiter>, WAKE_BATCH> {
    let mut batch = ArrayVec::new();
    let mut waiters = queue(address).lock();
    let mut index = 0;
    while batch.len() < count && !batch.is_full() && index < waiters.len() {
        let waiter = &waiters[index];
        if waiter.address.load(Ordering::Relaxed) != address || waiter.bits & bits == 0 {
            index += 1;
            continue;
        }
        let Some(waiter) = waiters.remove(index) else { break };
        waiter.is_woken.store(true, Ordering::Release);
        batch.push(waiter);
    }
    batch
}

/// Wakes up to `wake_count` waiters of `from` and moves up to `move_count` others to `to`.
/// Answers how many were woken and how many moved.
pub fn requeue(from: u64, to: u64, wake_count: usize, move_count: usize) -> (usize, usize) {
    let woken = wake(from, wake_count, u32::MAX);
    let mut moved = 0;
    while moved < move_count {
        let taken = {
            let mut waiters = queue(from).lock();
            let index = waiters.iter().position(|waiter| waiter.address.load(Ordering::Relaxed) == from);
            index.and_then(|index| waiters.remove(index))
        };
        let Some(waiter) = taken else { break };
        let mut waiters = queue(to).lock();
        waiter.address.store(to, Ordering::Release);
        waiters.push_back(waiter);
        moved += 1;
    }
    (woken, moved)
}

/// Set in a robust futex whose owner died (futex.h, `FUTEX_OWNER_DIED`).
const OWNER_DIED: u32 = linux_raw_sys::general::FUTEX_OWNER_DIED;
const TID_MASK: u32 = linux_raw_sys::general::FUTEX_TID_MASK;
/// A list longer than this is taken for a loop (Linux: `ROBUST_LIST_LIMIT`).
const ROBUST_LIST_LIMIT: usize = 2048;

/// Releases the robust futexes that an ending thread still holds (get_robust_list(2)). The list
/// is in the app's memory and is believed only as far as it can be read.
pub fn release_robust_list(thread: &Thread) {
    let head = thread.robust_list.load(Ordering::Relaxed);
    if head != 0 {
        let _ = walk_robust_list(head, thread.id as u32);
    }
}

fn walk_robust_list(head: u64, id: u32) -> Result<(), Fault> {
    // `struct robust_list_head`: next, offset of the futex word from an entry, pending entry.
    let [first, offset, pending] = UserPtr::<[u64; 3]>::new(head).read()?;
    let mut entry = first;
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry == head {
            break;
        }
        let next = UserPtr::<u64>::new(entry).read();
        if entry != pending {
            mark_owner_died(entry.wrapping_add(offset), id)?;
        }
        entry = next?;
    }
    if pending != 0 { mark_owner_died(pending.wrapping_add(offset), id) } else { Ok(()) }
}

fn mark_owner_died(address: u64, id: u32) -> Result<(), Fault> {
    let is_held = |value: u32| value & TID_MASK == id;
    let before = UserPtr::<u32>::new(address)
        .update(|value| is_held(value).then_some(value & !TID_MASK | OWNER_DIED))?;
    if is_held(before) {
        wake(address, 1, u32::MAX);
    }
    Ok(())
}
