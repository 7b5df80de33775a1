//! Watches whose files may be ready, in the order of the news.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;

use super::Readiness;
use super::poll_source::{PollSource, Watch};
use crate::kmem::room::OutOfMemory;
use crate::sync::SpinLock;

/// Watches whose files may be ready, and the threads that wait for one.
#[derive(Default)]
pub(crate) struct ReadyList {
    queue: SpinLock<VecDeque<Arc<Watch>>>,
    /// Threads in `epoll_wait`, and watches on the epoll instance itself.
    pub(crate) source: PollSource,
    /// Who takes the watches off, if not a thread that waits here.
    owner: Option<Weak<dyn ReadyOwner>>,
}

/// Watches that were taken off a list with one lock.
pub(crate) type Batch = ArrayVec<Arc<Watch>, 32>;

/// Works a ready list off by itself.
pub(crate) trait ReadyOwner: Send + Sync {
    /// There is something on the list. Called with the locks of whoever notifies: it may take note, no more.
    fn has_ready(&self);
}

impl ReadyList {
    /// A list that its owner is called for.
    pub(crate) fn of(owner: Weak<dyn ReadyOwner>) -> Self {
        Self { owner: Some(owner), ..Self::default() }
    }

    /// Makes room for `count` watches, so that notifications need no memory.
    pub(crate) fn reserve(&self, count: usize) -> Result<(), OutOfMemory> {
        let mut queue = self.queue.lock();
        let queued = queue.len();
        queue.try_reserve(count.saturating_sub(queued)).map_err(|_| OutOfMemory)
    }

    /// Puts a watch at the end, if it is not on the list.
    #[inline(always)]
    pub(crate) fn push(&self, watch: &Arc<Watch>) -> bool {
        // Exchanges on both sides: if a look at the watch is just about to begin, it sees what the caller has changed.
        let is_new = !watch.is_queued.swap(true, Ordering::AcqRel);
        if is_new {
            self.queue.lock().push_back(Arc::clone(watch));
        }
        is_new
    }

    /// Takes the first watches, up to `most` and as many as the batch holds. They count as being on the list until
    /// [`Watch::begin_look`].
    pub(crate) fn take(&self, most: usize, batch: &mut Batch) {
        let mut queue = self.queue.lock();
        let count = queue.len().min(most).min(batch.remaining_capacity());
        batch.extend(queue.drain(..count));
    }

    /// Gives watches back to the end, after the look at them, but for those that have news since.
    pub(crate) fn put_back(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        for watch in batch {
            if !watch.is_queued.swap(true, Ordering::AcqRel) {
                queue.push_back(watch);
            }
        }
    }

    /// Gives watches back to the start that nobody has looked at.
    pub(crate) fn give_back(&self, untouched: impl DoubleEndedIterator<Item = Arc<Watch>>) {
        let mut queue = self.queue.lock();
        untouched.rev().for_each(|watch| queue.push_front(watch));
    }

    /// Puts a watch that could not be reported to the start; false if it is on the list again already.
    pub(crate) fn put_first(&self, watch: Arc<Watch>) -> bool {
        let is_new = !watch.is_queued.swap(true, Ordering::AcqRel);
        if is_new {
            self.queue.lock().push_front(watch);
        }
        is_new
    }

    /// Takes the first watch, to look at it.
    pub(crate) fn pop(&self) -> Option<Arc<Watch>> {
        let watch = self.queue.lock().pop_front()?;
        watch.begin_look();
        Some(watch)
    }

    /// Takes the watches off that are on it, before a look at all files. One that stayed would be told of no more news.
    pub(crate) fn begin_look_at_all(&self) {
        (0..self.len()).for_each(|_| drop(self.pop()));
    }

    /// How many watches are on it.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Forgets all watches, which ends their references back to this list.
    pub(crate) fn clear(&self) {
        let queue = core::mem::take(&mut *self.queue.lock());
        drop(queue);
    }

    /// Wakes one thread that waits for the list, for what was on it before.
    pub(crate) fn wake_sleeper(&self) {
        self.source.threads.wake_one();
    }

    /// Wakes one thread that waits for the list, and tells who watches it.
    #[inline]
    pub(crate) fn wake(&self) {
        match &self.owner {
            None => self.source.notify_one(Readiness::READABLE),
            Some(owner) => {
                if let Some(owner) = owner.upgrade() {
                    owner.has_ready();
                }
            }
        }
    }
}
