//! What the scheduler keeps for each core, and the [`Dispatcher`] that they share.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use spin::Once;
use unikernel_sched::{AdaptiveSpin, CoreSet, Dispatcher, Machine, RunQueue, Schedulable};

use super::thread::Thread;
use crate::arch::cpu;
use crate::arch::per_core::PerCore;
use crate::platform::interrupts;
use crate::sync::SpinLock;
use unikernel_hal::per_core;

/// One core's part of the scheduler.
pub(super) struct Core {
    /// Others reach in to wake and to steal.
    queue: SpinLock<RunQueue<Arc<Thread>>>,
    /// Runs when the core has nothing else and the last thread's stack must be left.
    pub(super) idle_thread: Once<Arc<Thread>>,
    /// When the running thread's slice began.
    pub(super) slice_start_ns: AtomicU64,
    /// When the running thread began to run.
    pub(super) switched_at_ns: AtomicU64,
    /// Context switches since boot.
    pub(super) switches: AtomicU64,
    /// Nanoseconds since boot spent halted, or looking for work in vain.
    pub(super) idle_ns: AtomicU64,
    /// How long it polls before it halts. Only the core itself asks.
    pub(super) spin: SpinLock<AdaptiveSpin>,
    /// True while the core passes its time on the stack of a thread that sleeps.
    pub(super) is_idling: AtomicBool,
    /// A [`SwitchReason`]: why the thread that ran before the last switch does not any more.
    switch_reason: AtomicU8,
}

/// Why a core switches from a thread to another.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SwitchReason {
    /// It sleeps, or is dead.
    Stopped,
    /// Its slice is over.
    Preempted,
    /// It gives way to others, or may not run on this core any more.
    Yielding,
}

impl Core {
    const fn new() -> Self {
        Self {
            queue: SpinLock::new(RunQueue::new()),
            idle_thread: Once::new(),
            slice_start_ns: AtomicU64::new(0),
            switched_at_ns: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            spin: SpinLock::new(AdaptiveSpin::new()),
            is_idling: AtomicBool::new(false),
            switch_reason: AtomicU8::new(SwitchReason::Stopped as u8),
        }
    }

    /// Notes why the core switches.
    pub(super) fn set_switch_reason(&self, reason: SwitchReason) {
        self.switch_reason.store(reason as u8, Ordering::Relaxed);
    }

    /// Why the core has switched the last time.
    pub(super) fn switch_reason(&self) -> SwitchReason {
        match self.switch_reason.load(Ordering::Relaxed) {
            reason if reason == SwitchReason::Preempted as u8 => SwitchReason::Preempted,
            reason if reason == SwitchReason::Yielding as u8 => SwitchReason::Yielding,
            _ => SwitchReason::Stopped,
        }
    }
}

pub(super) static CORES: PerCore<Core> = per_core!(Core::new());
pub(super) static DISPATCHER: Dispatcher = Dispatcher::new();

/// The cores and queues as the dispatcher sees them.
pub(super) struct Cores;

impl Machine for Cores {
    type Thread = Arc<Thread>;

    fn cores(&self) -> CoreSet {
        CoreSet::first(cpu::online())
    }

    fn with_queue<R>(&self, core: usize, work: impl FnOnce(&mut RunQueue<Arc<Thread>>) -> R) -> R {
        work(&mut CORES.of(core).queue.lock())
    }

    fn interrupt(&self, core: usize) {
        interrupts::send(core, interrupts::RESCHEDULE_VECTOR);
    }
}

impl Schedulable for Thread {
    fn core(&self) -> usize {
        self.placement.core.load(Ordering::Relaxed)
    }

    fn set_core(&self, core: usize) {
        self.placement.core.store(core, Ordering::Relaxed);
    }

    fn is_on_core(&self) -> bool {
        // Pairs with the release in `finish_task_switch`: whoever sees the stack left sees it whole.
        self.placement.is_on_core.load(Ordering::Acquire)
    }

    fn allowed(&self) -> CoreSet {
        CoreSet(self.placement.allowed.load(Ordering::Relaxed))
    }
}
