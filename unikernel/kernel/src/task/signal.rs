//! Signals: what is pending, what is blocked, and what the app wants done. `process::signal` sends them.

use linux_raw_sys::general::*;
use unikernel_hal::user_abi_struct;

use super::process::{self, process};
use super::signal_queue::SignalQueue;

/// A set of signals; bit `n - 1` is signal `n`.
pub(crate) type SignalSet = u64;

/// Highest signal number.
pub(crate) const MAX_SIGNAL: u32 = 64;

/// The set with one signal.
pub(crate) const fn set_of(signal: u32) -> SignalSet {
    1 << (signal - 1)
}

/// Signals that cannot be caught, blocked or ignored.
pub(crate) const UNBLOCKABLE: SignalSet = set_of(SIGKILL) | set_of(SIGSTOP);
/// Signals that a fault raises: they are taken before any other.
pub(crate) const SYNCHRONOUS: SignalSet =
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

/// What `rt_sigaction` sets for one signal: the kernel's `struct sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SigAction {
    /// `SIG_DFL`, `SIG_IGN` or the handler's address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to: a stub that calls `rt_sigreturn`.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SignalSet,
}
user_abi_struct!(SigAction { handler, flags, restorer, mask });

/// `SIG_DFL`.
pub(crate) const DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub(crate) const IGNORE: u64 = 1;

/// The handlers of all signals.
pub(crate) struct Dispositions([SigAction; MAX_SIGNAL as usize]);

impl Dispositions {
    /// All default.
    pub(crate) const fn all_default() -> Self {
        Self([SigAction { handler: DEFAULT, flags: 0, restorer: 0, mask: 0 }; MAX_SIGNAL as usize])
    }

    /// What is set for `signal` (1 to 64).
    pub(crate) fn get_mut(&mut self, signal: u32) -> &mut SigAction {
        &mut self.0[signal as usize - 1]
    }

    /// Takes the action for a handler that runs now. That of `SA_RESETHAND` is taken by one thread only: the next
    /// signal, on whatever core, finds the default.
    pub(crate) fn take(&mut self, signal: u32) -> SigAction {
        let action = self.get_mut(signal);
        let taken = *action;
        let is_handler = taken.handler != DEFAULT && taken.handler != IGNORE;
        if is_handler && taken.flags & u64::from(SA_RESETHAND) != 0 {
            action.handler = DEFAULT;
        }
        taken
    }

    /// Another program begins (execve(2)): handlers are gone, what is ignored stays so.
    pub(crate) fn forget_handlers(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = SigAction { handler, flags: 0, restorer: 0, mask: 0 };
        }
    }

    /// True if `signal` has no effect.
    pub(crate) fn is_ignored(&self, signal: u32) -> bool {
        let handler = self.0[signal as usize - 1].handler;
        handler == IGNORE || handler == DEFAULT && DEFAULT_IGNORED & set_of(signal) != 0
    }
}

/// Which timer sent a signal, and under which setting: a setting's signal is void after the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerSignal {
    /// The timer's number.
    pub id: i32,
    /// Which of its settings.
    pub setting: u32,
}

/// What a handler is told besides the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalInfo {
    /// The signal.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault, or sender's pid and uid packed as `siginfo` has them.
    pub detail: u64,
    /// `si_value` of `rt_sigqueueinfo`.
    pub value: u64,
    /// The timer that sent it, which goes on once the signal is taken.
    pub timer: Option<TimerSignal>,
}

impl SignalInfo {
    /// A signal sent by the app to itself.
    pub(crate) fn from_app(signal: u32, code: i32) -> Self {
        Self { signal, code, detail: process::PROCESS_ID as u64, value: 0, timer: None }
    }

    /// A signal sent by the kernel (`SI_KERNEL`), as the power button's.
    pub(crate) fn from_kernel(signal: u32) -> Self {
        Self { signal, code: SI_KERNEL as i32, detail: 0, value: 0, timer: None }
    }

    /// True if a timer of timer_create(2) sent it.
    pub(crate) fn is_posix_timer(&self) -> bool {
        self.timer.is_some() && self.code == SI_TIMER
    }
}

/// The alternate signal stack (`sigaltstack`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// True with `SS_AUTODISARM`.
    pub is_auto_disarm: bool,
}

impl AlternateStack {
    /// True if `stack_pointer` is on it.
    pub(crate) fn contains(&self, stack_pointer: u64) -> bool {
        stack_pointer > self.base && stack_pointer - self.base <= self.size
    }
}

/// One thread's signal state.
#[derive(Default)]
pub(crate) struct ThreadSignals {
    /// Blocked signals.
    pub mask: SignalSet,
    /// The mask to go back to after the next delivery (`sigsuspend`, `ppoll`, `epoll_pwait`).
    pub saved_mask: Option<SignalSet>,
    /// Signals `sigtimedwait` looks for: they end its sleep although they are blocked.
    pub awaited: SignalSet,
    /// True for a thread of the kernel's own: nobody sends it signals, and the app's are not for it.
    pub is_kernel: bool,
    /// Signals sent to this thread.
    pub pending: SignalQueue,
    /// The alternate stack.
    pub alternate_stack: AlternateStack,
}

impl ThreadSignals {
    /// The signals that are let in.
    pub(crate) fn open(&self) -> SignalSet {
        if self.is_kernel { 0 } else { !self.mask | UNBLOCKABLE | self.awaited }
    }

    /// True if a signal, of the thread's or the app's, should interrupt a sleep.
    pub(crate) fn has_deliverable(&self) -> bool {
        (self.pending.set() | process().pending.set()) & self.open() != 0
    }
}

/// The name of a signal.
pub(crate) fn name(signal: u32) -> &'static str {
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
