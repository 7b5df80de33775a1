//! What a signal does: runs its handler, on a frame that [`signal_frame`] makes, or ends the app; and what becomes of
//! the call that it cut short.

use linux_raw_sys::general::*;
use spin::Once;

use super::signal;
use super::{exit, out_of_memory, signal_frame};
use crate::arch::trap::TrapFrame;
use crate::mem::fault::Failure;
use crate::task::current;
use crate::task::process::{self, process};
use crate::task::signal::{DEFAULT, IGNORE, SYNCHRONOUS, SigAction, SignalInfo, UNBLOCKABLE, name, set_of};

/// Why the processor stopped the app, as signal, code and address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    /// What a handler is told.
    pub info: SignalInfo,
    /// The exception's vector.
    pub trap: u64,
    /// Its error code.
    pub error_code: u64,
    /// `si_errno`.
    pub errno: u32,
}

impl Cause {
    const fn new(signal: u32, code: u32, address: u64) -> Self {
        let info = SignalInfo { signal, code: code as i32, detail: address, value: 0, timer: None };
        Self { info, trap: 0, error_code: 0, errno: 0 }
    }

    /// A breakpoint (`int3`). Linux tells no address.
    pub(crate) const BREAKPOINT: Self = Self::new(SIGTRAP, SI_KERNEL, 0);
    /// A privileged instruction, a bad segment, a non-canonical address, no stack for a handler. Linux knows no address.
    pub(crate) const GENERAL_PROTECTION: Self = Self::new(SIGSEGV, SI_KERNEL, 0);
    /// An unaligned access with AC set.
    pub(crate) const ALIGNMENT: Self = Self::new(SIGBUS, BUS_ADRALN, 0);

    /// Division by zero, or a quotient that does not fit.
    pub(crate) const fn divide(address: u64) -> Self {
        Self::new(SIGFPE, FPE_INTDIV, address)
    }

    /// A single step, or `int1`.
    pub(crate) const fn debug(address: u64, is_step: bool) -> Self {
        Self::new(SIGTRAP, if is_step { TRAP_TRACE } else { TRAP_BRKPT }, address)
    }

    /// An unmasked floating-point exception, of those whose flags are set (SDM Vol. 1, 8.1.3 and 10.2.3).
    pub(crate) const fn floating_point(address: u64, flags: u32) -> Self {
        let code = match flags {
            _ if flags & 1 != 0 => FPE_FLTINV,
            _ if flags & 4 != 0 => FPE_FLTDIV,
            _ if flags & 8 != 0 => FPE_FLTOVF,
            // Denormal operand, underflow.
            _ if flags & 0x12 != 0 => FPE_FLTUND,
            _ if flags & 0x20 != 0 => FPE_FLTRES,
            // Gone already: Linux's FPE_FLTUNK.
            _ => 14,
        };
        Self::new(SIGFPE, code, address)
    }

    /// A system call that a filter refuses, made just before `address`; `data` is the filter's (seccomp(2), `SECCOMP_RET_TRAP`).
    pub(crate) const fn refused_call(address: u64, number: u32, architecture: u32, data: u16) -> Self {
        let mut cause = Self::new(SIGSYS, SYS_SECCOMP, address);
        cause.info.value = number as u64 | (architecture as u64) << 32;
        cause.errno = data as u32;
        cause
    }

    /// No such instruction.
    pub(crate) const fn illegal_instruction(address: u64) -> Self {
        Self::new(SIGILL, ILL_ILLOPN, address)
    }

    /// An access that the app's regions do not allow, or that memory was short for.
    pub(crate) const fn page_fault(address: u64, failure: Failure, error_code: u64) -> Self {
        let mut cause = match failure {
            Failure::NotMapped => Self::new(SIGSEGV, SEGV_MAPERR, address),
            Failure::NotAllowed => Self::new(SIGSEGV, SEGV_ACCERR, address),
            // Where memory is short, `out_of_memory` comes first.
            Failure::NoPage | Failure::OutOfMemory | Failure::NotReadable => {
                Self::new(SIGBUS, BUS_ADRERR, address)
            }
        };
        cause.trap = 14;
        // Whether the page exists is told for the app's own half only, as Linux does.
        cause.error_code = if address >> 63 == 1 { error_code | 1 } else { error_code };
        cause
    }

    /// The cause with the processor's own words.
    pub(crate) const fn with_trap(mut self, trap: u64, error_code: u64) -> Self {
        self.trap = trap;
        self.error_code = error_code;
        self
    }
}

/// Delivers a fault's signal to the running thread at once: to its handler, or, if there is none
/// or it is blocked, to the end of the app.
pub(crate) fn force(frame: &mut TrapFrame, cause: Cause) {
    let signal = cause.info.signal;
    let mask = current().signals.lock().mask;
    let action = process().dispositions.lock().take(signal);
    if action.handler == DEFAULT || action.handler == IGNORE || mask & set_of(signal) != 0 {
        die(frame, cause);
    }
    run_handler(frame, cause, action);
}

/// On the way to ring 3: delivers what is pending, and settles a call that a signal cut short.
pub(crate) fn deliver_pending(frame: &mut TrapFrame) {
    if process::is_ending() {
        exit::rest();
    }
    if process::is_replaced() {
        exit::exit_thread(0);
    }
    loop {
        let mask = current().signals.lock().mask;
        let Some(info) = signal::take(!mask | UNBLOCKABLE) else { break };
        let action = {
            let mut dispositions = process().dispositions.lock();
            if dispositions.is_ignored(info.signal) {
                continue;
            }
            dispositions.take(info.signal)
        };
        let cause = Cause { info, trap: 0, error_code: 0, errno: 0 };
        if action.handler == DEFAULT {
            die(frame, cause);
        }
        settle_interrupted_call(frame, Some(&action));
        // As on Linux, the next signal's handler finds this one's frame, and runs first.
        run_handler(frame, cause, action);
    }
    // If no handler ran, the call goes on as if nothing had happened.
    settle_interrupted_call(frame, None);
    let saved = current().signals.lock().saved_mask.take();
    if let Some(mask) = saved {
        signal::set_mask(mask);
        signal::look_again();
    }
}

/// A call that a signal has cut short begins again, goes on, or answers `EINTR`: by its wish, and by the handler that
/// runs now, if one does.
fn settle_interrupted_call(frame: &mut TrapFrame, handler: Option<&SigAction>) {
    use crate::abi::Errno;
    /// Bytes of the `syscall` instruction.
    const SYSCALL_BYTES: u64 = 2;
    let is = |error: Errno| frame.rax == error.to_rax();
    if !frame.is_syscall() || !Errno::RESTARTS.into_iter().any(is) {
        return;
    }
    let has_restart = |action: &SigAction| action.flags & u64::from(SA_RESTART) != 0;
    let goes_on =
        is(Errno::RESTART_ALWAYS) || handler.is_none_or(|action| is(Errno::RESTART) && has_restart(action));
    if !goes_on {
        frame.rax = Errno::EINTR.to_rax();
        return;
    }
    frame.rax = if is(Errno::RESTART_BLOCK) { __NR_restart_syscall.into() } else { frame.error_code };
    frame.rip -= SYSCALL_BYTES;
}

fn run_handler(frame: &mut TrapFrame, cause: Cause, action: SigAction) {
    let signal = cause.info.signal;
    if signal_frame::push(frame, &cause, &action).is_err() {
        // No stack for the handler. That of SIGSEGV may have one of its own.
        if signal == SIGSEGV {
            die(frame, cause);
        }
        return force(frame, Cause::GENERAL_PROTECTION);
    }
    let mask = current().signals.lock().mask;
    let own = if action.flags & u64::from(SA_NODEFER) == 0 { set_of(signal) } else { 0 };
    signal::set_mask(mask | action.mask | own);
}

/// Who tells people of a fault that ends the app.
static CRASH_REPORT: Once<fn(&TrapFrame, &Cause)> = Once::new();

/// Sets who tells people of a fault that ends the app.
pub(crate) fn set_crash_report(report: fn(&TrapFrame, &Cause)) {
    CRASH_REPORT.call_once(|| report);
}

/// Ends the app because of a signal, with a report when it is a fault.
pub(crate) fn die(frame: &TrapFrame, cause: Cause) -> ! {
    if out_of_memory::has_ended_app() {
        // Whatever happens now, such as a frame for a handler that found no memory, is a consequence.
        exit::exit_by_signal(SIGKILL);
    }
    let signal = cause.info.signal;
    if SYNCHRONOUS & set_of(signal) != 0 || signal == SIGABRT {
        if let Some(report) = CRASH_REPORT.get() {
            report(frame, &cause);
        }
    } else {
        log::warn!("the app was ended by {}", name(signal));
    }
    exit::exit_by_signal(signal)
}
