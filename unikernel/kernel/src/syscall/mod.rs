//! The one table of system calls, and the dispatcher made from it.
//!
//! Each line of the table names a call's number, its arguments with their kinds, its handler and
//! how much of the Linux call it supports. From the table come the dispatcher, the tracer's
//! decoding and the compatibility page, so that none of them can drift.
//!
//! Every handler has the same shape: typed scalars in, [`SysResult`] out, in this order: decode and
//! validate flags, take references to files and memory, call the room that does the work, convert
//! the result. Past a handler there are no raw user pointers.

mod admission;
pub(crate) mod attributes;
pub(crate) mod copy;
pub(crate) mod credentials;
pub(crate) mod descriptor;
pub(crate) mod epoll;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod inotify;
pub(crate) mod io;
pub(crate) mod landlock;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod message_queue;
pub(crate) mod module;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod path;
pub(crate) mod pidfd;
pub(crate) mod polling;
pub(crate) mod prctl;
pub(crate) mod protection_keys;
pub(crate) mod restart;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod sockopt;
pub(crate) mod splice;
pub(crate) mod stat;
mod table;
pub(crate) mod thread;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod trace;
pub(crate) mod uring;
pub(crate) mod watch;
pub(crate) mod xattr;

pub(crate) use table::{ArgKind, Entry, TABLE, dispatch};

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Errno, SysResult};
use crate::arch::trap::TrapFrame;
use crate::mem::user::UserPtr;
use crate::process::signal::look_again;
use crate::task::accounting;
use watch::Look;

/// Runs the call that the app's registers name. Answers the value for `rax`, or `None` for the one
/// call that replaces all registers.
#[inline]
pub(crate) fn enter(number: u64, args: &[u64; 6], frame: &mut TrapFrame) -> Option<u64> {
    accounting::count_call();
    let look = watch::look(number);
    if look == Look::Ask {
        return watch::enter(number, args, frame);
    }
    if look == Look::Note {
        watch::note_begin(number, args);
    }
    let result = run(number, args, frame, dispatch);
    if look == Look::Note {
        watch::note_end(number, result, frame);
    }
    result
}

/// The same, once nobody is left who has to look at the call; `call` does it, or does so and tells.
#[inline]
fn run(
    number: u64,
    args: &[u64; 6],
    frame: &mut TrapFrame,
    call: impl FnOnce(u64, &[u64; 6]) -> SysResult,
) -> Option<u64> {
    if number as u32 == linux_raw_sys::general::__NR_rt_sigreturn {
        signal::sys_rt_sigreturn(frame);
        return None;
    }
    Some(match call(number, args) {
        Ok(value) => value as u64,
        Err(error) => {
            if Errno::RESTARTS.contains(&error) {
                // Even if another thread has taken the signal meanwhile.
                look_again();
            }
            error.to_rax()
        }
    })
}

/// An unknown call is logged once by name, so that a port shows what it lacks, and refused.
fn unknown(number: u64) -> SysResult {
    /// One bit for each number that was said.
    static SAID: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    let number = number as u32;
    let bit = 1 << (number % 64);
    let is_new =
        SAID.get(number as usize / 64).is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0);
    if is_new {
        let name = unikernel_report::calls::name(number).unwrap_or("unknown to Linux, too");
        log::warn!("system call {number} ({name}) is not there: answering ENOSYS");
    }
    Err(Errno::ENOSYS)
}

/// How a register becomes a handler's argument. Linux truncates: an `int` is the low 32 bits.
pub(crate) trait FromRegister {
    /// Reads the argument out of a 64-bit register.
    fn from_register(value: u64) -> Self;
}

macro_rules! from_register {
    ($($ty:ty)*) => {
        $(impl FromRegister for $ty {
            fn from_register(value: u64) -> Self {
                value as Self
            }
        })*
    };
}
from_register!(u64 i64 u32 i32 usize);

impl<T> FromRegister for UserPtr<T> {
    fn from_register(value: u64) -> Self {
        Self::new(value)
    }
}
