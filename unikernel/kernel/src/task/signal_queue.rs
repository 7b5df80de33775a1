//! Signals that were sent and not yet taken: of one thread, or of the app as a whole.
//!
//! A standard signal (1 to 31) waits once, whatever the number of senders; real-time signals queue, and the lowest is
//! taken first (signal(7)). A POSIX timer has one place of its own, as it has one signal under way at most.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use linux_raw_sys::general::{RLIMIT_SIGPENDING, SI_USER, SIGRTMIN};

use super::limits;
use super::signal::{SYNCHRONOUS, SignalInfo, SignalSet, set_of};
use crate::sync::SpinLock;

/// Signals that wait in all queues together, beyond which real-time signals are refused; the app may want fewer (`RLIMIT_SIGPENDING`).
pub(crate) const MAX_QUEUED: usize = 4096;

/// How many do.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// How many signals wait in all queues together.
pub(crate) fn queued() -> usize {
    QUEUED.load(Ordering::Relaxed)
}

/// What became of a signal that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// It waits to be taken.
    Queued,
    /// It is a standard signal that waited already.
    Merged,
    /// Nobody wants it.
    Ignored,
    /// There are too many, or there was no memory.
    Full,
}

/// The signals that wait for one receiver.
#[derive(Default)]
pub(crate) struct SignalQueue {
    set: SignalSet,
    /// In the order of sending. A signal of `set` that is not here has lost its details to the limit.
    infos: VecDeque<SignalInfo>,
}

impl SignalQueue {
    /// The signals that wait.
    pub(crate) const fn set(&self) -> SignalSet {
        self.set
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.infos.len()
    }

    /// Adds a signal.
    pub(crate) fn push(&mut self, info: SignalInfo) -> Sent {
        let is_realtime = info.signal >= SIGRTMIN;
        if !is_realtime && !info.is_posix_timer() && self.set & set_of(info.signal) != 0 {
            return Sent::Merged;
        }
        let is_kept = self.keep(info);
        // Without room, what kill(2) sends is told without the sender; other real-time signals fail.
        if !is_kept && (info.is_posix_timer() || is_realtime && info.code != SI_USER as i32) {
            return Sent::Full;
        }
        self.set |= set_of(info.signal);
        Sent::Queued
    }

    fn keep(&mut self, info: SignalInfo) -> bool {
        let is_over = QUEUED.fetch_add(1, Ordering::Relaxed) as u64 >= limits::soft(RLIMIT_SIGPENDING)
            && !info.is_posix_timer();
        if is_over || self.infos.try_reserve(1).is_err() {
            QUEUED.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.infos.push_back(info);
        true
    }

    /// Takes a signal of `wanted`: faults first, then the lowest; of several alike the oldest.
    pub(crate) fn take(&mut self, wanted: SignalSet) -> Option<SignalInfo> {
        let ready = self.set & wanted;
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        if first == 0 {
            return None;
        }
        let signal = first.trailing_zeros() + 1;
        let mut alike = self.infos.iter().enumerate().filter(|(_, info)| info.signal == signal);
        let index = alike.next().map(|(index, _)| index);
        if alike.next().is_none() {
            self.set &= !set_of(signal);
        }
        let info = index.and_then(|index| self.infos.remove(index));
        if info.is_some() {
            QUEUED.fetch_sub(1, Ordering::Relaxed);
        }
        if self.infos.is_empty() {
            self.infos = VecDeque::new();
        }
        Some(info.unwrap_or(SignalInfo { detail: 0, ..SignalInfo::from_app(signal, SI_USER as i32) }))
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.infos.len(), Ordering::Relaxed);
    }
}

/// The signals that wait for the app: the first thread that lets one in takes it.
pub(crate) struct SharedQueue {
    queue: SpinLock<SignalQueue>,
    /// Its set, for looks without the lock: each sleep and each switch has one.
    set: AtomicU64,
}

impl SharedQueue {
    /// An empty one.
    pub(super) const fn new() -> Self {
        let queue = SignalQueue { set: 0, infos: VecDeque::new() };
        Self { queue: SpinLock::new(queue), set: AtomicU64::new(0) }
    }

    /// The signals that wait.
    #[inline]
    pub(crate) fn set(&self) -> SignalSet {
        self.set.load(Ordering::Relaxed)
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.queue.lock().count()
    }

    /// Adds a signal. Whoever locks a thread's signals later sees it in [`Self::set`].
    pub(crate) fn push(&self, info: SignalInfo) -> Sent {
        self.change(|queue| queue.push(info))
    }

    /// Takes a signal of `wanted`.
    pub(crate) fn take(&self, wanted: SignalSet) -> Option<SignalInfo> {
        if self.set() & wanted == 0 {
            return None;
        }
        self.change(|queue| queue.take(wanted))
    }

    fn change<R>(&self, change: impl FnOnce(&mut SignalQueue) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = change(&mut queue);
        self.set.store(queue.set(), Ordering::Relaxed);
        result
    }
}
