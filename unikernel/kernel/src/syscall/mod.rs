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
pub mod attributes;
pub mod copy;
pub mod credentials;
pub mod descriptor;
pub mod epoll;
pub mod event;
pub mod exec;
pub mod futex;
pub mod identity;
pub mod inotify;
pub mod io;
pub mod lock;
pub mod memory;
pub mod message;
pub mod message_queue;
pub mod names;
pub mod open;
pub mod path;
pub mod pidfd;
pub mod polling;
pub mod prctl;
pub mod protection_keys;
pub mod restart;
pub mod scheduling;
pub mod signal;
pub mod socket;
pub mod sockopt;
pub mod splice;
pub mod stat;
mod table;
pub mod thread;
pub mod time;
pub mod timer;
pub mod trace;
pub mod uring;
pub mod xattr;

pub use table::{ArgKind, Entry, TABLE, dispatch};

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Errno, SysResult};
use crate::arch::trap::TrapFrame;
use crate::mem::user::UserPtr;
use crate::process::signal::look_again;
use crate::task::accounting;

/// Runs the call that the app's registers name. Answers the value for `rax`, or `None` for the one
/// call that replaces all registers.
#[inline]
pub fn enter(number: u64, args: &[u64; 6], frame: &mut TrapFrame) -> Option<u64> {
    accounting::count_call();
    if number as u32 == linux_raw_sys::general::__NR_rt_sigreturn {
        signal::sys_rt_sigreturn(frame);
        return None;
    }
    let result = if trace::is_on() { trace::call(number, args) } else { dispatch(number, args) };
    Some(match result {
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
pub trait FromRegister {
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
