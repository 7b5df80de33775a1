//! What becomes of a system call before it is done: whether the rules of the image and of the command line allow it, and whether the
//! calling thread's filters let it pass (seccomp(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_policy::seccomp::{ARCHITECTURE, Action, CallData};

use super::calls;
use super::refusals::{self, name_of};
use crate::abi::Errno;
use crate::arch::trap::TrapFrame;
use crate::process::exit;
use crate::process::signal_delivery::{self, Cause};
use crate::task::confinement::Seccomp;
use crate::task::current;
use crate::task::process::process;

/// What becomes of a call.
pub(crate) enum Judgement {
    /// It is done.
    Passes,
    /// It is not done, and answers this.
    Answers(u64),
    /// It is not done, and the thread goes on in a handler.
    GoesElsewhere,
}

/// Asks the rules of `allow-calls=`.
#[inline]
pub(crate) fn by_rules(number: u32, frame: &TrapFrame) -> Judgement {
    if calls::allows(number) { Judgement::Passes } else { refuse(number, frame) }
}

#[cold]
fn refuse(number: u32, frame: &TrapFrame) -> Judgement {
    if calls::refuse(number, "") {
        signal_delivery::die(frame, Cause::refused_call(frame.rip, number, ARCHITECTURE, 0));
    }
    Judgement::Answers(Errno::EPERM.to_rax())
}

/// Asks the calling thread's filters.
pub(crate) fn by_filters(number: u32, args: &[u64; 6], frame: &mut TrapFrame) -> Judgement {
    let chain = match &current().confinement.lock().seccomp {
        Seccomp::Off => return Judgement::Passes,
        Seccomp::Filters(chain) if chain.allows_any(number) => return Judgement::Passes,
        Seccomp::Filters(chain) => Some(Arc::clone(chain)),
        Seccomp::Strict => None,
    };
    let Some(chain) = chain else { return strictly(number) };
    let call = CallData { number, instruction_pointer: frame.rip, arguments: *args };
    let verdict = chain.judge(&call);
    drop(chain);
    if verdict.logs && verdict.action != Action::Allow {
        refusals::tell(format_args!("seccomp: {}: {:?}", name_of(number), verdict.action));
    }
    apply(verdict.action, &call, frame)
}

/// The mode in which a thread may only read, write and end.
fn strictly(number: u32) -> Judgement {
    if [__NR_read, __NR_write, __NR_exit, __NR_rt_sigreturn].contains(&number) {
        return Judgement::Passes;
    }
    refusals::tell(format_args!("seccomp: {} in strict mode: the thread is ended", name_of(number)));
    end_thread(SIGKILL)
}

fn apply(action: Action, call: &CallData, frame: &mut TrapFrame) -> Judgement {
    let refuse = |errno: Errno| Judgement::Answers(errno.to_rax());
    match action {
        Action::Allow => Judgement::Passes,
        Action::Log => {
            refusals::tell(format_args!("seccomp: {} is logged", name_of(call.number)));
            Judgement::Passes
        }
        Action::Errno(number) => Judgement::Answers(u64::from(number).wrapping_neg()),
        // There are no tracers and no supervisors (seccomp(2)).
        Action::Trace(_) | Action::Notify => refuse(Errno::ENOSYS),
        Action::Trap(data) => {
            let cause = Cause::refused_call(frame.rip, call.number, ARCHITECTURE, data);
            signal_delivery::force(frame, cause);
            Judgement::GoesElsewhere
        }
        Action::KillThread if process().thread_count() > 1 => {
            refusals::tell(format_args!("seccomp: {}: the thread is ended", name_of(call.number)));
            end_thread(SIGSYS)
        }
        Action::KillThread | Action::KillProcess => {
            log::warn!("seccomp: {}: the app is ended", name_of(call.number));
            signal_delivery::die(frame, Cause::refused_call(frame.rip, call.number, ARCHITECTURE, 0))
        }
    }
}

/// Ends the calling thread as the signal would end the app; the last one does.
fn end_thread(signal: u32) -> ! {
    if process().thread_count() == 1 {
        exit::exit_by_signal(signal);
    }
    exit::exit_thread(128 + signal as i32)
}
