//! restart_syscall(2): what a thread comes back to that a signal without a handler has woken from a call with a time-out.

use super::{futex, polling, time};
use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::task::current;
use crate::task::restart::Restart;

/// Ends a call that a signal has cut short: a handler makes it `EINTR`; without one it goes on, as `rest` says.
pub(crate) fn interrupted(rest: Restart) -> SysResult {
    *current().restart.lock() = Some(rest);
    Err(Errno::RESTART_BLOCK)
}

/// restart_syscall(2).
pub(crate) fn sys_restart_syscall() -> SysResult {
    let rest = current().restart.lock().take();
    match rest {
        // The app calls it by itself, or a handler ran before the call could go on.
        None => Err(Errno::EINTR),
        Some(Restart::Futex { address, expected, bits, deadline_ns }) => {
            futex::sleep(address, expected, bits, Some(deadline_ns))
        }
        Some(Restart::Sleep { deadline_ns, remaining }) => time::sleep(deadline_ns, UserPtr::new(remaining)),
        Some(Restart::Poll { entries, count, deadline_ns }) => {
            polling::poll_or_restart(UserPtr::new(entries), count, deadline_ns)
        }
    }
}
