//! Which thread runs. The policy (who is next, for how long) is `unikernel_sched`; here are the
//! mechanics: switching stacks, blocking and waking, and what a core does when nobody can run.
//!
//! There is no idle thread: a thread that blocks with nobody else to run waits right where it is,
//! on its own kernel stack, and goes on without a switch if it is the one that is woken.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use unikernel_sched::{AdaptiveSpin, RunQueue};

use super::thread::{Thread, WakeReason};
use super::wait::WaitError;
use super::{current, timer};
use crate::arch::cpu::{self, exit_work, this_cpu};
use crate::arch::switch::switch_stacks;
use crate::debug::trace;
use crate::net;
use crate::platform::time;
use crate::sync::{SpinLock, assert_may_sleep};

/// How long a thread runs while others wait, in nanoseconds.
const SLICE_NS: u64 = 4_000_000;

static RUN_QUEUE: SpinLock<RunQueue<Arc<Thread>>> = SpinLock::new(RunQueue::new());
/// How often an idle core looks for packets between two looks at the clock.
const LOOKS_PER_CLOCK: usize = 64;

/// Threads on the run queue, readable without its lock.
static QUEUED: AtomicUsize = AtomicUsize::new(0);
/// When the running thread's slice ends.
static SLICE_END_NS: AtomicU64 = AtomicU64::new(0);
/// When the running thread began to run.
static SWITCHED_AT_NS: AtomicU64 = AtomicU64::new(0);
/// True while this core looks for work or sleeps.
static IS_IDLE: AtomicBool = AtomicBool::new(false);
/// A thread that has ended, kept until its stack is no longer in use.
static DEPARTED: SpinLock<Option<Arc<Thread>>> = SpinLock::new(None);
static SPIN: SpinLock<AdaptiveSpin> = SpinLock::new(AdaptiveSpin::new());
/// Context switches since boot.
static SWITCHES: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds spent halted since boot.
static IDLE_NS: AtomicU64 = AtomicU64::new(0);

/// Context switches since boot.
pub fn switches() -> u64 {
    SWITCHES.load(Ordering::Relaxed)
}

/// Nanoseconds spent halted since boot.
pub fn idle_ns() -> u64 {
    IDLE_NS.load(Ordering::Relaxed)
}

/// Nanoseconds that a thread has run, up to now for the running one.
pub fn cpu_time_ns(thread: &Arc<Thread>) -> u64 {
    let is_running = core::ptr::eq(this_cpu().current_thread(), Arc::as_ptr(thread));
    let since_ns = if is_running { time::now_ns() - SWITCHED_AT_NS.load(Ordering::Relaxed) } else { 0 };
    thread.cpu_time_ns.load(Ordering::Relaxed) + since_ns
}

/// Queues a thread that can run.
pub fn enqueue(thread: Arc<Thread>) {
    RUN_QUEUE.lock().enqueue(thread);
    QUEUED.fetch_add(1, Ordering::Relaxed);
    // Somebody waits now, so the running thread's slice counts; an idle core looks by itself.
    if !IS_IDLE.load(Ordering::Relaxed) {
        slice_check();
    }
}

/// Wakes a blocked thread. False if it was not blocked.
pub fn wake(thread: &Arc<Thread>) -> bool {
    wake_for(thread, WakeReason::Woken)
}

/// Wakes a blocked thread because its deadline passed.
pub(super) fn time_out(thread: &Arc<Thread>) {
    wake_for(thread, WakeReason::TimedOut);
}

/// Wakes a blocked thread because a signal came for it.
pub(super) fn interrupt(thread: &Arc<Thread>) {
    wake_for(thread, WakeReason::Interrupted);
}

fn wake_for(thread: &Arc<Thread>, reason: WakeReason) -> bool {
    let woken = thread.try_wake(reason);
    if woken {
        enqueue(Arc::clone(thread));
    }
    woken
}

/// Takes a thread's announcement to sleep back; see [`Thread::cancel_block`].
pub(super) fn cancel_block(thread: &Thread) {
    if thread.end_block() {
        let mut queue = RUN_QUEUE.lock();
        if queue.remove(|queued| core::ptr::eq(Arc::as_ptr(queued), thread)).is_some() {
            QUEUED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Sleeps until somebody calls [`wake`], the deadline passes or a signal comes. The caller has
/// called [`Thread::begin_block`] and looked at its condition since.
pub(super) fn block(deadline_ns: Option<u64>) -> Result<(), WaitError> {
    assert_may_sleep();
    let me = current();
    if me.signals.lock().has_deliverable() {
        me.cancel_block();
        return Err(WaitError::Interrupted);
    }
    if trace::is_on() {
        trace::before_sleep();
    }
    let timer = deadline_ns.map(|deadline_ns| timer::wake_at(deadline_ns, Arc::clone(&me)));
    run_next();
    drop(timer);
    match me.wake_reason() {
        WakeReason::Woken => Ok(()),
        WakeReason::TimedOut => Err(WaitError::TimedOut),
        WakeReason::Interrupted => Err(WaitError::Interrupted),
    }
}

/// Lets the others run first.
pub fn yield_now() {
    if QUEUED.load(Ordering::Relaxed) == 0 {
        return;
    }
    enqueue(Arc::clone(&current()));
    run_next();
}

/// On the way to ring 3: gives way if the slice is over.
pub fn preempt() {
    if time::now_ns() >= SLICE_END_NS.load(Ordering::Relaxed) {
        yield_now();
    }
}

/// If somebody waits: asks for a preemption now or at the end of the slice.
pub(super) fn slice_check() {
    if QUEUED.load(Ordering::Relaxed) == 0 {
        return;
    }
    let end_ns = SLICE_END_NS.load(Ordering::Relaxed);
    if time::now_ns() >= end_ns {
        this_cpu().request(exit_work::RESCHEDULE);
    } else {
        timer::interrupt_by(end_ns);
    }
}

/// Ends the running thread.
pub(super) fn exit_current() -> ! {
    let me = Arc::clone(&current());
    me.mark_dead();
    *DEPARTED.lock() = Some(me);
    run_next();
    unreachable!("a dead thread was scheduled");
}

/// Runs the first thread; the boot stack is left for good.
pub fn start() -> ! {
    let first = loop {
        if let Some(thread) = pick() {
            break thread;
        }
    };
    let mut boot_stack = 0;
    enter(&first);
    first.load_user_registers();
    let next = first.stack_pointer();
    // While it runs, the scheduler's reference lives in the per-CPU block.
    core::mem::forget(first);
    // SAFETY: the thread has never run, so its stack was prepared by `KernelStack::prepare`.
    unsafe { switch_stacks(&raw mut boot_stack, *next) };
    unreachable!("the boot stack was resumed");
}

fn pick() -> Option<Arc<Thread>> {
    if QUEUED.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let next = RUN_QUEUE.lock().pick_next();
    if next.is_some() {
        QUEUED.fetch_sub(1, Ordering::Relaxed);
    }
    next
}

/// Makes `thread` the running one, but for the stack.
fn enter(thread: &Arc<Thread>) {
    let now_ns = time::now_ns();
    SWITCHED_AT_NS.store(now_ns, Ordering::Relaxed);
    SLICE_END_NS.store(now_ns + SLICE_NS, Ordering::Relaxed);
    if QUEUED.load(Ordering::Relaxed) > 0 {
        timer::interrupt_by(now_ns + SLICE_NS);
    }
    this_cpu().set_current(thread, thread.kernel_stack_top());
    // Whoever sent a signal asked for its delivery on the way out, and was itself the next to go.
    if thread.signals.lock().has_deliverable() {
        this_cpu().request(exit_work::SIGNAL);
    }
}

/// Leaves the running thread, which is blocked, queued or dead, for the next one that can run.
fn run_next() {
    let next = loop {
        if let Some(next) = pick() {
            break next;
        }
        IS_IDLE.store(true, Ordering::Relaxed);
        idle();
        IS_IDLE.store(false, Ordering::Relaxed);
    };
    let me = current();
    if Arc::ptr_eq(&me, &next) {
        return;
    }
    SWITCHES.fetch_add(1, Ordering::Relaxed);
    me.cpu_time_ns
        .fetch_add(time::now_ns().saturating_sub(SWITCHED_AT_NS.load(Ordering::Relaxed)), Ordering::Relaxed);
    let save = me.stack_pointer();
    if !me.is_dead() {
        me.save_user_registers();
    }
    enter(&next);
    next.load_user_registers();
    let load = next.stack_pointer();
    // `next` becomes the running reference, and the one that was is given up: the process, a
    // waker or `DEPARTED` holds another.
    core::mem::forget(next);
    // SAFETY: the running reference was forgotten above when `me` was switched to.
    unsafe { Arc::decrement_strong_count(Arc::as_ptr(&me)) };
    // SAFETY: `load` was saved by this function or prepared by `KernelStack::prepare`, and its
    // thread is not running, for a running thread is not on the queue. `save` outlives the switch:
    // the thread is held by the queue, a waker, or `DEPARTED`.
    unsafe { switch_stacks(save, *load) };
    after_switch();
}

/// The first thing on the new stack: lets go of the thread that was left.
pub extern "C" fn after_switch() {
    let departed = DEPARTED.lock().take();
    drop(departed);
}

/// Nobody can run: look for packets for a moment, then halt until an interrupt.
#[cold]
fn idle() {
    timer::run_expired();
    net::flush();
    let start_ns = time::now_ns();
    let spin_ns = SPIN.lock().spin_ns();
    loop {
        if net::poll() || QUEUED.load(Ordering::Relaxed) > 0 {
            SPIN.lock().record(time::now_ns() - start_ns, true);
            return;
        }
        if time::now_ns() - start_ns >= spin_ns {
            break;
        }
        // Looks at memory only. No `pause` and few clock reads: an emulator takes locks for both,
        // which its device thread needs just now, to deliver what is being waited for.
        let _ = (0..LOOKS_PER_CLOCK).any(|_| net::has_arrivals());
    }
    halt(start_ns);
}

fn halt(start_ns: u64) {
    // From here on an interrupt announces a packet; one that came before shows in this last look.
    if !net::prepare_to_sleep() {
        net::poll();
        return;
    }
    let halted_ns = time::now_ns();
    if let Some(deadline_ns) = net::next_deadline_ns() {
        timer::interrupt_by(deadline_ns);
    }
    cpu::wait_for_interrupt();
    let woken_ns = time::now_ns();
    IDLE_NS.fetch_add(woken_ns - halted_ns, Ordering::Relaxed);
    // The core slept, not the thread whose stack it slept on.
    SWITCHED_AT_NS.fetch_add(woken_ns - halted_ns, Ordering::Relaxed);
    SPIN.lock().record(woken_ns - start_ns, false);
}
