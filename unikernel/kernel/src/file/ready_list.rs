//! Watches whose files may be ready, in the order of the news; `unikernel_sched::ready` has the protocol.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use arrayvec::ArrayVec;
use unikernel_sched::ready::ReadyQueue;

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

impl ReadyQueue for ReadyList {
    type Watch = Watch;

    #[inline(always)]
    fn with_queue<R>(&self, work: impl FnOnce(&mut VecDeque<Arc<Watch>>) -> R) -> R {
        work(&mut self.queue.lock())
    }
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
