//! The table itself. One line a call: `number: name(arg: Kind, ...) => handler, Support, "what is missing"`.

use linux_raw_sys::general::*;

use super::{Errno, FromRegister, SysResult};

/// How the tracer prints an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// A signed number.
    Int,
    /// An unsigned number or size in bytes.
    Size,
    /// A file descriptor.
    Fd,
    /// An address, printed in hexadecimal.
    Ptr,
    /// A NUL-terminated path or string.
    Str,
    /// Bytes that the call reads; the next argument is their length.
    InBuf,
    /// Bytes that the call fills; the result is their length.
    OutBuf,
    /// Flags or other bits, printed in hexadecimal or by name.
    Flags,
    /// A signal number.
    Signal,
    /// A socket address; the next argument is its length.
    SockAddr,
    /// A clock id.
    Clock,
    /// A `timespec`.
    Timespec,
}

/// How much of the Linux call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As Linux.
    Full,
    /// The sentence of the entry says what is missing.
    Partial,
}

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// The x86-64 number.
    pub number: u32,
    /// The Linux name.
    pub name: &'static str,
    /// Argument names and kinds, in register order.
    pub args: &'static [(&'static str, ArgKind)],
    /// How much is there.
    pub support: Support,
    /// One sentence on what is missing; empty when nothing is.
    pub missing: &'static str,
}

macro_rules! syscalls {
    ($($number:ident: $name:ident($($arg:ident: $kind:ident),*) => $handler:path, $support:ident, $missing:literal;)*) => {
        /// Every call there is, in the order written below.
        pub static TABLE: &[Entry] = &[$(Entry {
            number: $number,
            name: stringify!($name),
            args: &[$((stringify!($arg), ArgKind::$kind)),*],
            support: Support::$support,
            missing: $missing,
        }),*];

        /// Calls the handler of `number` with the raw registers `args`.
        pub fn dispatch(number: u64, args: &[u64; 6]) -> SysResult {
            // The register's upper half does not count: Linux compares `eax`.
            match number as u32 {
                $($number => {
                    #[expect(unused_mut, unused_variables, reason = "calls without arguments")]
                    let mut registers = args.iter().copied();
                    $(let $arg = FromRegister::from_register(registers.next().unwrap_or(0));)*
                    $handler($($arg),*)
                })*
                _ => unknown(number),
            }
        }
    };
}

syscalls! {
    __NR_getpid: getpid() => super::identity::sys_getpid, Full, "";
}

/// An unknown call is logged once by number, so that a port shows what it lacks.
fn unknown(number: u64) -> SysResult {
    let _ = number;
    Err(Errno::ENOSYS)
}
