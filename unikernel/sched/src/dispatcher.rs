//! All run queues together: where a thread that can run is queued, which thread a core takes next,
//! and what a core must do before it halts.
//!
//! Halting is where a wake-up could be lost, so the two sides are written like this:
//!
//! ```text
//!   core that gives work             core that halts
//!   --------------------             ---------------
//!   push the thread on a queue       announce: I am halted
//!   full fence                       full fence
//!   is that core (or, if it is       is there a thread that I could take?
//!   busy, an idle one) halted?       no: halt until an interrupt
//!   yes: interrupt it
//! ```
//!
//! Whichever fence comes first, either the halting core sees the thread or the giving core sees the
//! announcement; and an interrupt that comes between the look and the halt ends the halt at once.

use alloc::sync::Arc;

use crate::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use crate::placement;
use crate::{CoreSet, MAX_CORES, RunQueue};

/// What a thread tells the dispatcher.
pub trait Schedulable {
    /// The core that it runs on, or last ran on.
    fn core(&self) -> usize;
    /// Notes where it is queued from now on.
    fn set_core(&self, core: usize);
    /// True while a core stands on its stack. Such a thread, even if it was woken, can go on only
    /// there.
    fn is_on_core(&self) -> bool;
    /// Where it may run.
    fn allowed(&self) -> CoreSet;
}

impl<T: Schedulable> Schedulable for Arc<T> {
    fn core(&self) -> usize {
        T::core(self)
    }

    fn set_core(&self, core: usize) {
        T::set_core(self, core);
    }

    fn is_on_core(&self) -> bool {
        T::is_on_core(self)
    }

    fn allowed(&self) -> CoreSet {
        T::allowed(self)
    }
}

/// What the dispatcher needs from the machine.
pub trait Machine {
    /// A handle to a thread.
    type Thread: Schedulable;
    /// The cores that run.
    fn cores(&self) -> CoreSet;
    /// Gives access to a core's queue, which a lock guards.
    fn with_queue<R>(&self, core: usize, work: impl FnOnce(&mut RunQueue<Self::Thread>) -> R) -> R;
    /// Interrupts another core, so that it leaves its halt, or looks whether the slice of the thread
    /// that it runs is over.
    fn interrupt(&self, core: usize);
}

/// What all cores know of each other.
#[derive(Debug)]
pub struct Dispatcher {
    /// Cores that have nothing to run.
    idle: AtomicU64,
    /// Those of them that only an interrupt wakes.
    halted: AtomicU64,
    /// Threads on each queue, readable without its lock.
    waiting: [AtomicUsize; MAX_CORES],
    /// Those of them that were woken.
    woken: [AtomicUsize; MAX_CORES],
}

/// Why a thread is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It slept.
    Woken,
    /// It ran.
    Ran,
}

impl Dispatcher {
    /// All cores busy, all queues empty.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            idle: AtomicU64::new(0),
            halted: AtomicU64::new(0),
            waiting: [const { AtomicUsize::new(0) }; MAX_CORES],
            woken: [const { AtomicUsize::new(0) }; MAX_CORES],
        }
    }

    /// All cores busy, all queues empty.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            idle: AtomicU64::new(0),
            halted: AtomicU64::new(0),
            waiting: core::array::from_fn(|_| AtomicUsize::new(0)),
            woken: core::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// How many threads wait on a core's queue; a hint unless the caller runs on that core.
    #[inline]
    pub fn waiting(&self, core: usize) -> usize {
        self.waiting[core].load(Ordering::Relaxed)
    }

    /// How many of them slept before, and should not wait for a whole slice.
    #[inline]
    pub fn woken(&self, core: usize) -> usize {
        self.woken[core].load(Ordering::Relaxed)
    }

    /// Cores that have nothing to run; a hint.
    pub fn idle_cores(&self) -> CoreSet {
        CoreSet(self.idle.load(Ordering::Relaxed))
    }

    /// Queues a thread that has been claimed from its sleep, or is new. True if it now waits on
    /// `here`, the caller's core, behind the running thread.
    pub fn make_ready<M: Machine>(&self, machine: &M, thread: M::Thread, here: usize) -> bool {
        let last = thread.core();
        let target = if thread.is_on_core() {
            last
        } else {
            let allowed = thread.allowed().and(machine.cores());
            placement::for_woken(last, allowed, self.idle_cores()).unwrap_or(here)
        };
        self.queue(machine, thread, target, here, Why::Woken)
    }

    /// Queues a thread whose slice is over.
    pub fn requeue<M: Machine>(&self, machine: &M, thread: M::Thread, here: usize) {
        let allowed = thread.allowed().and(machine.cores());
        let target = placement::for_preempted(here, allowed, |core| self.waiting(core));
        self.queue(machine, thread, target.unwrap_or(here), here, Why::Ran);
    }

    /// Queues a thread that gave way of its own will: behind the others of its core, for whose sake
    /// it did.
    pub fn requeue_here<M: Machine>(&self, machine: &M, thread: M::Thread, here: usize) {
        let allowed = thread.allowed().and(machine.cores());
        let target = if allowed.contains(here) { Some(here) } else { allowed.lowest() };
        self.queue(machine, thread, target.unwrap_or(here), here, Why::Ran);
    }

    fn queue<M: Machine>(
        &self,
        machine: &M,
        thread: M::Thread,
        target: usize,
        here: usize,
        why: Why,
    ) -> bool {
        let allowed = thread.allowed().and(machine.cores());
        thread.set_core(target);
        let is_bound = thread.is_on_core();
        let is_news = self.change(machine, target, |queue| match why {
            Why::Woken => {
                queue.enqueue_woken(thread);
                queue.woken_len() == 1
            }
            Why::Ran => {
                queue.enqueue(thread);
                queue.len() == 1
            }
        });
        fence(Ordering::SeqCst);
        let idle = CoreSet(self.idle.load(Ordering::Relaxed));
        if idle.contains(target) {
            self.wake_core(machine, target);
        } else if let Some(helper) = idle.and(allowed).lowest().filter(|_| !is_bound) {
            // It became idle after the placement; it will steal.
            self.wake_core(machine, helper);
        } else if target != here && is_news {
            // Somebody waits there now, so the running thread's slice counts.
            machine.interrupt(target);
        }
        target == here
    }

    fn wake_core<M: Machine>(&self, machine: &M, core: usize) {
        if CoreSet(self.halted.fetch_and(!(1 << core), Ordering::Relaxed)).contains(core) {
            machine.interrupt(core);
        }
    }

    /// Takes the next thread of this core: its own queue's first, else one that waits elsewhere and
    /// may run here.
    pub fn take_next<M: Machine>(&self, machine: &M, here: usize) -> Option<M::Thread> {
        self.take_own(machine, here).or_else(|| self.steal(machine, here))
    }

    /// Takes the next thread of this core's own queue.
    pub fn take_own<M: Machine>(&self, machine: &M, here: usize) -> Option<M::Thread> {
        if self.waiting(here) == 0 {
            return None;
        }
        self.change(machine, here, RunQueue::pick_next)
    }

    fn steal<M: Machine>(&self, machine: &M, here: usize) -> Option<M::Thread> {
        let others = machine.cores().without(here).iter();
        let thread = others.filter(|&other| self.waiting(other) > 0).find_map(|other| {
            self.change(machine, other, |queue| {
                queue.steal(|thread| !thread.is_on_core() && thread.allowed().contains(here))
            })
        })?;
        thread.set_core(here);
        Some(thread)
    }

    /// Takes a thread out of the queue of the core that it names, if it is there.
    pub fn withdraw<M: Machine>(
        &self,
        machine: &M,
        core: usize,
        is_it: impl FnMut(&M::Thread) -> bool,
    ) -> Option<M::Thread> {
        self.change(machine, core, |queue| queue.remove(is_it))
    }

    fn change<M: Machine, R>(
        &self,
        machine: &M,
        core: usize,
        work: impl FnOnce(&mut RunQueue<M::Thread>) -> R,
    ) -> R {
        machine.with_queue(core, |queue| {
            let result = work(queue);
            self.waiting[core].store(queue.len(), Ordering::Relaxed);
            self.woken[core].store(queue.woken_len(), Ordering::Relaxed);
            result
        })
    }

    /// Says that this core has nothing to run, before it looks once more.
    pub fn begin_idle(&self, here: usize) {
        self.idle.fetch_or(1 << here, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that this core has found something.
    pub fn end_idle(&self, here: usize) {
        self.idle.fetch_and(!(1 << here), Ordering::Relaxed);
    }

    /// Announces that only an interrupt will wake this core. False, and nothing is announced, if
    /// there may be a thread to take; else the caller halts, and calls [`Self::end_halt`] after.
    #[must_use = "a core with work must not halt"]
    pub fn begin_halt<M: Machine>(&self, machine: &M, here: usize) -> bool {
        self.halted.fetch_or(1 << here, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_halt = self.waiting(here) == 0 && !self.can_steal(machine, here);
        if !may_halt {
            self.end_halt(here);
        }
        may_halt
    }

    fn can_steal<M: Machine>(&self, machine: &M, here: usize) -> bool {
        machine.cores().without(here).iter().filter(|&other| self.waiting(other) > 0).any(|other| {
            machine.with_queue(other, |queue| {
                queue.iter().any(|thread| !thread.is_on_core() && thread.allowed().contains(here))
            })
        })
    }

    /// Called when the core has left a thread's stack: one that was woken before that could not be
    /// stolen until now, so a halted core may have passed it over.
    pub fn offer<M: Machine>(&self, machine: &M, here: usize) {
        if self.waiting(here) == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        if let Some(helper) = self.idle_cores().lowest() {
            self.wake_core(machine, helper);
        }
    }

    /// The halt is over.
    pub fn end_halt(&self, here: usize) {
        self.halted.fetch_and(!(1 << here), Ordering::Relaxed);
    }
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self::new()
    }
}
