//! Completions: into the queue, or into a backlog while that is full; and who is told of them.

use alloc::collections::{BTreeSet, VecDeque};
use core::sync::atomic::Ordering;

use super::Ring;
use super::memory::Cqe;
use super::slots::Key;
use super::timeout::Expiry;
use crate::event::eventfd::EventFd;
use crate::file::Readiness;
use crate::platform::events::{self, Kind};

/// Completions that may wait for room in the queue. Linux counts them as memory of the app's.
const MAX_BACKLOG: usize = 65_536;

/// The completion queue's kernel side.
#[derive(Default)]
pub(super) struct Completions {
    tail: u32,
    /// Completions that found the queue full (`IORING_FEAT_NODROP`).
    backlog: VecDeque<Cqe>,
    /// Completions ever, and who waits for how many.
    posted: u64,
    counting: BTreeSet<(u64, Key)>,
}

impl Completions {
    /// Has the time-out at `key` end after so many completions; answers by how many that is.
    pub(super) fn count_down(&mut self, count: u32, key: Key) -> u64 {
        let target = self.posted + u64::from(count);
        self.counting.insert((target, key));
        target
    }

    /// The time-out at `key` has ended otherwise.
    pub(super) fn stop_counting(&mut self, target: u64, key: Key) {
        self.counting.remove(&(target, key));
    }

    /// A time-out that has waited for the completions that there are now.
    fn pop_counted(&mut self) -> Option<Key> {
        let &(target, key) = self.counting.first()?;
        if target > self.posted {
            return None;
        }
        self.counting.pop_first();
        Some(key)
    }
}

impl Ring {
    /// Puts a completion into the queue; false if it had to go to the backlog.
    pub(super) fn post(&self, user_data: u64, result: i32, flags: u32) -> bool {
        events::note(Kind::RingComplete, 0, user_data, i64::from(result) as u64);
        let cqe = Cqe { user_data, result, flags };
        let mut completions = self.completions.lock();
        let has_room = completions.backlog.is_empty() && self.memory.complete(completions.tail, cqe);
        if has_room {
            completions.tail = completions.tail.wrapping_add(1);
        } else if completions.backlog.try_reserve(1).is_ok() {
            completions.backlog.push_back(cqe);
            self.memory.set_overflow(true);
        } else {
            self.memory.count_lost();
        }
        completions.posted += 1;
        while let Some(key) = completions.pop_counted() {
            self.expired.lock().push_back((key, Expiry::Count));
            self.schedule();
        }
        self.has_news.store(true, Ordering::Release);
        has_room
    }

    /// Moves completions from the backlog to the queue, as far as there is room.
    pub(super) fn flush_backlog(&self) {
        let mut completions = self.completions.lock();
        while let Some(cqe) = completions.backlog.front() {
            if !self.memory.complete(completions.tail, *cqe) {
                return;
            }
            completions.backlog.pop_front();
            self.has_news.store(true, Ordering::Release);
            completions.tail = completions.tail.wrapping_add(1);
            if completions.backlog.is_empty() {
                self.memory.set_overflow(false);
            }
        }
    }

    /// True if so many completions wait for room in the queue that the app has to take some first.
    pub(super) fn is_backlog_full(&self) -> bool {
        self.completions.lock().backlog.len() >= MAX_BACKLOG
    }

    /// Completions that the app has not taken.
    pub(super) fn available(&self) -> usize {
        let completions = self.completions.lock();
        self.memory.completions_behind(completions.tail) as usize + completions.backlog.len()
    }

    /// Tells whoever waits for completions that there are some.
    pub(super) fn announce(&self) {
        if !self.has_news.swap(false, Ordering::AcqRel) {
            return;
        }
        self.source.notify(Readiness::READABLE);
        let eventfd = self.registered.lock().eventfd.clone();
        if let Some(eventfd) = eventfd.filter(|_| !self.memory.is_eventfd_off())
            && let Some(eventfd) = eventfd.downcast::<EventFd>()
        {
            eventfd.signal();
        }
    }
}
