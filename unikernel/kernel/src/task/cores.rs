//! What the scheduler keeps for each core, and the [`Dispatcher`] that they share.

use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

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
    own: Own,
}

/// Touched by the core itself only.
pub(super) struct Own {
    /// The thread that ran before the last switch, and why it does not any more; a reference that
    /// [`super::scheduler::finish_task_switch`] takes over.
    pub(super) previous: Cell<(*const Thread, SwitchReason)>,
    pub(super) spin: Cell<AdaptiveSpin>,
    /// True while the core passes its time on the stack of a thread that sleeps.
    pub(super) is_idling: Cell<bool>,
}

/// Why a core switches from a thread to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SwitchReason {
    /// It sleeps, or is dead.
    Stopped,
    /// Its slice is over.
    Preempted,
    /// It gives way to others, or may not run on this core any more.
    Yielding,
}

// SAFETY: `own` is reached only through `PerCore`'s dereference on the core itself (`Core::own`),
// which the kernel's masked interrupts keep from being interrupted; all else is atomic or locked.
unsafe impl Sync for Core {}

impl Core {
    const fn new() -> Self {
        Self {
            queue: SpinLock::new(RunQueue::new()),
            idle_thread: Once::new(),
            slice_start_ns: AtomicU64::new(0),
            switched_at_ns: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            own: Own {
                previous: Cell::new((ptr::null(), SwitchReason::Stopped)),
                spin: Cell::new(AdaptiveSpin::new()),
                is_idling: Cell::new(false),
            },
        }
    }
}

pub(super) static CORES: PerCore<Core> = per_core!(Core::new());
pub(super) static DISPATCHER: Dispatcher = Dispatcher::new();

/// The part of this core's state that nobody else touches.
pub(super) fn own() -> &'static Own {
    let core: &'static Core = &CORES;
    &core.own
}

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
