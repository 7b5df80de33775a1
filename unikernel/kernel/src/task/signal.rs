//! Signals: what is pending, what is blocked, and what the app wants done. [`signal_delivery`](super::signal_delivery) does it.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use spin::Once;
use unikernel_hal::user_abi_struct;

use super::process::{self, process};
use super::signal_queue::{Sent, SignalQueue};
use super::signal_timer::{self, TimerSignal};
use super::thread::Thread;
use super::{current, scheduler};
use crate::arch::cpu::{exit_work, this_cpu};

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
user_abi_struct!(SigAction { handler, flags, restorer, mask });

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

    /// Takes the action for a handler that runs now. That of `SA_RESETHAND` is taken by one thread only: the next
    /// signal, on whatever core, finds the default.
    pub fn take(&mut self, signal: u32) -> SigAction {
        let action = self.get_mut(signal);
        let taken = *action;
        let is_handler = taken.handler != DEFAULT && taken.handler != IGNORE;
        if is_handler && taken.flags & u64::from(SA_RESETHAND) != 0 {
            action.handler = DEFAULT;
        }
        taken
    }

    /// Another program begins (execve(2)): handlers are gone, what is ignored stays so.
    pub fn forget_handlers(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = SigAction { handler, flags: 0, restorer: 0, mask: 0 };
        }
    }

    /// True if `signal` has no effect.
    pub fn is_ignored(&self, signal: u32) -> bool {
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
    /// The timer that sent it, which goes on once the signal is taken.
    pub timer: Option<TimerSignal>,
}

impl SignalInfo {
    /// A signal sent by the app to itself.
    pub fn from_app(signal: u32, code: i32) -> Self {
        Self { signal, code, detail: process::PROCESS_ID as u64, value: 0, timer: None }
    }

    /// A signal sent by the kernel (`SI_KERNEL`), as the power button's.
    pub fn from_kernel(signal: u32) -> Self {
        Self { signal, code: SI_KERNEL as i32, detail: 0, value: 0, timer: None }
    }

    /// True if a timer of timer_create(2) sent it.
    pub fn is_posix_timer(&self) -> bool {
        self.timer.is_some() && self.code == SI_TIMER
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
        stack_pointer > self.base && stack_pointer - self.base <= self.size
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
    /// True for a thread of the kernel's own: nobody sends it signals, and the app's are not for it.
    pub is_kernel: bool,
    /// Signals sent to this thread.
    pub pending: SignalQueue,
    /// The alternate stack.
    pub alternate_stack: AlternateStack,
}

impl ThreadSignals {
    /// The signals that are let in.
    fn open(&self) -> SignalSet {
        if self.is_kernel { 0 } else { !self.mask | UNBLOCKABLE | self.awaited }
    }

    /// True if a signal, of the thread's or the app's, should interrupt a sleep.
    pub fn has_deliverable(&self) -> bool {
        (self.pending.set() | process().pending.set()) & self.open() != 0
    }
}

/// True if a signal that is sent has no effect: it is ignored, and `thread` does not keep it back. What is blocked is
/// kept even if it is ignored: the disposition may change before it is unblocked, and `sigtimedwait` may fetch it.
fn is_dropped(thread: &Thread, signal: u32) -> bool {
    let kept = {
        let signals = thread.signals.lock();
        signals.mask & !UNBLOCKABLE | signals.awaited
    };
    kept & set_of(signal) == 0 && process().dispositions.lock().is_ignored(signal)
}

/// Signals that stop a process elsewhere.
const STOPS: [u32; 4] = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU];

/// A signal to stop takes back those to go on, and the other way round, even if nobody wants it (signal(7)).
fn take_back_opposite(signal: u32) {
    match signal {
        SIGCONT => STOPS.into_iter().for_each(discard),
        _ if STOPS.contains(&signal) => discard(SIGCONT),
        _ => {}
    }
}

/// Who is told of each signal that becomes pending.
static OBSERVER: Once<fn(u32)> = Once::new();

/// Sets who is told of each signal that becomes pending, in the context of whoever sends it.
pub fn set_observer(observer: fn(u32)) {
    OBSERVER.call_once(|| observer);
}

fn tell_observer(signal: u32) {
    if let Some(observer) = OBSERVER.get() {
        observer(signal);
    }
}

/// Sends a signal to one thread.
pub fn send(thread: &Arc<Thread>, info: SignalInfo) -> Sent {
    take_back_opposite(info.signal);
    if is_dropped(thread, info.signal) {
        return Sent::Ignored;
    }
    let (sent, wants_in) = {
        let mut signals = thread.signals.lock();
        (signals.pending.push(info), signals.has_deliverable())
    };
    if wants_in {
        scheduler::interrupt(thread);
    }
    tell_observer(info.signal);
    sent
}

/// Sends a signal to the app: any thread that lets it in may take it, the oldest that does is made to look.
pub fn send_to_process(info: SignalInfo) -> Sent {
    take_back_opposite(info.signal);
    let first = process().find_thread(|_| true);
    if first.is_none_or(|first| is_dropped(&first, info.signal)) {
        return Sent::Ignored;
    }
    let sent = process().pending.push(info);
    if let Some(thread) =
        process().find_thread(|thread| thread.signals.lock().open() & set_of(info.signal) != 0)
    {
        scheduler::interrupt(&thread);
    }
    tell_observer(info.signal);
    sent
}

/// Takes a signal of `wanted` for the calling thread: of its own first, then of the app's.
pub fn take(wanted: SignalSet) -> Option<SignalInfo> {
    loop {
        let own = current().signals.lock().pending.take(wanted);
        let info = own.or_else(|| process().pending.take(wanted))?;
        let taken = signal_timer::take(info);
        if taken.is_some() {
            return taken;
        }
    }
}

/// The signals that [`take`] would find.
pub fn pending_set() -> SignalSet {
    current().signals.lock().pending.set() | process().pending.set()
}

/// Drops what waits of a signal that is ignored from now on.
pub fn discard(signal: u32) {
    let drop_all = |count: usize, take: &dyn Fn() -> Option<SignalInfo>| {
        // One more, which may wait without details.
        for _ in 0..=count {
            let Some(info) = take() else { break };
            signal_timer::signal_dropped(&info);
        }
    };
    let set = set_of(signal);
    drop_all(process().pending.count(), &|| process().pending.take(set));
    for thread in process().threads() {
        let count = thread.signals.lock().pending.count();
        drop_all(count, &|| thread.signals.lock().pending.take(set));
    }
}

/// Sets the calling thread's mask. What it lets in now is delivered on the way out, if that looks
/// ([`look_again`]); what it blocks now, another thread may take.
pub fn set_mask(mask: SignalSet) {
    let mask = mask & !UNBLOCKABLE;
    let before = core::mem::replace(&mut current().signals.lock().mask, mask);
    hand_on(mask & !before);
}

/// Has other threads look for the app's signals of `set`: the calling one, which may have been chosen for them, does
/// not take them any more.
pub fn hand_on(set: SignalSet) {
    let mut left = process().pending.set() & set;
    if left == 0 {
        return;
    }
    let me = Arc::clone(&current());
    process().find_thread(|thread| {
        let open = if Arc::ptr_eq(thread, &me) { 0 } else { thread.signals.lock().open() };
        if open & left != 0 {
            scheduler::interrupt(thread);
            left &= !open;
        }
        left == 0
    });
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
