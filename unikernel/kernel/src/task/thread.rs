//! One thread of the app.

use alloc::sync::Arc;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use unikernel_sched::{CoreSet, SleepState};

use super::exit_watch::ExitWatch;
use super::release::Releases;
use super::restart::Restart;
use super::settings::Settings;
use super::signal::ThreadSignals;
use crate::arch::cpu::{self, this_cpu};
use crate::arch::fpu::FpuState;
use crate::arch::switch::KernelStack;
use crate::arch::trap::TrapFrame;
use crate::kmem::kernel_map::STACK_BYTES;
use crate::mem::fault::Pending;
use crate::sync::SpinLock;
use crate::sync::lock_order::ThreadLocks;

/// Linux thread id; the first thread's is 1, as an init process has.
pub type ThreadId = i32;

/// Why a blocked thread was woken.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WakeReason {
    /// By whoever made its condition true.
    Woken,
    /// Its deadline passed.
    TimedOut,
    /// A signal is there for it.
    Interrupted,
}

/// There was no memory for a thread's stack or registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// One thread: a kernel stack, saved registers, and what Linux keeps per thread.
pub struct Thread {
    /// Its id; `gettid`.
    pub id: ThreadId,
    stack: KernelStack,
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
    /// What prctl(2) keeps.
    pub settings: SpinLock<Settings>,
    /// Nanoseconds on a core, up to the last switch.
    pub cpu_time_ns: AtomicU64,
    /// What a copy of the kernel's has to wait for that fails just now (`mem::fault`).
    pub pending_fault: SpinLock<Option<Pending>>,
    /// How the call goes on that a signal has cut short.
    pub restart: SpinLock<Option<Restart>>,
    /// Who waits for its end.
    pub exit_watch: SpinLock<ExitWatch>,
    /// What it has still to close.
    pub releases: SpinLock<Releases>,
    /// The sleeping locks that it holds.
    pub locks: ThreadLocks,
    saved: Saved,
}

/// Where a thread runs, ran and may run; see `unikernel_sched::Schedulable`.
pub(super) struct Placement {
    pub(super) core: AtomicUsize,
    pub(super) is_on_core: AtomicBool,
    /// A `CoreSet`.
    pub(super) allowed: AtomicU64,
}

/// Registers of a thread that does not run. Touched only by the core that runs or switches the
/// thread.
struct Saved {
    stack_pointer: UnsafeCell<u64>,
    /// `None` for an idle thread.
    fpu: Option<UnsafeCell<FpuState>>,
    fs_base: Cell<u64>,
    gs_base: Cell<u64>,
}

// SAFETY: `Saved` is reached only through methods that the running thread calls on itself, or the
// scheduler on the two threads of a switch, which no other core can run at that time. All other
// fields are atomics or behind locks.
unsafe impl Sync for Thread {}
// SAFETY: as above; a thread has no tie to the core that made it.
unsafe impl Send for Thread {}

impl Thread {
    /// True while a core runs it.
    pub fn runs(&self) -> bool {
        self.placement.is_on_core.load(Ordering::Relaxed)
    }

    /// Makes a thread which enters ring 3 with `frame`, with the vector registers of a new program
    /// or a copy of the calling thread's.
    pub fn new(
        id: ThreadId,
        frame: &TrapFrame,
        fs_base: u64,
        copy_fpu: bool,
    ) -> Result<Arc<Self>, OutOfMemory> {
        let mut fpu = FpuState::new().ok_or(OutOfMemory)?;
        if copy_fpu {
            fpu.save();
        }
        let stack = KernelStack::new().map_err(|_| OutOfMemory)?;
        let stack_pointer = stack.prepare(frame);
        let saved = Saved {
            stack_pointer: UnsafeCell::new(stack_pointer),
            fpu: Some(UnsafeCell::new(fpu)),
            fs_base: Cell::new(fs_base),
            gs_base: Cell::new(0),
        };
        Ok(Arc::new(Self::with(id, stack, saved, this_cpu().index(), CoreSet::ALL)))
    }

    /// Makes the idle thread of a core: it never leaves the kernel, so it has no registers of the
    /// app to keep.
    pub(super) fn idle(core: usize, main: extern "C" fn() -> !) -> Result<Arc<Self>, OutOfMemory> {
        let stack = KernelStack::new().map_err(|_| OutOfMemory)?;
        let saved = Saved {
            stack_pointer: UnsafeCell::new(stack.prepare_kernel(main)),
            fpu: None,
            fs_base: Cell::new(0),
            gs_base: Cell::new(0),
        };
        Ok(Arc::new(Self::with(0, stack, saved, core, CoreSet::only(core))))
    }

    /// Makes a thread of the kernel's, which runs `main` and never enters ring 3. It belongs to no app: it
    /// gets no signals, and does not keep the machine from ending.
    pub(super) fn kernel(name: &str, main: extern "C" fn() -> !) -> Result<Arc<Self>, OutOfMemory> {
        let fpu = FpuState::new().ok_or(OutOfMemory)?;
        let stack = KernelStack::new().map_err(|_| OutOfMemory)?;
        let saved = Saved {
            stack_pointer: UnsafeCell::new(stack.prepare_kernel(main)),
            // Ring 0 does not use it, but a thread without one is an idle thread.
            fpu: Some(UnsafeCell::new(fpu)),
            fs_base: Cell::new(0),
            gs_base: Cell::new(0),
        };
        let thread = Self::with(0, stack, saved, this_cpu().index(), CoreSet::ALL);
        let len = name.len().min(15);
        thread.name.lock()[..len].copy_from_slice(&name.as_bytes()[..len]);
        Ok(Arc::new(thread))
    }

    fn with(id: ThreadId, stack: KernelStack, saved: Saved, core: usize, allowed: CoreSet) -> Self {
        Self {
            id,
            stack,
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
            settings: SpinLock::new(Settings::INITIAL),
            cpu_time_ns: AtomicU64::new(0),
            pending_fault: SpinLock::new(None),
            restart: SpinLock::new(None),
            exit_watch: SpinLock::default(),
            releases: SpinLock::default(),
            locks: ThreadLocks::new(),
            saved,
        }
    }

    /// True for a core's idle thread.
    pub(super) fn is_idle_thread(&self) -> bool {
        self.saved.fpu.is_none()
    }

    /// True if the calling thread, which this is, has used so little of its stack that the core may idle on it.
    pub(super) fn has_stack_to_idle(&self) -> bool {
        const MOST_USED: u64 = STACK_BYTES as u64 / 4;
        let here = 0_u8;
        self.stack.top() - (&raw const here).addr() as u64 <= MOST_USED
    }

    /// Top of its kernel stack.
    pub fn kernel_stack_top(&self) -> u64 {
        self.stack.top()
    }

    /// Its registers at the last entry from ring 3, for the thread itself.
    pub fn user_frame(&self) -> *mut TrapFrame {
        self.stack.user_frame()
    }

    /// Sets what it enters ring 3 with, for one that has not run yet.
    pub(crate) fn set_user_frame(&self, frame: &TrapFrame) {
        // SAFETY: `KernelStack::prepare` has written a frame there; the thread does not run yet, so nobody reads it.
        unsafe { self.user_frame().write(*frame) };
    }

    /// Has it run where another may, from the core where that does.
    pub(crate) fn run_where(&self, other: &Self) {
        self.placement.allowed.store(other.placement.allowed.load(Ordering::Relaxed), Ordering::Relaxed);
        self.placement.core.store(other.placement.core.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Where the switch saves and finds the stack pointer.
    pub(super) fn stack_pointer(&self) -> *mut u64 {
        self.saved.stack_pointer.get()
    }

    /// Puts the app's registers that ring 0 does not use aside.
    pub(super) fn save_user_registers(&self) {
        let Some(fpu) = &self.saved.fpu else { return };
        // SAFETY: called by the switch for the thread that runs here; see `Saved`.
        unsafe { (*fpu.get()).save() };
        self.saved.fs_base.set(cpu::read_fs_base());
        self.saved.gs_base.set(cpu::read_gs_base());
    }

    /// Loads the app's registers that ring 0 does not use.
    pub(super) fn load_user_registers(&self) {
        let Some(fpu) = &self.saved.fpu else { return };
        // SAFETY: called by the switch for the thread that runs here next; see `Saved`.
        unsafe { (*fpu.get()).restore() };
        cpu::write_fs_base(self.saved.fs_base.get());
        cpu::write_gs_base(self.saved.gs_base.get());
    }

    /// Runs `work` on the saved vector state of the calling thread, with the registers stored
    /// there before and loaded from there after.
    pub fn with_own_fpu<R>(&self, work: impl FnOnce(&mut FpuState) -> R) -> R {
        let fpu = self.saved.fpu.as_ref().expect("an idle thread is never in ring 3");
        // SAFETY: the caller is this thread, so nobody else touches the area; see `Saved`.
        let fpu = unsafe { &mut *fpu.get() };
        fpu.save();
        let result = work(fpu);
        fpu.restore();
        result
    }

    /// Tells who waits for its end: it has left the list of threads.
    pub(super) fn tell_end(&self) {
        let watch = core::mem::replace(&mut *self.exit_watch.lock(), ExitWatch::Over);
        if let ExitWatch::Listener(listener) = watch {
            listener.thread_ended();
        }
    }

    /// Announces that the thread will sleep. From here on, a wake-up is not lost.
    pub fn begin_block(&self) {
        self.sleep_state.begin_block();
    }

    /// True between the announcement and the sleep, unless somebody has woken the thread by then.
    pub fn has_begun_block(&self) -> bool {
        self.sleep_state.is_announced()
    }

    /// Takes the announcement back: the condition holds already.
    pub fn cancel_block(&self) {
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
