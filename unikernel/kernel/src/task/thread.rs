//! One thread of the app.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use unikernel_hal::backtrace::Registers;
use unikernel_hal::thread::{Context, Entry};
use unikernel_hal::thread_type;
use unikernel_sched::{CoreSet, SleepState};

pub(crate) use unikernel_hal::thread::OutOfMemory;

use super::confinement::Confinement;
use super::credentials::{self, Credentials};
use super::exit_watch::ExitWatch;
use super::release::Releases;
use super::restart::Restart;
use super::settings::Settings;
use super::signal::ThreadSignals;
use crate::arch::cpu::this_cpu;
use crate::arch::trap::TrapFrame;
use crate::kmem::kernel_map::STACK_BYTES;
use crate::sync::SpinLock;
use crate::sync::lock_order::ThreadLocks;

/// Linux thread id; the first thread's is 1, as an init process has.
pub(crate) type ThreadId = i32;

/// Why a blocked thread was woken.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WakeReason {
    /// By whoever made its condition true.
    Woken,
    /// Its deadline passed.
    TimedOut,
    /// A signal is there for it.
    Interrupted,
}

/// One thread: a kernel stack, saved registers, and what Linux keeps per thread.
pub(crate) struct Thread {
    /// Its id; `gettid`.
    pub id: ThreadId,
    context: Context,
    pub(super) sleep_state: SleepState,
    wake_reason: AtomicU8,
    pub(super) placement: Placement,
    /// Address to clear and wake when the thread ends (`set_tid_address`, `CLONE_CHILD_CLEARTID`).
    pub clear_child_tid: AtomicU64,
    /// Head of the list of held robust futexes (`set_robust_list`).
    pub robust_list: AtomicU64,
    /// Signal mask, pending signals, alternate stack.
    pub signals: SpinLock<ThreadSignals>,
    /// Name for `prctl(PR_GET_NAME)` and reports.
    pub name: SpinLock<[u8; 16]>,
    /// Whom it acts for.
    pub(super) credentials: SpinLock<Arc<Credentials>>,
    /// What prctl(2) keeps.
    pub settings: SpinLock<Settings>,
    /// What it has forbidden itself.
    pub confinement: SpinLock<Confinement>,
    /// Nanoseconds on a core, up to the last switch.
    pub cpu_time_ns: AtomicU64,
    /// How the call goes on that a signal has cut short.
    pub restart: SpinLock<Option<Restart>>,
    /// Who waits for its end.
    pub exit_watch: SpinLock<ExitWatch>,
    /// What it has still to close.
    pub releases: SpinLock<Releases>,
    /// The sleeping locks that it holds.
    pub locks: ThreadLocks,
}

/// Where a thread runs, ran and may run; see `unikernel_sched::Schedulable`.
pub(super) struct Placement {
    pub(super) core: AtomicUsize,
    pub(super) is_on_core: AtomicBool,
    /// A `CoreSet`.
    pub(super) allowed: AtomicU64,
}

thread_type!(Thread, context);

impl Thread {
    /// True while a core runs it.
    pub(crate) fn runs(&self) -> bool {
        self.placement.is_on_core.load(Ordering::Relaxed)
    }

    /// The core where it runs, ran, or waits to run.
    pub(crate) fn core_index(&self) -> usize {
        self.placement.core.load(Ordering::Relaxed)
    }

    /// Where it goes on in the kernel; `None` while it runs ([`Context::left_at`]).
    pub(crate) fn left_at(&self) -> Option<Registers> {
        self.context.left_at()
    }

    /// How it came from ring 3 the last time ([`Context::last_entry`]).
    pub(crate) fn last_entry(&self) -> Option<Entry> {
        self.context.last_entry()
    }

    /// A word of its stack ([`Context::stack_word`]).
    pub(crate) fn stack_word(&self, address: u64) -> Option<u64> {
        self.context.stack_word(address)
    }

    /// Makes a thread which enters ring 3 with `frame`, with the vector registers of a new program
    /// or a copy of the calling thread's.
    pub(crate) fn new(
        id: ThreadId,
        frame: &TrapFrame,
        fs_base: u64,
        copy_fpu: bool,
    ) -> Result<Arc<Self>, OutOfMemory> {
        let context = Context::for_user(frame, fs_base, copy_fpu)?;
        Ok(Arc::new(Self::with(id, context, this_cpu().index(), CoreSet::ALL)))
    }

    /// Makes the idle thread of a core: it never leaves the kernel, so it has no registers of the
    /// app to keep.
    pub(super) fn idle(core: usize, main: extern "C" fn() -> !) -> Result<Arc<Self>, OutOfMemory> {
        let context = Context::for_kernel(main, false)?;
        Ok(Arc::new(Self::with(0, context, core, CoreSet::only(core))))
    }

    /// Makes a thread of the kernel's, which runs `main` and never enters ring 3. It belongs to no app: it
    /// gets no signals, and does not keep the machine from ending.
    pub(super) fn kernel(name: &str, main: extern "C" fn() -> !) -> Result<Arc<Self>, OutOfMemory> {
        // Ring 0 does not use the app's registers, but a thread without any is an idle thread.
        let context = Context::for_kernel(main, true)?;
        let thread = Self::with(0, context, this_cpu().index(), CoreSet::ALL);
        let len = name.len().min(15);
        thread.name.lock()[..len].copy_from_slice(&name.as_bytes()[..len]);
        Ok(Arc::new(thread))
    }

    /// Runs `work` with its name, without the zeros behind it.
    pub(crate) fn with_name<R>(&self, work: impl FnOnce(&[u8]) -> R) -> R {
        let name = *self.name.lock();
        work(name.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    fn with(id: ThreadId, context: Context, core: usize, allowed: CoreSet) -> Self {
        Self {
            id,
            context,
            sleep_state: SleepState::new(),
            wake_reason: AtomicU8::new(WakeReason::Woken as u8),
            placement: Placement {
                core: AtomicUsize::new(core),
                is_on_core: AtomicBool::new(false),
                allowed: AtomicU64::new(allowed.0),
            },
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            signals: SpinLock::new(ThreadSignals { is_kernel: id == 0, ..ThreadSignals::default() }),
            name: SpinLock::new([0; 16]),
            credentials: SpinLock::new(credentials::of_root()),
            settings: SpinLock::new(Settings::INITIAL),
            confinement: SpinLock::default(),
            cpu_time_ns: AtomicU64::new(0),
            restart: SpinLock::new(None),
            exit_watch: SpinLock::default(),
            releases: SpinLock::default(),
            locks: ThreadLocks::new(),
        }
    }

    /// True for a core's idle thread.
    pub(super) fn is_idle_thread(&self) -> bool {
        !self.context.has_user_registers()
    }

    /// True if the calling thread, which this is, has used so little of its stack that the core may idle on it.
    pub(super) fn has_stack_to_idle(&self) -> bool {
        self.stack_used() <= STACK_BYTES / 4
    }

    /// What the calling thread, which this is, has used of its stack.
    pub(super) fn stack_used(&self) -> usize {
        let here = 0_u8;
        (self.context.stack_top() - (&raw const here).addr() as u64) as usize
    }

    /// Sets what it enters ring 3 with, for one that has not run yet.
    pub(crate) fn set_user_frame(&self, frame: &TrapFrame) {
        self.context.set_user_frame(frame);
    }

    /// Has it run where another may, from the core where that does.
    pub(crate) fn run_where(&self, other: &Self) {
        self.placement.allowed.store(other.placement.allowed.load(Ordering::Relaxed), Ordering::Relaxed);
        self.placement.core.store(other.placement.core.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Tells who waits for its end: it has left the list of threads.
    pub(crate) fn tell_end(&self) {
        let watch = core::mem::replace(&mut *self.exit_watch.lock(), ExitWatch::Over);
        if let ExitWatch::Listener(listener) = watch {
            listener.thread_ended();
        }
    }

    /// Announces that the thread will sleep. From here on, a wake-up is not lost.
    pub(crate) fn begin_block(&self) {
        self.sleep_state.begin_block();
    }

    /// True from the announcement on, also asleep, until somebody wakes the thread.
    pub(crate) fn has_begun_block(&self) -> bool {
        self.sleep_state.is_announced()
    }

    /// Takes the announcement back: the condition holds already.
    pub(crate) fn cancel_block(&self) {
        super::scheduler::cancel_block(self);
    }

    /// Notes why the thread is being woken; for the waker that has claimed it.
    pub(super) fn set_wake_reason(&self, reason: WakeReason) {
        self.wake_reason.store(reason as u8, Ordering::Relaxed);
    }

    /// Why the last sleep ended.
    pub(super) fn wake_reason(&self) -> WakeReason {
        match self.wake_reason.load(Ordering::Relaxed) {
            reason if reason == WakeReason::TimedOut as u8 => WakeReason::TimedOut,
            reason if reason == WakeReason::Interrupted as u8 => WakeReason::Interrupted,
            _ => WakeReason::Woken,
        }
    }
}
