//! io_uring(7): system calls by a queue in shared memory, with their results in another.
//!
//! - [`Ring`]: the file; `memory`: what the app maps; `sqe`: an entry;
//! - `request`: what an entry asks for; `operation`: the calls that never wait; `attempt`: those that may (`splice`);
//! - `order`: from the queue to the start; `engine`: a request from its start to its end; `slots`: where
//!   requests wait; `completion`: the results;
//! - `poller`: who submits without a call; `timeout`, `cancel`; `buffers`: what is registered; `register`: how.
//!
//! A request that may have to sleep for a disk goes to a thread of the kernel's (`workers`). Any other that
//! cannot be done at once waits with a watch on its file, as an epoll instance would. When the file becomes ready, whoever made it so asks for the ring's work to be done,
//! and the next core that is about to leave the kernel, or has nothing to do, tries again: a packet's interrupt
//! ends with the bytes in the app's buffer and the completion in its queue, and the app has not entered the
//! kernel at all.

mod attempt;
mod buffers;
mod cancel;
mod completion;
mod engine;
mod memory;
mod operation;
mod order;
mod poller;
mod register;
mod request;
mod slots;
mod splice;
mod sqe;
mod timeout;
mod workers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use linux_raw_sys::io_uring::*;
use unikernel_policy::access::Domain;

use crate::abi::{Errno, SysResult};
use crate::arch::cpu::{exit_work, this_cpu};
use crate::file::poll_source::PollSource;
use crate::file::ready_list::{ReadyList, ReadyOwner};
use crate::file::{File, Metadata, Readiness};
use crate::mem::space::PageSource;
use crate::net;
use crate::sync::SpinLock;
use crate::task::credentials::{self, Credentials};
use crate::task::mutex::Mutex;
use crate::task::release::release;
use crate::task::wait::WaitError;
use crate::task::{WaitQueue, confinement, current};
use buffers::Registered;
use completion::Completions;
use memory::RingMemory;
use order::Deferred;
use poller::Poller;
use request::Request;
use slots::{Key, Slots};
use timeout::Expiry;

/// Submission entries of a ring at most.
const MAX_ENTRIES: u32 = 32_768;
/// Completion entries of a ring at most.
const MAX_COMPLETIONS: u32 = 2 * MAX_ENTRIES;
/// What a ring may be set up with. There is no device that must be polled.
const SETUP_FLAGS: u32 = IORING_SETUP_SQPOLL
    | IORING_SETUP_SQ_AFF
    | IORING_SETUP_CQSIZE
    | IORING_SETUP_CLAMP
    | IORING_SETUP_ATTACH_WQ
    | IORING_SETUP_R_DISABLED
    | IORING_SETUP_SUBMIT_ALL
    | IORING_SETUP_COOP_TASKRUN
    | IORING_SETUP_TASKRUN_FLAG
    | IORING_SETUP_SINGLE_ISSUER
    | IORING_SETUP_DEFER_TASKRUN
    | IORING_SETUP_NO_SQARRAY
    | IORING_SETUP_SQE128
    | IORING_SETUP_CQE32;
/// What a ring can do.
const FEATURES: u32 = IORING_FEAT_SINGLE_MMAP
    | IORING_FEAT_NODROP
    | IORING_FEAT_SUBMIT_STABLE
    | IORING_FEAT_RW_CUR_POS
    | IORING_FEAT_CUR_PERSONALITY
    | IORING_FEAT_FAST_POLL
    | IORING_FEAT_POLL_32BITS
    | IORING_FEAT_SQPOLL_NONFIXED
    | IORING_FEAT_EXT_ARG
    | IORING_FEAT_NATIVE_WORKERS
    | IORING_FEAT_CQE_SKIP
    | IORING_FEAT_LINKED_FILE;

/// Rings with something to do.
static SCHEDULED: SpinLock<Vec<Arc<Ring>>> = SpinLock::new(Vec::new());
/// Whether there are any: a look costs one load.
static HAS_SCHEDULED: AtomicBool = AtomicBool::new(false);

/// A ring.
pub(crate) struct Ring {
    memory: Arc<RingMemory>,
    setup_flags: u32,
    /// Who submits, if not the app's calls (`IORING_SETUP_SQPOLL`).
    poller: Option<Arc<Poller>>,
    /// What binds who has made the ring: a poller submits for that thread.
    domain: Option<Arc<Domain>>,
    /// Threads that wait for room in the submission queue.
    submitters: WaitQueue,
    /// The only thread that may submit, or 0 (`IORING_SETUP_SINGLE_ISSUER`).
    issuer: AtomicI32,
    is_enabled: AtomicBool,
    /// How far entries were taken from the submission queue.
    sq_head: AtomicU32,
    /// Held while a chain is taken from the queue: what its entries point to is read then, which may sleep.
    submission: Mutex<()>,
    completions: SpinLock<Completions>,
    slots: SpinLock<Slots>,
    deferred: SpinLock<Deferred>,
    /// There are chains in it. Changed with its lock held.
    has_deferred: AtomicBool,
    /// Requests that were submitted and are not complete.
    outstanding: AtomicU32,
    registered: SpinLock<Registered>,
    /// Watches of waiting requests whose files may be ready.
    ready: Arc<ReadyList>,
    /// Time-outs that have come.
    expired: SpinLock<VecDeque<(Key, Expiry)>>,
    /// Rests of chains whose turn has come.
    followers: SpinLock<VecDeque<Box<Request>>>,
    is_scheduled: AtomicBool,
    is_closed: AtomicBool,
    /// Completions came that nobody was told of yet.
    has_news: AtomicBool,
    source: PollSource,
    /// Whom the threads of the kernel act for that work on it: who has submitted last.
    owner: SpinLock<Arc<Credentials>>,
    myself: Weak<Self>,
}

/// How many entries the app gets for what it asks.
fn entries(asked: u32, most: u32, clamps: bool) -> Result<u32, Errno> {
    match asked {
        0 => Err(Errno::EINVAL),
        _ if asked <= most => Ok(asked.next_power_of_two()),
        _ if clamps => Ok(most),
        _ => Err(Errno::EINVAL),
    }
}

/// Flags that are known and go together.
fn check_flags(flags: u32) -> Result<(), Errno> {
    let has = |bits| flags & bits != 0;
    // Those are about where the calling thread does a ring's work.
    let task_flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN;
    let is_wrong = flags & !SETUP_FLAGS != 0
        || has(IORING_SETUP_DEFER_TASKRUN) && !has(IORING_SETUP_SINGLE_ISSUER)
        || has(IORING_SETUP_SQPOLL) && has(task_flags)
        || has(IORING_SETUP_TASKRUN_FLAG) && !has(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)
        || has(IORING_SETUP_SQ_AFF) && !has(IORING_SETUP_SQPOLL);
    if is_wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

impl Ring {
    /// Makes a ring for so many submissions; completes the parameters (io_uring_setup(2)).
    pub(crate) fn new(asked: u32, params: &mut io_uring_params) -> Result<Arc<Self>, Errno> {
        let flags = params.flags;
        check_flags(flags)?;
        if params.resv != [0; 3] {
            return Err(Errno::EINVAL);
        }
        let clamps = flags & IORING_SETUP_CLAMP != 0;
        let sq_entries = entries(asked, MAX_ENTRIES, clamps)?;
        let cq_entries = if flags & IORING_SETUP_CQSIZE != 0 {
            let chosen = entries(params.cq_entries, MAX_COMPLETIONS, clamps)?;
            if chosen < sq_entries {
                return Err(Errno::EINVAL);
            }
            chosen
        } else {
            2 * sq_entries
        };
        let memory = RingMemory::new(sq_entries, cq_entries, flags).map_err(|_| Errno::ENOMEM)?;
        let poller = Poller::for_ring(params)?;
        memory.describe(params);
        params.features = FEATURES;
        let ring = Arc::new_cyclic(|myself: &Weak<Self>| Self {
            memory: Arc::new(memory),
            setup_flags: flags,
            poller,
            domain: confinement::domain(),
            submitters: WaitQueue::new(),
            issuer: AtomicI32::new(if flags & IORING_SETUP_SINGLE_ISSUER != 0 { current().id } else { 0 }),
            is_enabled: AtomicBool::new(flags & IORING_SETUP_R_DISABLED == 0),
            sq_head: AtomicU32::new(0),
            submission: Mutex::new(()),
            completions: SpinLock::default(),
            slots: SpinLock::default(),
            deferred: SpinLock::default(),
            has_deferred: AtomicBool::new(false),
            outstanding: AtomicU32::new(0),
            registered: SpinLock::default(),
            ready: Arc::new(ReadyList::of(Weak::<Self>::clone(myself))),
            expired: SpinLock::default(),
            followers: SpinLock::default(),
            is_scheduled: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            source: PollSource::new(),
            owner: SpinLock::new(credentials::mine()),
            myself: Weak::clone(myself),
        });
        if let Some(poller) = &ring.poller {
            poller.serve_too(&ring, params.sq_thread_idle)?;
        }
        Ok(ring)
    }

    /// Takes entries from the submission queue, or has them taken; answers how many.
    pub(crate) fn enter(&self, to_submit: u32, flags: u32) -> SysResult {
        if !self.is_enabled.load(Ordering::Relaxed) {
            return Err(Errno::EBADFD);
        }
        if let Some(poller) = &self.poller {
            self.flush_backlog();
            self.announce();
            self.call_poller(poller, flags);
            return Ok(to_submit as usize);
        }
        let issuer = self.issuer.load(Ordering::Relaxed);
        if issuer != 0 && issuer != current().id {
            return Err(Errno::EEXIST);
        }
        self.flush_backlog();
        self.announce();
        if to_submit == 0 {
            return Ok(0);
        }
        if self.is_backlog_full() {
            return Err(Errno::EBUSY);
        }
        if credentials::may_be_restricted() {
            let _before = core::mem::replace(&mut *self.owner.lock(), credentials::mine());
        }
        let submitted = self.submit(to_submit);
        self.announce();
        // One notification of the network card for all.
        net::flush();
        Ok(submitted)
    }

    /// Waits until so many completions are there for the app; a deadline that passes is `ETIME`.
    pub(crate) fn wait(&self, least: usize, deadline_ns: Option<u64>) -> Result<(), Errno> {
        let least = least.min(self.memory.cq_entries as usize);
        run_scheduled();
        self.flush_backlog();
        if self.available() >= least {
            return Ok(());
        }
        net::poll();
        run_scheduled();
        let outcome = self.source.wait(deadline_ns, || (self.available() >= least).then_some(()));
        self.flush_backlog();
        match outcome {
            Ok(()) => Ok(()),
            Err(WaitError::TimedOut) => Err(Errno::ETIME),
            Err(WaitError::Interrupted) => Err(Errno::EINTR),
        }
    }

    /// True if the app has completions to take.
    pub(crate) fn has_completions(&self) -> bool {
        self.available() > 0
    }

    /// Sees to it that [`Ring::work`] runs soon. May be called with locks held, and from an interrupt.
    fn schedule(&self) {
        if self.is_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(myself) = self.myself.upgrade() else { return };
        SCHEDULED.lock().push(myself);
        HAS_SCHEDULED.store(true, Ordering::Release);
        this_cpu().request(exit_work::RINGS);
    }
}

/// Does the work of all rings that have some. Call it without locks.
#[inline]
pub(crate) fn run_scheduled() {
    if HAS_SCHEDULED.load(Ordering::Acquire) {
        run_all();
    }
}

#[cold]
fn run_all() {
    HAS_SCHEDULED.store(false, Ordering::Relaxed);
    loop {
        let next = SCHEDULED.lock().pop();
        let Some(ring) = next else { break };
        ring.work();
    }
    // What was written leaves at once: nobody may call the kernel for long.
    net::flush();
}

impl ReadyOwner for Ring {
    fn has_ready(&self) {
        self.schedule();
    }
}

impl File for Ring {
    /// It keeps files open, sockets among them (so Linux).
    fn may_be_sent(&self) -> bool {
        false
    }

    fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE, self.available() > 0);
        let head = self.sq_head.load(Ordering::Relaxed);
        ready.set(Readiness::WRITABLE, self.memory.submitted_behind(head) < self.memory.sq_entries);
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>, Errno> {
        Ok(Arc::<RingMemory>::clone(&self.memory))
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(poller) = &self.poller {
            poller.call();
        }
        self.cancel_all();
        let registered = core::mem::take(&mut *self.registered.lock());
        release(registered.files.into_iter().flatten());
    }

    fn name(&self) -> String {
        "anon_inode:[io_uring]".into()
    }
}
