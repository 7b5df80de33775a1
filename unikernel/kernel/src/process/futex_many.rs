//! Sleeping on several words at once, until one of them is woken (futex_waitv(2)). The thread has a waiter in the queue of each.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use super::futex::{FUTEXES, FutexError, Waiter, complete, look};
use crate::kmem::room;
use crate::mem::user::UserPtr;
use crate::task::wait::WaitError;
use crate::task::{current, scheduler};

/// Takes all waiters off their queues; answers the last that somebody has woken.
fn leave(waiters: &[Arc<Waiter>]) -> Option<usize> {
    waiters.iter().rposition(|waiter| waiter.is_woken() | !FUTEXES.leave(waiter)).inspect(|last| {
        waiters[..*last].iter().for_each(|waiter| _ = FUTEXES.leave(waiter));
    })
}

/// Sleeps while each word, by address, has the value that is expected of it. Answers the number of one that was woken.
pub(crate) fn wait(words: &[(u64, u32)], deadline_ns: Option<u64>) -> Result<usize, FutexError> {
    let me = current();
    loop {
        let mut waiters = room::with_capacity(words.len()).map_err(|_| FutexError::OutOfMemory)?;
        if let Err(error) = enter(words, &mut waiters) {
            return leave(&waiters).ok_or(error);
        }
        me.begin_block();
        // Pairs with the one that waking a thread begins with: a waker that sees nobody asleep is seen here.
        fence(Ordering::SeqCst);
        let outcome = if waiters.iter().any(|waiter| waiter.is_woken()) {
            me.cancel_block();
            Ok(())
        } else {
            scheduler::block(deadline_ns)
        };
        if let Some(woken) = leave(&waiters) {
            return Ok(woken);
        }
        match outcome {
            // By something else, such as the timer of an earlier sleep.
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Err(FutexError::TimedOut),
            Err(WaitError::Interrupted) => return Err(FutexError::Interrupted),
        }
    }
}

/// Makes a waiter for each word, as long as the words are what they should be.
fn enter(words: &[(u64, u32)], waiters: &mut Vec<Arc<Waiter>>) -> Result<(), FutexError> {
    for &(address, expected) in words {
        let waiter = Arc::new(Waiter::new(address, u32::MAX, Arc::clone(&current())));
        complete(|| FUTEXES.enter(&waiter, || look(UserPtr::new(address), expected)))?;
        waiters.push(waiter);
    }
    Ok(())
}
