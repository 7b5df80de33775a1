//! What the pointers among a traced call's arguments lead to. A pointer that cannot be followed is
//! written as the number that it is.

use core::fmt::{Result, Write};

use alloc::string::String;

use linux_raw_sys::general::{epoll_event, pollfd};
use unikernel_report::{address, flags};

use crate::mem::user::{UserAbi, UserPtr, UserSlice};

/// Bytes of a buffer that are shown (strace: `-s 32`).
const SHOWN_BYTES: usize = 32;
/// Elements of an array that are shown.
const SHOWN_ELEMENTS: u64 = 8;
/// The longest socket address but for that of a Unix socket (unix(7): 110).
const MAX_ADDRESS_BYTES: u64 = 110;

/// What a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As many `epoll_event`s as the call answered.
    FoundEvents,
    /// One `epoll_event`.
    Event,
    /// As many `pollfd`s as the next argument says.
    PollFds,
    /// Two new descriptors.
    FdPair,
    /// A socket address that the call fills in; the next argument points to its length.
    FilledAddress,
    /// As many `iovec`s as the next argument says, with the bytes to write.
    Gather,
    /// The same, with as many bytes read as the call answered.
    Scatter,
    /// A `msghdr` to send.
    Message,
    /// A `msghdr` filled in.
    FilledMessage,
    /// A `timespec`.
    Time,
    /// A `timespec` filled in.
    FilledTime,
    /// An `itimerspec`: interval and first time.
    Timer,
    /// An `int`, if the next argument says that it is as long as one.
    Option,
    /// A set of signals.
    SignalSet,
}

impl Shape {
    /// The shape behind an argument, by call and argument as the dispatcher's table names them.
    pub(super) fn of(call: &str, argument: &str) -> Option<Self> {
        Some(match (call, argument) {
            ("epoll_wait" | "epoll_pwait" | "epoll_pwait2", "events") => Self::FoundEvents,
            ("epoll_ctl", "event") => Self::Event,
            ("poll" | "ppoll", "fds") => Self::PollFds,
            ("pipe" | "pipe2", "pipefd") | ("socketpair", "sv") => Self::FdPair,
            ("accept" | "accept4" | "getsockname" | "getpeername", "addr") | ("recvfrom", "src_addr") => {
                Self::FilledAddress
            }
            ("writev" | "pwritev", "iov") => Self::Gather,
            ("readv" | "preadv", "iov") => Self::Scatter,
            ("sendmsg", "msg") => Self::Message,
            ("recvmsg", "msg") => Self::FilledMessage,
            ("futex", "timeout") => Self::Time,
            ("clock_gettime", "tp") | ("clock_getres", "res") => Self::FilledTime,
            ("timerfd_settime", "new_value") => Self::Timer,
            ("setsockopt", "optval") => Self::Option,
            ("rt_sigprocmask" | "rt_sigtimedwait", "set") | ("rt_sigsuspend", "mask") => Self::SignalSet,
            _ => return None,
        })
    }

    /// True if it is there only after the call.
    pub(super) fn is_output(self) -> bool {
        matches!(
            self,
            Self::FoundEvents
                | Self::PollFds
                | Self::FdPair
                | Self::FilledAddress
                | Self::Scatter
                | Self::FilledMessage
                | Self::FilledTime
        )
    }

    /// Writes what lies at `at`; `next` is the argument behind the pointer, `answer` the call's.
    pub(super) fn write(self, line: &mut String, at: u64, next: u64, answer: usize) -> Result {
        match self {
            Self::FoundEvents => write_array(line, at, answer as u64, write_event),
            Self::Event => write_value(line, at, write_event),
            Self::PollFds => write_array(line, at, next, write_poll_fd),
            Self::FdPair => {
                write_value(line, at, |line, fds: [i32; 2]| write!(line, "[{}, {}]", fds[0], fds[1]))
            }
            Self::FilledAddress => match UserPtr::<u32>::new(next).try_read() {
                Ok(len) => write_address(line, at, u64::from(len)),
                Err(_) => write!(line, "{at:#x}"),
            },
            Self::Gather => write_vector(line, at, next, usize::MAX),
            Self::Scatter => write_vector(line, at, next, answer),
            Self::Message => write_message(line, at, usize::MAX),
            Self::FilledMessage => write_message(line, at, answer),
            Self::Time | Self::FilledTime => write_timespec(line, at),
            Self::Timer => {
                line.push_str("{every ");
                write_timespec(line, at)?;
                line.push_str(", in ");
                write_timespec(line, at.wrapping_add(16))?;
                line.write_char('}')
            }
            Self::Option if next == 4 => write_value(line, at, |line, value: i32| write!(line, "[{value}]")),
            Self::Option => write!(line, "{at:#x}"),
            Self::SignalSet => write_value(line, at, |line, set: u64| write!(line, "{{{set:#x}}}")),
        }
    }
}

/// Writes the start of a buffer as a string.
pub(super) fn write_bytes(line: &mut String, at: u64, len: u64) -> Result {
    let mut bytes = [0; SHOWN_BYTES];
    let shown = &mut bytes[..SHOWN_BYTES.min(len as usize)];
    match UserSlice::new(at, shown.len()).try_read(shown) {
        Ok(()) if len as usize > SHOWN_BYTES => write!(line, "\"{}\"...", shown.escape_ascii()),
        Ok(()) => write!(line, "\"{}\"", shown.escape_ascii()),
        Err(_) => write!(line, "{at:#x}"),
    }
}

/// Writes a socket address of `len` bytes.
pub(super) fn write_address(line: &mut String, at: u64, len: u64) -> Result {
    let mut bytes = [0; MAX_ADDRESS_BYTES as usize];
    let bytes = &mut bytes[..len.min(MAX_ADDRESS_BYTES) as usize];
    match UserSlice::new(at, bytes.len()).try_read(bytes) {
        Ok(()) => address::write(line, bytes),
        Err(_) => write!(line, "{at:#x}"),
    }
}

/// Writes a `timespec`.
pub(super) fn write_timespec(line: &mut String, at: u64) -> Result {
    write_value(line, at, |line, [seconds, nanos]: [i64; 2]| write!(line, "{{{seconds}.{nanos:09}}}"))
}

fn write_value<T: UserAbi>(
    line: &mut String,
    at: u64,
    write: impl FnOnce(&mut String, T) -> Result,
) -> Result {
    match UserPtr::<T>::new(at).try_read() {
        Ok(value) => write(line, value),
        Err(_) => write!(line, "{at:#x}"),
    }
}

fn write_array<T: UserAbi>(
    line: &mut String,
    at: u64,
    count: u64,
    mut write: impl FnMut(&mut String, T) -> Result,
) -> Result {
    line.push('[');
    for index in 0..count.min(SHOWN_ELEMENTS) {
        line.push_str(if index > 0 { ", " } else { "" });
        let place = at.wrapping_add(index * size_of::<T>() as u64);
        write_value(line, place, &mut write)?;
    }
    line.push_str(if count > SHOWN_ELEMENTS { ", ...]" } else { "]" });
    Ok(())
}

fn write_event(line: &mut String, event: epoll_event) -> Result {
    let (events, data) = (event.events, event.data);
    line.push('{');
    flags::write_epoll_events(line, events)?;
    write!(line, ", {data:#x}}}")
}

fn write_poll_fd(line: &mut String, entry: pollfd) -> Result {
    write!(line, "{{{}, ", entry.fd)?;
    flags::write_poll_events(line, entry.events as u16)?;
    line.push_str(" => ");
    flags::write_poll_events(line, entry.revents as u16)?;
    line.write_char('}')
}

/// Writes an array of `iovec`s, with at most `filled` bytes of all in turn.
fn write_vector(line: &mut String, at: u64, count: u64, mut filled: usize) -> Result {
    write_array(line, at, count, |line, [base, len]: [u64; 2]| {
        let shown = filled.min(len as usize);
        filled -= shown;
        write_bytes(line, base, shown as u64)
    })
}

/// Writes a `msghdr` (recv(2)): name and its length, vector and its count, control data, flags.
fn write_message(line: &mut String, at: u64, filled: usize) -> Result {
    write_value(line, at, |line, [name, name_len, vector, count, ..]: [u64; 7]| {
        line.push('{');
        if name != 0 {
            write_address(line, name, name_len & 0xffff_ffff)?;
            line.push_str(", ");
        }
        write_vector(line, vector, count, filled)?;
        line.write_char('}')
    })
}
