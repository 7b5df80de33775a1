//! Signals: what is pending, what is blocked, and what the app wants done. [`signal_delivery`](super::signal_delivery) does it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use linux_raw_sys::general::*;

use super::process::{self, process};
use super::thread::Thread;
use super::{current, scheduler};
use crate::arch::cpu::{exit_work, this_cpu};
use crate::file::signalfd;
use crate::user_abi;

/// A set of signals; bit `n - 1` is signal `n`.
pub type SignalSet = u64;

/// Highest signal number.
pub const MAX_SIGNAL: u32 = 64;

/// The set with one signal.
pub const fn set_of(signal: u32) -> SignalSet {
    1 << (signal - 1)
}

/// Signals that cannot be caught, blocked or ignored.
pub const UNBLOCKABLE: SignalSet = set_of(SIGKILL) | set_of(SIGSTOP);
/// Signals that a fault raises: they are taken before any other.
pub(super) const SYNCHRONOUS: SignalSet =
    set_of(SIGSEGV) | set_of(SIGBUS) | set_of(SIGILL) | set_of(SIGTRAP) | set_of(SIGFPE) | set_of(SIGSYS);
/// Signals whose default is to do nothing (signal(7)); stopping has no meaning for an appliance.
const DEFAULT_IGNORED: SignalSet = set_of(SIGCHLD)
    | set_of(SIGCONT)
    | set_of(SIGURG)
    | set_of(SIGWINCH)
    | set_of(SIGSTOP)
    | set_of(SIGTSTP)
    | set_of(SIGTTIN)
    | set_of(SIGTTOU);
/// Queued real-time and thread-directed signals per thread, beyond which they merge.
const MAX_QUEUED: usize = 64;

/// What `rt_sigaction` sets for one signal: the kernel's `struct sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SigAction {
    /// `SIG_DFL`, `SIG_IGN` or the handler's address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to: a stub that calls `rt_sigreturn`.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SignalSet,
}
user_abi!(SigAction);

/// `SIG_DFL`.
pub const DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub const IGNORE: u64 = 1;

/// The handlers of all signals.
pub struct Dispositions([SigAction; MAX_SIGNAL as usize]);

impl Dispositions {
    /// All default.
    pub const fn all_default() -> Self {
        Self([SigAction { handler: DEFAULT, flags: 0, restorer: 0, mask: 0 }; MAX_SIGNAL as usize])
    }

    /// What is set for `signal` (1 to 64).
    pub fn get_mut(&mut self, signal: u32) -> &mut SigAction {
        &mut self.0[signal as usize - 1]
    }

    pub(super) fn is_ignored(&self, signal: u32) -> bool {
        let handler = self.0[signal as usize - 1].handler;
        handler == IGNORE || handler == DEFAULT && DEFAULT_IGNORED & set_of(signal) != 0
    }
}

/// What a handler is told besides the number.
#[derive(Clone, Copy, Debug)]
pub struct SignalInfo {
    /// The signal.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault, or sender's pid and uid packed as `siginfo` has them.
    pub detail: u64,
    /// `si_value` of `rt_sigqueueinfo`.
    pub value: u64,
}

impl SignalInfo {
    /// A signal sent by the app to itself.
    pub fn from_app(signal: u32, code: i32) -> Self {
        Self { signal, code, detail: process::PROCESS_ID as u64, value: 0 }
    }

    /// A signal sent by the kernel (`SI_KERNEL`), as the power button's.
    pub fn from_kernel(signal: u32) -> Self {
        Self { signal, code: SI_KERNEL as i32, detail: 0, value: 0 }
    }
}

/// The alternate signal stack (`sigaltstack`).
#[derive(Clone, Copy, Debug, Default)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// True with `SS_AUTODISARM`.
    pub is_auto_disarm: bool,
}

impl AlternateStack {
    /// True if `stack_pointer` is on it.
    pub fn contains(&self, stack_pointer: u64) -> bool {
        self.size != 0 && stack_pointer.wrapping_sub(self.base) <= self.size
    }
}

/// One thread's signal state.
#[derive(Default)]
pub struct ThreadSignals {
    /// Blocked signals.
    pub mask: SignalSet,
    /// The mask to go back to after the next delivery (`sigsuspend`, `ppoll`, `epoll_pwait`).
    pub saved_mask: Option<SignalSet>,
    /// Signals `sigtimedwait` looks for: they end its sleep although they are blocked.
    pub awaited: SignalSet,
    pending: VecDeque<SignalInfo>,
    /// The alternate stack.
    pub alternate_stack: AlternateStack,
}

impl ThreadSignals {
    /// True if a signal should interrupt a sleep.
    pub fn has_deliverable(&self) -> bool {
        let open = !self.mask | UNBLOCKABLE | self.awaited;
        self.pending.iter().any(|info| open & set_of(info.signal) != 0)
    }

    /// The set of pending signals.
    pub fn pending_set(&self) -> SignalSet {
        self.pending.iter().fold(0, |set, info| set | set_of(info.signal))
    }

    /// Takes the first pending signal of `wanted`, faults before others.
    pub fn take(&mut self, wanted: SignalSet) -> Option<SignalInfo> {
        let find = |set: SignalSet| self.pending.iter().position(|info| set & set_of(info.signal) != 0);
        let index = find(wanted & SYNCHRONOUS).or_else(|| find(wanted))?;
        self.pending.remove(index)
    }

    /// False if the queue is full.
    fn push(&mut self, info: SignalInfo) -> bool {
        // Standard signals do not queue (signal(7)): each takes one place at most, and is never refused.
        if info.signal < SIGRTMIN {
            if self.pending_set() & set_of(info.signal) == 0 {
                self.pending.push_back(info);
            }
            return true;
        }
        let has_room = self.pending.iter().filter(|info| info.signal >= SIGRTMIN).count() < MAX_QUEUED;
        if has_room {
            self.pending.push_back(info);
        }
        has_room
    }

    /// Drops what is pending of a signal that is now ignored.
    pub fn forget(&mut self, signal: u32) {
        self.pending.retain(|info| info.signal != signal);
    }
}

/// Sends a signal to one thread. False if it is a real-time signal and the queue is full.
pub fn send(thread: &Arc<Thread>, info: SignalInfo) -> bool {
    let is_blocked = {
        let signals = thread.signals.lock();
        (signals.mask & !UNBLOCKABLE | signals.awaited) & set_of(info.signal) != 0
    };
    // A blocked signal is kept even if it is ignored: the disposition may change before it is
    // unblocked, and `sigtimedwait` may fetch it.
    if !is_blocked && process().dispositions.lock().is_ignored(info.signal) {
        return true;
    }
    let (is_queued, wants_in) = {
        let mut signals = thread.signals.lock();
        (signals.push(info), signals.has_deliverable())
    };
    if wants_in {
        scheduler::interrupt(thread);
    } else {
        signalfd::notify(info.signal);
    }
    is_queued
}

/// Takes a pending signal of `wanted` that its thread blocks: the caller's own first. A signal to the
/// app waits with one thread, but any may fetch it.
pub fn take_blocked(wanted: SignalSet) -> Option<SignalInfo> {
    let take = |thread: &Thread| {
        let mut signals = thread.signals.lock();
        let blocked = signals.mask;
        signals.take(wanted & blocked)
    };
    take(&current()).or_else(|| process().threads().iter().find_map(|thread| take(thread)))
}

/// True if [`take_blocked`] would find one.
pub fn has_blocked(wanted: SignalSet) -> bool {
    process().threads().iter().any(|thread| {
        let signals = thread.signals.lock();
        signals.pending_set() & signals.mask & wanted != 0
    })
}

/// Sends a signal to the app: to a thread that does not block it, the oldest first. False as [`send`] says.
pub fn send_to_process(info: SignalInfo) -> bool {
    let threads = process().threads();
    let takes = |thread: &&Arc<Thread>| {
        let signals = thread.signals.lock();
        signals.mask & set_of(info.signal) == 0 || signals.awaited & set_of(info.signal) != 0
    };
    threads.iter().find(takes).or(threads.first()).is_none_or(|thread| send(thread, info))
}

/// Makes the way out look for signals again: the calling thread's mask changed.
pub fn look_again() {
    this_cpu().request(exit_work::SIGNAL);
}

/// The name of a signal.
pub fn name(signal: u32) -> &'static str {
    const NAMES: [&str; 32] = [
        "signal 0",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    NAMES.get(signal as usize).copied().unwrap_or("a real-time signal")
}
