//! Calls on descriptors, files, clocks and the process.

use core::ffi::CStr;

use linux_raw_sys::general::*;

use super::raw::call;
use crate::Error;

/// An open descriptor, closed when dropped.
#[derive(Debug)]
pub(crate) struct Fd(i32);

impl Fd {
    /// Takes over a descriptor that a call has just made.
    pub(super) const fn new(number: usize) -> Self {
        Self(number as i32)
    }

    /// Its number, for calls.
    pub(crate) const fn number(&self) -> i32 {
        self.0
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the call has no pointers; the descriptor is ours, and nobody uses it any more.
        let _ = unsafe { call!(__NR_close, self.0) };
    }
}

/// read(2).
#[inline]
pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the kernel writes at most the buffer's length to it.
    unsafe { call!(__NR_read, fd, buffer.as_mut_ptr(), buffer.len()) }
}

/// write(2).
#[inline]
pub(crate) fn write(fd: i32, bytes: &[u8]) -> Result<usize, Error> {
    // SAFETY: the kernel reads the slice.
    unsafe { call!(__NR_write, fd, bytes.as_ptr(), bytes.len()) }
}

/// lseek(2).
pub(crate) fn seek(fd: i32, offset: i64, whence: u32) -> Result<usize, Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_lseek, fd, offset, whence) }
}

/// openat(2), relative to the working directory.
pub(crate) fn open(path: &CStr, flags: u32) -> Result<Fd, Error> {
    // SAFETY: the kernel reads the string up to its NUL.
    unsafe { call!(__NR_openat, AT_FDCWD, path.as_ptr(), flags | O_CLOEXEC, 0) }.map(Fd::new)
}

/// fstat(2).
pub(crate) fn status(fd: i32) -> Result<stat, Error> {
    // SAFETY: `stat` is made of integers, for which zero is a value.
    let mut status: stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one `stat`.
    unsafe { call!(__NR_fstat, fd, &raw mut status) }?;
    Ok(status)
}

/// getdents64(2).
pub(crate) fn directory_entries(fd: i32, buffer: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the kernel writes at most the buffer's length to it.
    unsafe { call!(__NR_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) }
}

/// epoll_create1(2).
pub(crate) fn epoll_create() -> Result<Fd, Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_epoll_create1, EPOLL_CLOEXEC) }.map(Fd::new)
}

/// epoll_ctl(2).
pub(crate) fn epoll_control(
    epoll: &Fd,
    operation: u32,
    fd: i32,
    events: u32,
    data: u64,
) -> Result<(), Error> {
    let event = epoll_event { events, data };
    // SAFETY: the kernel reads one `epoll_event`.
    unsafe { call!(__NR_epoll_ctl, epoll.number(), operation, fd, &raw const event) }.map(drop)
}

/// epoll_wait(2); the time-out is in milliseconds, -1 for none.
#[inline]
pub(crate) fn epoll_wait(epoll: &Fd, events: &mut [epoll_event], timeout_ms: i32) -> Result<usize, Error> {
    // SAFETY: the kernel writes at most as many events as the slice has.
    unsafe { call!(__NR_epoll_wait, epoll.number(), events.as_mut_ptr(), events.len(), timeout_ms) }
}

/// clock_gettime(2), in nanoseconds.
pub(crate) fn clock_ns(clock: u32) -> u64 {
    let mut time = __kernel_timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`.
    let _ = unsafe { call!(__NR_clock_gettime, clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// nanosleep(2); answers what is left when a signal came.
pub(crate) fn sleep_ns(nanoseconds: u64) -> Result<(), Error> {
    let time = __kernel_timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as i64,
    };
    // SAFETY: the kernel reads one `timespec`; there is no second pointer.
    unsafe { call!(__NR_nanosleep, &raw const time, 0) }.map(drop)
}

/// sched_yield(2).
pub(crate) fn yield_now() {
    // SAFETY: no pointers.
    let _ = unsafe { call!(__NR_sched_yield) };
}

/// getrandom(2).
pub(crate) fn random(buffer: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the kernel writes at most the buffer's length to it.
    unsafe { call!(__NR_getrandom, buffer.as_mut_ptr(), buffer.len(), 0) }
}

/// exit_group(2).
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no pointers; the call does not return.
        let _ = unsafe { call!(__NR_exit_group, code) };
    }
}
