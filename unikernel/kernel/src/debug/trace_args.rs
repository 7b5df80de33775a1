//! The arguments of a traced call, by the kinds in the dispatcher's table.

use core::fmt::{Result, Write};

use alloc::string::String;

use linux_raw_sys::general::*;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNIX};

use crate::mem::user::{self, UserPtr, UserSlice};
use crate::syscall::{ArgKind, Entry, SysResult};
use crate::task::signal;

/// Bytes of a buffer that are shown (strace: `-s 32`).
const SHOWN_BYTES: usize = 32;

/// True if the argument is known only after the call.
fn is_output(kind: ArgKind) -> bool {
    kind == ArgKind::OutBuf
}

/// Writes the arguments up to the first that the call fills in.
pub(super) fn write_inputs(line: &mut String, entry: &Entry, args: &[u64; 6]) -> Result {
    let inputs = entry.args.iter().take_while(|(_, kind)| !is_output(*kind)).count();
    write_range(line, entry, args, 0..inputs, 0)
}

/// Writes the rest, with `result` telling how much of an output buffer is filled.
pub(super) fn write_outputs(line: &mut String, entry: &Entry, args: &[u64; 6], result: &SysResult) -> Result {
    let inputs = entry.args.iter().take_while(|(_, kind)| !is_output(*kind)).count();
    write_range(line, entry, args, inputs..entry.args.len(), result.unwrap_or(0))
}

fn write_range(
    line: &mut String,
    entry: &Entry,
    args: &[u64; 6],
    range: core::ops::Range<usize>,
    filled: usize,
) -> Result {
    for index in range {
        if index > 0 {
            line.push_str(", ");
        }
        let (name, kind) = entry.args[index];
        let next = args.get(index + 1).copied().unwrap_or(0) as usize;
        write_one(line, name, kind, args[index], if is_output(kind) { filled } else { next })?;
    }
    Ok(())
}

fn write_one(line: &mut String, name: &str, kind: ArgKind, value: u64, len: usize) -> Result {
    match kind {
        ArgKind::Int | ArgKind::Fd if value as i32 == AT_FDCWD => line.write_str("AT_FDCWD"),
        ArgKind::Int | ArgKind::Fd => write!(line, "{}", value as i32),
        ArgKind::Size => write!(line, "{value}"),
        ArgKind::Ptr if value == 0 => line.write_str("NULL"),
        ArgKind::Ptr => write!(line, "{value:#x}"),
        ArgKind::Str => write_string(line, value),
        ArgKind::InBuf | ArgKind::OutBuf => write_bytes(line, value, len),
        ArgKind::Flags => write_flags(line, name, value as u32),
        ArgKind::Signal => line.write_str(signal::name(value as u32)),
        ArgKind::SockAddr => write_address(line, value, len),
        ArgKind::Clock => write_clock(line, value as u32),
        ArgKind::Timespec => write_timespec(line, value),
    }
}

fn write_string(line: &mut String, address: u64) -> Result {
    match user::read_c_string(UserPtr::new(address), 256) {
        Ok(Some(bytes)) => write!(line, "\"{}\"", bytes.escape_ascii()),
        _ => write!(line, "{address:#x}"),
    }
}

fn write_bytes(line: &mut String, address: u64, len: usize) -> Result {
    let mut bytes = [0; SHOWN_BYTES];
    let shown = &mut bytes[..len.min(SHOWN_BYTES)];
    match UserSlice::new(address, shown.len()).read(shown) {
        Ok(()) if len > SHOWN_BYTES => write!(line, "\"{}\"...", shown.escape_ascii()),
        Ok(()) => write!(line, "\"{}\"", shown.escape_ascii()),
        Err(_) => write!(line, "{address:#x}"),
    }
}

fn write_address(line: &mut String, address: u64, len: usize) -> Result {
    let mut bytes = [0; 28];
    let bytes = &mut bytes[..len.min(28)];
    if UserSlice::new(address, bytes.len()).read(bytes).is_err() || bytes.len() < 16 {
        return if address == 0 { line.write_str("NULL") } else { write!(line, "{address:#x}") };
    }
    let family = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match family {
        AF_INET => write!(line, "{{{}.{}.{}.{}:{port}}}", bytes[4], bytes[5], bytes[6], bytes[7]),
        AF_INET6 => write!(line, "{{[ipv6]:{port}}}"),
        AF_UNIX => write!(line, "{{AF_UNIX}}"),
        family => write!(line, "{{family {family}}}"),
    }
}

fn write_clock(line: &mut String, clock: u32) -> Result {
    match clock {
        CLOCK_REALTIME => line.write_str("CLOCK_REALTIME"),
        CLOCK_MONOTONIC => line.write_str("CLOCK_MONOTONIC"),
        CLOCK_PROCESS_CPUTIME_ID => line.write_str("CLOCK_PROCESS_CPUTIME_ID"),
        CLOCK_THREAD_CPUTIME_ID => line.write_str("CLOCK_THREAD_CPUTIME_ID"),
        CLOCK_BOOTTIME => line.write_str("CLOCK_BOOTTIME"),
        clock => write!(line, "clock {clock}"),
    }
}

fn write_timespec(line: &mut String, address: u64) -> Result {
    match UserPtr::<[i64; 2]>::new(address).read() {
        Ok([seconds, nanos]) => write!(line, "{{{seconds}.{nanos:09}}}"),
        Err(_) if address == 0 => line.write_str("NULL"),
        Err(_) => write!(line, "{address:#x}"),
    }
}

/// Names for the bits of the commonest flag arguments; other bits are shown as a number.
fn write_flags(line: &mut String, name: &str, value: u32) -> Result {
    const PROT: &[(u32, &str)] = &[(PROT_READ, "PROT_READ"), (PROT_WRITE, "PROT_WRITE"), (PROT_EXEC, "PROT_EXEC")];
    const OPEN: &[(u32, &str)] = &[
        (O_WRONLY, "O_WRONLY"),
        (O_RDWR, "O_RDWR"),
        (O_CREAT, "O_CREAT"),
        (O_NONBLOCK, "O_NONBLOCK"),
        (O_CLOEXEC, "O_CLOEXEC"),
        (O_DIRECTORY, "O_DIRECTORY"),
    ];
    const CLONE: &[(u32, &str)] = &[
        (CLONE_VM, "CLONE_VM"),
        (CLONE_FS, "CLONE_FS"),
        (CLONE_FILES, "CLONE_FILES"),
        (CLONE_SIGHAND, "CLONE_SIGHAND"),
        (CLONE_THREAD, "CLONE_THREAD"),
        (CLONE_SETTLS, "CLONE_SETTLS"),
    ];
    let names = match name {
        "prot" => PROT,
        "oflag" => OPEN,
        "clone_flags" => CLONE,
        _ => &[],
    };
    let mut rest = value;
    let mut separator = "";
    for (bit, name) in names.iter().filter(|(bit, _)| value & bit != 0) {
        write!(line, "{separator}{name}")?;
        separator = "|";
        rest &= !bit;
    }
    if rest != 0 || separator.is_empty() { write!(line, "{separator}{rest:#x}") } else { Ok(()) }
}
