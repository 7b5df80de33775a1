//! The list of those that may be ready: of an epoll instance's watches whose files have had news, of a ring's requests.
//!
//! ```text
//!   who has news                         who looks
//!   ------------                         ---------
//!   change the file                      take the watch off the list
//!   mark the watch as queued (exchange)  mark it as looked at (exchange)
//!   it was not: put it on the list       look at the file
//! ```
//!
//! Both sides *exchange* the mark, so one of them reads what the other wrote: if the news came first, the look sees the changed
//! file; if the look did, the news find the watch not queued and put it on the list again. A watch is never there twice, so a
//! list with room for all its watches needs no memory for news.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use crate::atomic::{AtomicBool, Ordering};

/// Whether a watch is on the list, or was taken off and not looked at since.
#[derive(Debug)]
pub struct Mark(AtomicBool);

impl Mark {
    /// Of a watch that is not on the list.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Marks the watch as queued; true if the caller is to put it on the list.
    #[inline]
    fn queue(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// From here on news put the watch on the list again. The caller has taken it off, and looks at its file next.
    #[inline]
    pub fn begin_look(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands on a list.
pub trait Watching {
    /// Its mark.
    fn mark(&self) -> &Mark;
}

/// A list, whose lock is the machine's.
pub trait ReadyQueue {
    /// What stands on it.
    type Watch: Watching;

    /// Runs `work` with the list locked.
    fn with_queue<R>(&self, work: impl FnOnce(&mut VecDeque<Arc<Self::Watch>>) -> R) -> R;

    /// Puts a watch at the end, if it is not on the list; true if it was not. Call it after its file has changed.
    #[inline(always)]
    fn push(&self, watch: &Arc<Self::Watch>) -> bool {
        let is_new = watch.mark().queue();
        if is_new {
            self.with_queue(|queue| queue.push_back(Arc::clone(watch)));
        }
        is_new
    }

    /// Takes up to `most` watches off the start. They count as being on the list until [`Mark::begin_look`].
    fn take(&self, most: usize, batch: &mut impl Extend<Arc<Self::Watch>>) {
        self.with_queue(|queue| {
            let count = queue.len().min(most);
            batch.extend(queue.drain(..count));
        });
    }

    /// Gives watches back to the end, after the look at them, but for those that have news since.
    fn put_back(&self, watches: impl IntoIterator<Item = Arc<Self::Watch>>) {
        self.with_queue(|queue| {
            for watch in watches {
                if watch.mark().queue() {
                    queue.push_back(watch);
                }
            }
        });
    }

    /// Gives watches back to the start that nobody has looked at.
    fn give_back(&self, untouched: impl DoubleEndedIterator<Item = Arc<Self::Watch>>) {
        self.with_queue(|queue| untouched.rev().for_each(|watch| queue.push_front(watch)));
    }

    /// Puts a watch that was looked at to the start; false if it is on the list again already.
    fn put_first(&self, watch: Arc<Self::Watch>) -> bool {
        let is_new = watch.mark().queue();
        if is_new {
            self.with_queue(|queue| queue.push_front(watch));
        }
        is_new
    }

    /// Takes the first watch off, to look at it.
    fn pop(&self) -> Option<Arc<Self::Watch>> {
        let watch = self.with_queue(VecDeque::pop_front)?;
        watch.mark().begin_look();
        Some(watch)
    }

    /// Takes the watches off that are on it, before a look at all files. One that stayed would be told of no more news.
    fn begin_look_at_all(&self) {
        (0..self.len()).for_each(|_| drop(self.pop()));
    }

    /// How many watches are on it.
    fn len(&self) -> usize {
        self.with_queue(|queue| queue.len())
    }

    /// True if there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, loom))]
mod model;
