//! A queue of this test, by raw calls.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use guest_tests::{check, check_eq, raw_syscall};

pub(crate) const CREATE: i32 = libc::O_CREAT;
pub(crate) const READ_WRITE: i32 = libc::O_RDWR;
pub(crate) const NONBLOCK: i32 = libc::O_NONBLOCK;

/// Flags, most messages, bytes of each, messages, reserved.
pub(crate) type Attributes = [i64; 8];

/// A raw call; the error number is negative.
pub(crate) fn call(number: libc::c_long, args: [u64; 5]) -> i64 {
    raw_syscall(number, [args[0], args[1], args[2], args[3], args[4], 0])
}

pub(crate) fn refused(error: i32) -> i64 {
    -i64::from(error)
}

pub(crate) fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).addr() as u64
}

/// A name of this run's own.
pub(crate) fn name(what: &str) -> Vec<u8> {
    format!("guest-tests-{}-{what}\0", std::process::id()).into_bytes()
}

pub(crate) fn attributes(messages: i64, bytes: i64) -> Attributes {
    [0, messages, bytes, 0, 0, 0, 0, 0]
}

pub(crate) fn try_open(name: &[u8], flags: i32, wanted: Option<&Attributes>) -> i64 {
    call(libc::SYS_mq_open, [address(name), flags as u64, 0o600, wanted.map_or(0, address), 0])
}

pub(crate) fn unlink(name: &[u8]) -> i64 {
    call(libc::SYS_mq_unlink, [address(name), 0, 0, 0, 0])
}

/// A queue, whose name is gone with it.
pub(crate) struct Queue {
    pub(crate) fd: OwnedFd,
    pub(crate) name: Vec<u8>,
}

impl Queue {
    pub(crate) fn new(what: &str, messages: i64, bytes: i64, flags: i32) -> Self {
        let name = name(what);
        let flags = CREATE | libc::O_EXCL | READ_WRITE | flags;
        Self { fd: owned(try_open(&name, flags, Some(&attributes(messages, bytes)))), name }
    }

    pub(crate) fn send(&self, message: &[u8], priority: u64) -> i64 {
        send_by(self.number(), message, priority, None)
    }

    /// The message and its priority.
    pub(crate) fn receive(&self) -> Result<(Vec<u8>, u32), i64> {
        receive_by(self.number(), 64, None)
    }

    pub(crate) fn number(&self) -> u64 {
        self.fd.as_raw_fd() as u64
    }

    pub(crate) fn attributes(&self) -> Attributes {
        let mut found = [-1; 8];
        let into = found.as_mut_ptr().addr() as u64;
        check_eq!(call(libc::SYS_mq_getsetattr, [self.number(), 0, into, 0, 0]), 0);
        found
    }

    pub(crate) fn notify(&self, event: Option<&[u32; 16]>) -> i64 {
        call(libc::SYS_mq_notify, [self.number(), event.map_or(0, address), 0, 0, 0])
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        unlink(&self.name);
    }
}

pub(crate) fn owned(fd: i64) -> OwnedFd {
    check!(fd >= 0);
    // SAFETY: the call has made it just now.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

pub(crate) fn send_by(queue: u64, message: &[u8], priority: u64, deadline: Option<&[i64; 2]>) -> i64 {
    let deadline = deadline.map_or(0, address);
    call(libc::SYS_mq_timedsend, [queue, address(message), message.len() as u64, priority, deadline])
}

pub(crate) fn receive_by(
    queue: u64,
    room: usize,
    deadline: Option<&[i64; 2]>,
) -> Result<(Vec<u8>, u32), i64> {
    let (mut bytes, mut priority) = (vec![0_u8; room], u32::MAX);
    let priority_place = (&raw mut priority).addr() as u64;
    let into = bytes.as_mut_ptr().addr() as u64;
    let deadline = deadline.map_or(0, address);
    let len = call(libc::SYS_mq_timedreceive, [queue, into, room as u64, priority_place, deadline]);
    bytes.truncate(usize::try_from(len).map_err(|_| len)?);
    Ok((bytes, priority))
}

/// A time so many milliseconds from now, on the clock of the day.
pub(crate) fn in_ms(milliseconds: i64) -> [i64; 2] {
    let since = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970");
    let nanos = since.as_nanos() as i64 + milliseconds * 1_000_000;
    [nanos / 1_000_000_000, nanos % 1_000_000_000]
}
