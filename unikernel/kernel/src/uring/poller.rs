//! Submitting without a call (`IORING_SETUP_SQPOLL`): a thread of the kernel's looks at the submission queues that it
//! serves, and says in them when it has stopped to look (`IORING_SQ_NEED_WAKEUP`), because nothing has come for the
//! time that the app chose.
//!
//! Linux's thread looks all the time. Here a thread in the kernel masks the interrupts of its core, and machines of
//! one processor are common; so between two looks it sleeps: for some microseconds while entries come, and the longer
//! the longer none has come. Whoever else wants the core has it meanwhile, and an idle one halts.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use linux_raw_sys::io_uring::*;
use unikernel_sched::CoreSet;

use super::{Ring, run_scheduled};
use crate::abi::Errno;
use crate::arch::{cpu, tlb};
use crate::file;
use crate::kmem::room;
use crate::net;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, confinement, current, scheduler};

const NS_PER_MS: u64 = 1_000_000;
/// How long nothing has to come if the app does not say so (Linux: a second).
const USUAL_IDLE_MS: u32 = 1_000;
/// How long it sleeps between two looks: this part of the time in which nothing has come, within these bounds.
const NAP_PART: u64 = 8;
const SHORTEST_NAP_NS: u64 = 10_000;
const LONGEST_NAP_NS: u64 = NS_PER_MS;
/// How long it works without a nap, in which its core can take interrupts.
const MOST_BUSY_NS: u64 = NS_PER_MS / 2;
/// Entries taken at a time: from one ring, and while others wait for their turn (Linux: 8).
const MOST_ENTRIES: u32 = 256;
const FAIR_ENTRIES: u32 = 8;

/// A thread that submits, for one ring or for all that were attached to it (`IORING_SETUP_ATTACH_WQ`).
pub(super) struct Poller {
    served: SpinLock<Served>,
    /// The longest time that one of its rings wants it to look for.
    idle_ns: AtomicU64,
    sleeper: WaitQueue,
    /// It shall look again, whether it sleeps or is about to.
    is_called: AtomicBool,
    /// Where it has to run (`IORING_SETUP_SQ_AFF`).
    core: Option<usize>,
}

#[derive(Default)]
struct Served {
    /// Only the thread itself takes rings off.
    rings: Vec<Weak<Ring>>,
    has_started: bool,
    /// The thread has ended, or is about to.
    is_over: bool,
}

/// Pollers whose threads have been made and have not run yet.
static STARTING: SpinLock<VecDeque<Arc<Poller>>> = SpinLock::new(VecDeque::new());

impl Poller {
    /// Who submits for a ring that is set up so: a poller of its own, another ring's, or none.
    pub(super) fn for_ring(params: &io_uring_params) -> Result<Option<Arc<Self>>, Errno> {
        let has = |flag| params.flags & flag != 0;
        if has(IORING_SETUP_ATTACH_WQ) {
            let opened = file::get(params.wq_fd as i32).map_err(|_| Errno::ENXIO)?;
            let other = opened.downcast::<Ring>().ok_or(Errno::EINVAL)?;
            let shared = other.poller.clone();
            // Worker threads are shared by all rings anyway.
            return if has(IORING_SETUP_SQPOLL) { shared.ok_or(Errno::EINVAL).map(Some) } else { Ok(None) };
        }
        if !has(IORING_SETUP_SQPOLL) {
            return Ok(None);
        }
        let core = has(IORING_SETUP_SQ_AFF).then_some(params.sq_thread_cpu as usize);
        if core.is_some_and(|core| core >= cpu::online()) {
            return Err(Errno::EINVAL);
        }
        Ok(Some(Arc::new(Self {
            served: SpinLock::default(),
            idle_ns: AtomicU64::new(0),
            sleeper: WaitQueue::new(),
            is_called: AtomicBool::new(false),
            core,
        })))
    }

    /// Begins to serve a ring, which wants to be looked at for so long after its last entry.
    pub(super) fn serve_too(self: &Arc<Self>, ring: &Arc<Ring>, idle_ms: u32) -> Result<(), Errno> {
        let idle_ms = if idle_ms == 0 { USUAL_IDLE_MS } else { idle_ms };
        self.idle_ns.fetch_max(u64::from(idle_ms) * NS_PER_MS, Ordering::Relaxed);
        let mut served = self.served.lock();
        if served.is_over {
            return Err(Errno::ENXIO);
        }
        room::push(&mut served.rings, Arc::downgrade(ring))?;
        let has_started = core::mem::replace(&mut served.has_started, true);
        drop(served);
        if !has_started {
            return self.start();
        }
        self.call();
        Ok(())
    }

    fn start(self: &Arc<Self>) -> Result<(), Errno> {
        // Held until the poller is in it: the thread finds one.
        let mut starting = STARTING.lock();
        starting.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        scheduler::start_kernel_thread("iou-sqp", main).map_err(|_| Errno::ENOMEM)?;
        starting.push_back(Arc::clone(self));
        Ok(())
    }

    /// Has it look at its rings now.
    pub(super) fn call(&self) {
        self.is_called.store(true, Ordering::Release);
        self.sleeper.wake_one();
    }

    /// The thread's whole life.
    fn run(&self) {
        if let Some(core) = self.core {
            scheduler::set_allowed(&current(), CoreSet::only(core));
        }
        let (mut worked_ns, mut napped_ns) = (time::now_ns(), 0);
        while !self.is_over() {
            let has_worked = self.serve_all();
            let now_ns = time::now_ns();
            if has_worked {
                worked_ns = now_ns;
            }
            let quiet_ns = now_ns.saturating_sub(worked_ns);
            if quiet_ns >= self.idle_ns.load(Ordering::Relaxed) {
                self.sleep();
                worked_ns = time::now_ns();
            } else if has_worked && now_ns.saturating_sub(napped_ns) < MOST_BUSY_NS {
                tlb::serve();
                scheduler::yield_now();
            } else {
                let nap_ns = (quiet_ns / NAP_PART).clamp(SHORTEST_NAP_NS, LONGEST_NAP_NS);
                self.wait(Some(now_ns.saturating_add(nap_ns)));
                napped_ns = time::now_ns();
            }
        }
    }

    /// True if there is no ring left; there will be none then.
    fn is_over(&self) -> bool {
        let mut served = self.served.lock();
        served.is_over = served.rings.is_empty();
        served.is_over
    }

    /// Submits what is in the queues; true if there was something. Rings that were closed are let go.
    fn serve_all(&self) -> bool {
        let is_only = self.served.lock().rings.len() == 1;
        let most = if is_only { MOST_ENTRIES } else { FAIR_ENTRIES };
        let (mut has_worked, mut index) = (false, 0);
        while let Some(ring) = self.ring(index) {
            match ring.upgrade() {
                Some(ring) if !ring.is_closed.load(Ordering::Relaxed) => {
                    has_worked |= confinement::acting_in(&ring.domain, || ring.take_submissions(most));
                    index += 1;
                }
                gone => {
                    if let Some(ring) = gone {
                        // What was submitted here while it was being closed is not awaited by anybody.
                        ring.cancel_all();
                    }
                    self.served.lock().rings.swap_remove(index);
                }
            }
        }
        // A chain's next request may have to be started.
        run_scheduled();
        has_worked
    }

    fn ring(&self, index: usize) -> Option<Weak<Ring>> {
        self.served.lock().rings.get(index).cloned()
    }

    /// Sleeps until the app calls, as it is told to do.
    fn sleep(&self) {
        self.tell_rings(true);
        // Either the app sees what it was told now, or its entry is seen here.
        fence(Ordering::SeqCst);
        let has_pending = (0..).map_while(|index| self.ring(index)).any(|ring| {
            ring.upgrade().is_some_and(|ring| ring.is_closed.load(Ordering::Relaxed) || ring.pending() > 0)
        });
        if !has_pending {
            self.wait(None);
        }
        self.tell_rings(false);
    }

    fn tell_rings(&self, needs_wakeup: bool) {
        for ring in (0..).map_while(|index| self.ring(index)) {
            if let Some(ring) = ring.upgrade() {
                ring.memory.set_needs_wakeup(needs_wakeup);
            }
        }
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        let is_called = || self.is_called.swap(false, Ordering::AcqRel).then_some(());
        let _: Option<()> = self.sleeper.wait_uninterrupted(deadline_ns, is_called);
    }
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    let poller = STARTING.lock().pop_front();
    if let Some(poller) = poller {
        poller.run();
    }
    scheduler::exit_current()
}

impl Ring {
    /// Submits up to `most` entries from the queue; true if there were any.
    fn take_submissions(&self, most: u32) -> bool {
        let count = self.pending().min(most);
        let has_taken = count > 0 && self.submit(count) > 0;
        if has_taken {
            self.announce();
            net::flush();
        }
        if has_taken || !self.is_full() || self.is_backlog_full() {
            self.submitters.wake_all();
        }
        has_taken
    }

    /// Entries that can be taken from the queue now.
    fn pending(&self) -> u32 {
        let is_held_up =
            !self.is_enabled.load(Ordering::Relaxed) || self.is_backlog_full() || room::ask_locked().is_err();
        if is_held_up { 0 } else { self.memory.submitted_behind(self.sq_head.load(Ordering::Relaxed)) }
    }

    fn is_full(&self) -> bool {
        self.memory.submitted_behind(self.sq_head.load(Ordering::Relaxed)) == self.memory.sq_entries
    }

    /// What the app wants of the poller (io_uring_enter(2)).
    pub(super) fn call_poller(&self, poller: &Poller, flags: u32) {
        if flags & IORING_ENTER_SQ_WAKEUP != 0 {
            poller.call();
        }
        if flags & IORING_ENTER_SQ_WAIT != 0 {
            // No entry is taken while too many completions wait: those are the app's to take first.
            let may_go_on = || (!self.is_full() || self.is_backlog_full()).then_some(());
            // A signal ends the wait as well, and the app looks for itself.
            let _ = self.submitters.wait_until(None, may_go_on);
        }
    }
}
