//! What all threads of the app share. There is exactly one process; `process::exit` ends it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::signal::Dispositions;
use super::signal_queue::SharedQueue;
use super::thread::{Thread, ThreadId};
use super::{current, scheduler};
use crate::sync::SpinLock;

/// The app's process id. It is what Linux gives the only process of a machine.
pub(crate) const PROCESS_ID: i32 = 1;
/// More threads than this are refused with `EAGAIN` (Linux: `kernel.threads-max`).
pub(crate) const MAX_THREADS: usize = 32_768;

/// What the threads share.
pub(crate) struct Process {
    threads: SpinLock<BTreeMap<ThreadId, Arc<Thread>>>,
    next_id: AtomicI32,
    /// Signals sent to the app.
    pub pending: SharedQueue,
    /// Signal handlers.
    pub dispositions: SpinLock<Dispositions>,
    /// Processor time of threads that have ended.
    departed_time_ns: AtomicU64,
}

static PROCESS: Process = Process {
    threads: SpinLock::new(BTreeMap::new()),
    next_id: AtomicI32::new(PROCESS_ID),
    pending: SharedQueue::new(),
    dispositions: SpinLock::new(Dispositions::all_default()),
    departed_time_ns: AtomicU64::new(0),
};

/// The app.
pub(crate) fn process() -> &'static Process {
    &PROCESS
}

impl Process {
    /// An id for a new thread.
    pub(crate) fn allocate_id(&self) -> ThreadId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a thread and lets it run.
    pub(crate) fn start_thread(&self, thread: Arc<Thread>) {
        self.threads.lock().insert(thread.id, Arc::clone(&thread));
        scheduler::enqueue(thread);
    }

    /// Takes the calling thread, which ends, off the list; true if it was the last.
    pub(crate) fn remove_thread(&self, me: &Arc<Thread>) -> bool {
        self.departed_time_ns.fetch_add(scheduler::cpu_time_ns(me), Ordering::Relaxed);
        let mut threads = self.threads.lock();
        threads.remove(&me.id);
        threads.is_empty()
    }

    /// Finds a thread by id.
    pub(crate) fn thread(&self, id: ThreadId) -> Option<Arc<Thread>> {
        self.threads.lock().get(&id).cloned()
    }

    /// The oldest thread that `predicate` holds for. It is called with the list locked.
    pub(crate) fn find_thread(&self, mut predicate: impl FnMut(&Arc<Thread>) -> bool) -> Option<Arc<Thread>> {
        self.threads.lock().values().find(|thread| predicate(thread)).cloned()
    }

    /// All threads, oldest first; each is looked for when its turn comes, as a list would be as long as the app likes.
    pub(crate) fn threads(&self) -> impl Iterator<Item = Arc<Thread>> {
        let mut last = 0;
        core::iter::from_fn(move || {
            let behind = (Bound::Excluded(last), Bound::Unbounded);
            let thread = self.threads.lock().range(behind).next().map(|(_, thread)| Arc::clone(thread))?;
            last = thread.id;
            Some(thread)
        })
    }

    /// How many threads there are.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Nanoseconds that all threads together ran, the ended ones included.
    pub(crate) fn cpu_time_ns(&self) -> u64 {
        let running: u64 = self.threads().map(|thread| scheduler::cpu_time_ns(&thread)).sum();
        self.departed_time_ns.load(Ordering::Relaxed) + running
    }
}

/// The thread that puts another program in the place of the app's; 0 if none does.
static REPLACER: AtomicI32 = AtomicI32::new(0);

/// Has all threads but the calling one leave; false if another has begun the same.
pub(crate) fn begin_replacement() -> bool {
    REPLACER.compare_exchange(0, current().id, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// True if the calling thread is not to go back to ring 3, because another program takes the place of its own.
pub(crate) fn is_replaced() -> bool {
    let replacer = REPLACER.load(Ordering::Relaxed);
    replacer != 0 && replacer != current().id
}

impl Process {
    /// Has the first thread of another program run in the place of the calling one, which is the last of the old.
    pub(crate) fn replace_threads(&self, first: Arc<Thread>) {
        let me = Arc::clone(&current());
        self.departed_time_ns.fetch_add(scheduler::cpu_time_ns(&me), Ordering::Relaxed);
        {
            let mut threads = self.threads.lock();
            threads.remove(&me.id);
            threads.insert(first.id, Arc::clone(&first));
        }
        REPLACER.store(0, Ordering::SeqCst);
        me.tell_end();
        scheduler::enqueue(Arc::clone(&first));
        // What was sent meanwhile, nobody was told of.
        let wants_in = first.signals.lock().has_deliverable();
        if wants_in {
            scheduler::interrupt(&first);
        }
    }
}

/// True once the app has begun to end.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Notes that the app ends; false if it did already.
pub(crate) fn begin_end() -> bool {
    !IS_ENDING.swap(true, Ordering::SeqCst)
}

/// True if threads are not to go back to ring 3, because the app ends.
pub(crate) fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Relaxed)
}
