//! The door: the one table of system calls, and the dispatcher made from it.
//!
//! Each line of the table names a call's number, its arguments with their kinds, its handler and
//! how much of the Linux call it supports. From the table come the dispatcher, the tracer's
//! decoding and the compatibility page, so that none of them can drift.
//!
//! Every handler has the same shape: typed scalars in, [`SysResult`] out, in this order: decode and
//! validate flags, take references to files and memory, call the room that does the work, convert
//! the result. Past a handler there are no raw user pointers.

pub mod errno;
mod table;

pub use errno::{Errno, SysResult};
pub use table::{ArgKind, Entry, Support, TABLE, dispatch};

use crate::mem::user::{UserPtr, UserSlice};

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

/// A buffer argument pair becomes a slice.
pub fn user_buffer(address: u64, len: usize) -> UserSlice {
    UserSlice::new(address, len)
}
