//! Which thread runs. The policy (who is next, where, for how long) is `unikernel_sched`; here are
//! the mechanics: switching stacks, blocking and waking, affinity. What a core does when nobody can
//! run is [`idle`](super::idle).
//!
//! A thread that blocks with nobody else to run waits right where it is, on its own kernel stack,
//! and goes on without a switch if it is the one that is woken. So a woken thread may still be *on a
//! core*; until that core has left its stack, no other may take it, and whoever wakes it queues it
//! there.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use spin::Once;
use unikernel_hal::thread as machine;
use unikernel_sched::{CoreSet, Schedulable};

use super::cores::{CORES, Cores, DISPATCHER, SwitchReason};
use super::thread::{OutOfMemory, Thread, WakeReason};
use super::wait::WaitError;
use super::{current, idle, timer};
use crate::arch::cpu::{self, exit_work, this_cpu};
use crate::arch::tlb;
use crate::platform::events::{self, Kind};
use crate::platform::time;
use crate::sync::assert_no_spin_lock;

/// How long a thread runs while others wait, in nanoseconds.
pub(crate) const SLICE_NS: u64 = 4_000_000;
/// The same while one waits that was woken: long enough not to switch for every message.
const SLICE_BEFORE_WOKEN_NS: u64 = 500_000;

/// Context switches since boot.
pub(crate) fn switches() -> u64 {
    CORES.iter().map(|core| core.switches.load(Ordering::Relaxed)).sum()
}

/// Nanoseconds since boot that the cores have been halted, or have looked for work in vain, together.
pub(crate) fn idle_ns() -> u64 {
    CORES.iter().map(|core| core.idle_ns.load(Ordering::Relaxed)).sum()
}

/// The core that a thread runs on now.
fn running_on(thread: &Arc<Thread>) -> Option<usize> {
    let core = thread.core();
    machine::runs_on(core, thread).then_some(core)
}

/// Nanoseconds that a thread has run, up to now for a running one.
pub(crate) fn cpu_time_ns(thread: &Arc<Thread>) -> u64 {
    let since_ns = running_on(thread).map_or(0, |core| {
        time::now_ns().saturating_sub(CORES.of(core).switched_at_ns.load(Ordering::Relaxed))
    });
    thread.cpu_time_ns.load(Ordering::Relaxed) + since_ns
}

/// Counts what the running thread has run so far, and no more until [`start_clock`].
pub(super) fn stop_clock() {
    let ran_ns = time::now_ns().saturating_sub(CORES.switched_at_ns.load(Ordering::Relaxed));
    current().cpu_time_ns.fetch_add(ran_ns, Ordering::Relaxed);
    CORES.switched_at_ns.store(u64::MAX, Ordering::Relaxed);
}

/// The running thread's time counts again.
pub(super) fn start_clock() {
    CORES.switched_at_ns.store(time::now_ns(), Ordering::Relaxed);
}

/// Queues a thread that can run.
pub(crate) fn enqueue(thread: Arc<Thread>) {
    if DISPATCHER.make_ready(&Cores, thread, this_cpu().index()) {
        slice_check();
    }
}

/// Wakes a blocked thread. False if it was not blocked.
pub(crate) fn wake(thread: &Arc<Thread>) -> bool {
    wake_for(thread, WakeReason::Woken)
}

/// Wakes a blocked thread because its deadline passed.
pub(super) fn time_out(thread: &Arc<Thread>) {
    wake_for(thread, WakeReason::TimedOut);
}

/// A signal came for a thread: it leaves its sleep, or its next steps in ring 3, to look.
pub(crate) fn interrupt(thread: &Arc<Thread>) {
    if wake_for(thread, WakeReason::Interrupted) {
        return;
    }
    if let Some(core) = running_on(thread) {
        cpu::cpu(core).request(exit_work::SIGNAL);
        send_reschedule(core);
    }
}

/// Makes a core come by the exit work soon, if it is another one.
fn send_reschedule(core: usize) {
    if core != this_cpu().index() {
        unikernel_sched::Machine::interrupt(&Cores, core);
    }
}

fn wake_for(thread: &Arc<Thread>, reason: WakeReason) -> bool {
    let is_claimed = thread.sleep_state.claim();
    if is_claimed {
        if events::is_on() {
            let by = if can_block() { current().id } else { 0 };
            events::note(Kind::Wake, reason as u32, thread.id as u64, by as u64);
        }
        thread.set_wake_reason(reason);
        enqueue(Arc::clone(thread));
    }
    is_claimed
}

/// Takes the running thread's announcement to sleep back. A waker that was first has queued it, or
/// is about to, so then it must pass through the queue.
pub(super) fn cancel_block(thread: &Thread) {
    if !thread.sleep_state.cancel_block() {
        run_next(SwitchReason::Stopped);
    }
}

/// Sleeps until somebody calls [`wake`], the deadline passes or a signal comes. The caller has
/// called [`Thread::begin_block`] and looked at its condition since.
pub(crate) fn block(deadline_ns: Option<u64>) -> Result<(), WaitError> {
    if current().signals.lock().has_deliverable() {
        current().cancel_block();
        return Err(WaitError::Interrupted);
    }
    sleep(deadline_ns)
}

/// The same, whatever signals come: for what ends soon by itself, such as a disk's answer.
pub(super) fn block_uninterrupted(deadline_ns: Option<u64>) -> Result<(), WaitError> {
    match sleep(deadline_ns) {
        Err(WaitError::Interrupted) => Ok(()),
        outcome => outcome,
    }
}

/// Who is told that the running thread is about to sleep.
static SLEEP_OBSERVER: Once<fn()> = Once::new();

/// Sets who is told that the running thread is about to sleep.
pub(crate) fn set_sleep_observer(observer: fn()) {
    SLEEP_OBSERVER.call_once(|| observer);
}

fn sleep(deadline_ns: Option<u64>) -> Result<(), WaitError> {
    let me = current();
    if let Some(observer) = SLEEP_OBSERVER.get() {
        observer();
    }
    let timer = deadline_ns.map(|deadline_ns| timer::wake_at(deadline_ns, Arc::clone(&me)));
    run_next(SwitchReason::Stopped);
    drop(timer);
    match me.wake_reason() {
        // A timer of an earlier sleep may have fired on another core while this one began.
        WakeReason::TimedOut if deadline_ns.is_some_and(|end_ns| time::now_ns() >= end_ns) => {
            Err(WaitError::TimedOut)
        }
        WakeReason::Interrupted => Err(WaitError::Interrupted),
        WakeReason::Woken | WakeReason::TimedOut => Ok(()),
    }
}

/// True if the caller may sleep: a thread runs here, and the core is not merely passing the time on its
/// stack.
pub(crate) fn can_block() -> bool {
    machine::has_current() && !CORES.is_idling.load(Ordering::Relaxed)
}

/// Panics in debug builds if the caller holds a spin lock, or has announced to sleep and looks at its condition; with the
/// caller's location.
#[inline]
#[track_caller]
pub(crate) fn assert_may_sleep() {
    assert_no_spin_lock();
    if cfg!(debug_assertions) && can_block() {
        assert!(!current().has_begun_block(), "sleeping in the condition of a wait");
    }
}

/// True if another thread wants this core.
pub(crate) fn has_others_waiting() -> bool {
    DISPATCHER.waiting(this_cpu().index()) > 0
}

/// Starts a thread of the kernel's if there is memory for its stack.
pub(crate) fn start_kernel_thread(name: &str, main: extern "C" fn() -> !) -> Result<(), OutOfMemory> {
    enqueue(Thread::kernel(name, main)?);
    Ok(())
}

/// Lets the others run first.
pub(crate) fn yield_now() {
    if DISPATCHER.waiting(this_cpu().index()) > 0 {
        run_next(SwitchReason::Yielding);
    }
}

/// For calls that take long, between two parts of the work: does what timers are due and what other cores ask for, which no
/// interrupt can announce here, and lets others run. Call it without spin locks.
pub(crate) fn breathe() {
    assert_no_spin_lock();
    // Another core may wait for this one to forget a page, with the address space locked.
    tlb::serve();
    if !can_block() || current().has_begun_block() {
        return;
    }
    timer::run_expired();
    yield_now();
}

/// The same in a loop, now and then: `done` counts its rounds.
#[inline]
pub(crate) fn breathe_now_and_then(done: usize) {
    /// Rounds that take a few dozen microseconds, if each copies or frees a page.
    const ROUNDS: usize = 64;
    if done % ROUNDS == ROUNDS - 1 {
        breathe();
    }
}

/// On the way to ring 3: gives way if the slice is over, or the thread may not run here any more.
pub(crate) fn preempt() {
    if !current().allowed().contains(this_cpu().index()) {
        return run_next(SwitchReason::Yielding);
    }
    let is_over = time::now_ns() >= slice_end_ns();
    if is_over && DISPATCHER.waiting(this_cpu().index()) > 0 {
        run_next(SwitchReason::Preempted);
    }
}

/// When the running thread must give way, as things are.
fn slice_end_ns() -> u64 {
    let is_woken_waiting = DISPATCHER.woken(this_cpu().index()) > 0;
    let slice_ns = if is_woken_waiting { SLICE_BEFORE_WOKEN_NS } else { SLICE_NS };
    CORES.slice_start_ns.load(Ordering::Relaxed) + slice_ns
}

/// If somebody waits here: asks for a preemption now or at the end of the slice.
pub(super) fn slice_check() {
    if DISPATCHER.waiting(this_cpu().index()) == 0 {
        return;
    }
    let end_ns = slice_end_ns();
    if time::now_ns() >= end_ns {
        this_cpu().request(exit_work::RESCHEDULE);
    } else {
        timer::interrupt_by(end_ns);
    }
}

/// Another core wants this one to look at its queue; what else it wants is in the exit work.
pub(crate) fn reschedule() {
    slice_check();
}

/// Sets where a thread may run. At least one of the cores must be there.
pub(crate) fn set_allowed(thread: &Arc<Thread>, allowed: CoreSet) {
    thread.placement.allowed.store(allowed.0, Ordering::SeqCst);
    let core = thread.core();
    if allowed.contains(core) {
        return;
    }
    if running_on(thread).is_some() {
        cpu::cpu(core).request(exit_work::RESCHEDULE);
        send_reschedule(core);
    } else if let Some(thread) =
        DISPATCHER.withdraw(&Cores, core, |queued| Arc::ptr_eq(queued, thread) && !queued.is_on_core())
    {
        enqueue(thread);
    }
}

/// Ends the running thread. What its caller still holds is never let go.
pub(crate) fn exit_current() -> ! {
    current().sleep_state.mark_dead();
    run_next(SwitchReason::Stopped);
    unreachable!("a dead thread was scheduled");
}

/// Makes the idle thread of core `index`, which is this one or not started yet.
pub(crate) fn prepare_core(index: usize) -> Result<(), OutOfMemory> {
    let idle_thread = Thread::idle(index, idle::main)?;
    CORES.of(index).idle_thread.call_once(|| idle_thread);
    Ok(())
}

/// Begins to run threads on this core; the stack is left for good.
pub(crate) fn start() -> ! {
    let idle_thread = Arc::clone(CORES.idle_thread.get().expect("`prepare_core` was called"));
    prepare_to_enter(&idle_thread);
    machine::start(idle_thread)
}

/// Notes that `thread` runs here from now on.
fn prepare_to_enter(thread: &Arc<Thread>) {
    let now_ns = time::now_ns();
    let here = this_cpu().index();
    CORES.switched_at_ns.store(now_ns, Ordering::Relaxed);
    CORES.slice_start_ns.store(now_ns, Ordering::Relaxed);
    if DISPATCHER.waiting(here) > 0 {
        timer::interrupt_by(slice_end_ns());
    }
    thread.set_core(here);
    thread.placement.is_on_core.store(true, Ordering::Relaxed);
}

/// The next thread for this core, or the running one if it can simply go on. Idles until there is one.
fn choose_next(me: &Arc<Thread>, reason: SwitchReason) -> Arc<Thread> {
    let here = this_cpu().index();
    let idle_thread = || Arc::clone(CORES.idle_thread.get().expect("every core has one"));
    loop {
        match DISPATCHER.take_next(&Cores, here) {
            Some(next) if next.allowed().contains(here) => return next,
            // Its affinity changed while it waited. The running thread first leaves its stack.
            Some(next) if Arc::ptr_eq(&next, me) => {
                CORES.set_switch_reason(SwitchReason::Yielding);
                return idle_thread();
            }
            Some(next) => enqueue(next),
            // To idle is to poll the network, which takes most of a stack: a thread that sleeps deep in a filesystem
            // leaves its own.
            None if reason == SwitchReason::Stopped
                && !me.sleep_state.is_dead()
                && me.has_stack_to_idle() =>
            {
                idle::wait();
            }
            None if reason != SwitchReason::Stopped && me.allowed().contains(here) => return Arc::clone(me),
            None => return idle_thread(),
        }
    }
}

/// Leaves the running thread, which is blocked, runnable or dead, for the next one that can run.
#[track_caller]
pub(super) fn run_next(reason: SwitchReason) {
    assert_no_spin_lock();
    let me = current();
    CORES.set_switch_reason(reason);
    let next = choose_next(&me, reason);
    if Arc::ptr_eq(&me, &next) {
        if me.wake_reason() == WakeReason::Interrupted {
            this_cpu().request(exit_work::SIGNAL);
        }
        return;
    }
    let ran_ns = time::now_ns().saturating_sub(CORES.switched_at_ns.load(Ordering::Relaxed));
    me.cpu_time_ns.fetch_add(ran_ns, Ordering::Relaxed);
    CORES.switches.fetch_add(1, Ordering::Relaxed);
    events::note(Kind::Switch, reason as u32, me.id as u64, next.id as u64);
    prepare_to_enter(&next);
    machine::switch_to(next);
    finish_task_switch();
}

/// The first thing on the new stack: lets go of the thread that ran before. Its Release on `is_on_core` pairs with the Acquire of who
/// wants to run it elsewhere.
pub(crate) fn finish_task_switch() {
    // Whoever sent a signal may have found the thread between sleeping and running.
    if super::current().signals.lock().has_deliverable() {
        this_cpu().request(exit_work::SIGNAL);
    }
    let Some(previous) = machine::take_previous::<Thread>() else { return };
    // From here on another core may run it: its stack pointer and registers are saved.
    previous.placement.is_on_core.store(false, Ordering::Release);
    let here = this_cpu().index();
    if previous.is_idle_thread() {
        return;
    }
    match CORES.switch_reason() {
        SwitchReason::Preempted => DISPATCHER.requeue(&Cores, previous, here),
        SwitchReason::Yielding => DISPATCHER.requeue_here(&Cores, previous, here),
        SwitchReason::Stopped => return DISPATCHER.offer(&Cores, here),
    }
    // It may wait here, for the slice that has just begun to end.
    slice_check();
}
