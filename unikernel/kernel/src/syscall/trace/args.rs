//! The arguments of a traced call: by their kinds in the dispatcher's table, by the names of their
//! values ([`unikernel_report::flags`]), and, where they point to a structure, by what it holds
//! ([`super::structs`]).

use core::fmt::{Result, Write};
use core::ops::Range;

use alloc::string::String;

use linux_raw_sys::general::AT_FDCWD;
use unikernel_report::flags;

use super::structs::{self, Shape};
use crate::abi::SysResult;
use crate::mem::user::{self, UserPtr};
use crate::syscall::{ArgKind, Entry};
use crate::task::signal;

/// A call whose arguments are written.
struct Call<'a> {
    entry: &'a Entry,
    args: &'a [u64; 6],
    /// What it answered; `None` before it, or after it failed.
    answer: Option<usize>,
}

/// Writes the arguments up to the first that the call fills in.
pub(super) fn write_inputs(line: &mut String, entry: &Entry, args: &[u64; 6]) -> Result {
    Call { entry, args, answer: None }.write(line, 0..first_output(entry))
}

/// Writes the rest, with what the call filled in.
pub(super) fn write_outputs(line: &mut String, entry: &Entry, args: &[u64; 6], result: &SysResult) -> Result {
    Call { entry, args, answer: result.ok() }.write(line, first_output(entry)..entry.args.len())
}

fn first_output(entry: &Entry) -> usize {
    let is_output = |&(name, kind): &(&str, ArgKind)| {
        kind == ArgKind::OutBuf || Shape::of(entry.name, name).is_some_and(Shape::is_output)
    };
    entry.args.iter().position(is_output).unwrap_or(entry.args.len())
}

impl Call<'_> {
    fn write(&self, line: &mut String, range: Range<usize>) -> Result {
        for index in range {
            if index > 0 {
                line.push_str(", ");
            }
            self.write_argument(line, index)?;
        }
        Ok(())
    }

    /// The argument after `index`, which often is a length.
    fn next(&self, index: usize) -> u64 {
        self.args.get(index + 1).copied().unwrap_or(0)
    }

    fn write_argument(&self, line: &mut String, index: usize) -> Result {
        let (name, kind) = self.entry.args[index];
        let value = self.args[index];
        if self.entry.name.ends_with("sockopt") && name == "optname" {
            return flags::write_socket_option(line, self.args[index - 1] as u32, value as u32);
        }
        if let Some(result) = flags::write(line, self.entry.name, name, value as u32) {
            return result;
        }
        let shape = Shape::of(self.entry.name, name).filter(|shape| value != 0 && self.can_read(*shape));
        match shape {
            Some(shape) => shape.write(line, value, self.next(index), self.answer.unwrap_or(0)),
            None => self.write_plain(line, kind, index),
        }
    }

    /// What a failed call would have filled in is not there.
    fn can_read(&self, shape: Shape) -> bool {
        !shape.is_output() || self.answer.is_some()
    }

    fn write_plain(&self, line: &mut String, kind: ArgKind, index: usize) -> Result {
        let value = self.args[index];
        match kind {
            ArgKind::Fd if value as i32 == AT_FDCWD => line.write_str("AT_FDCWD"),
            ArgKind::Int | ArgKind::Fd => write!(line, "{}", value as i32),
            ArgKind::Size | ArgKind::Clock => write!(line, "{value}"),
            ArgKind::Flags => write!(line, "{:#x}", value as u32),
            ArgKind::Signal => line.write_str(signal::name(value as u32)),
            _ if value == 0 => line.write_str("NULL"),
            ArgKind::Ptr => write!(line, "{value:#x}"),
            ArgKind::Str => write_string(line, value),
            ArgKind::InBuf => structs::write_bytes(line, value, self.next(index)),
            ArgKind::OutBuf => structs::write_bytes(line, value, self.answer.unwrap_or(0) as u64),
            ArgKind::SockAddr => structs::write_address(line, value, self.next(index)),
            ArgKind::Timespec => structs::write_timespec(line, value),
        }
    }
}

fn write_string(line: &mut String, address: u64) -> Result {
    match user::read_c_string(UserPtr::new(address), 256) {
        Ok(Some(bytes)) => write!(line, "\"{}\"", bytes.escape_ascii()),
        _ => write!(line, "{address:#x}"),
    }
}
