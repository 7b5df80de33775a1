//! Descriptors: reading, writing, pipes, time.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::run::{Answer, sys};
use super::{get, map};
use unikernel_hal::sim::app;

/// Memory of the app's that is unmapped when it goes.
pub(crate) struct Buffer {
    pub(crate) address: u64,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let buffer = Self::zeroed(bytes.len());
        app::write(buffer.address, bytes);
        buffer
    }

    pub(crate) fn zeroed(len: usize) -> Self {
        let len = len.max(1);
        Self { address: map(len), len }
    }

    pub(crate) fn bytes(&self, len: usize) -> Vec<u8> {
        get(self.address, len)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = sys(linux::__NR_munmap, &[self.address, self.len as u64]);
    }
}

/// write(2).
pub(crate) fn write(fd: u64, bytes: &[u8]) -> Answer<usize> {
    let buffer = Buffer::new(bytes);
    sys(linux::__NR_write, &[fd, buffer.address, bytes.len() as u64]).map(|count| count as usize)
}

/// read(2).
pub(crate) fn read(fd: u64, most: usize) -> Answer<Vec<u8>> {
    let buffer = Buffer::zeroed(most);
    let count = sys(linux::__NR_read, &[fd, buffer.address, most as u64])?;
    Ok(buffer.bytes(count as usize))
}

/// Reads until the end.
pub(crate) fn read_to_end(fd: u64) -> Answer<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read(fd, 16 << 10)?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

/// Writes all of it.
pub(crate) fn write_all(fd: u64, mut bytes: &[u8]) -> Answer<()> {
    while !bytes.is_empty() {
        let count = write(fd, &bytes[..bytes.len().min(64 << 10)])?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// close(2), which succeeds.
pub(crate) fn close(fd: u64) {
    assert_eq!(sys(linux::__NR_close, &[fd]), Ok(0));
}

/// pipe2(2): where it is read, and where it is written.
pub(crate) fn pipe(flags: u32) -> (u64, u64) {
    let ends = Buffer::zeroed(8);
    assert_eq!(sys(linux::__NR_pipe2, &[ends.address, flags.into()]), Ok(0));
    two(&ends)
}

/// Two descriptors that a call has left.
pub(crate) fn two(ends: &Buffer) -> (u64, u64) {
    let bytes = ends.bytes(8);
    (int(&bytes[..4]) as u64, int(&bytes[4..]) as u64)
}

/// An `int` of the app's.
pub(crate) fn int(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes(bytes[..4].try_into().expect("four bytes"))
}

/// Sets `O_NONBLOCK`, or clears it.
pub(crate) fn set_nonblocking(fd: u64, is_on: bool) {
    let flags = if is_on { linux::O_NONBLOCK } else { 0 };
    assert_eq!(sys(linux::__NR_fcntl, &[fd, linux::F_SETFL.into(), flags.into()]), Ok(0));
}

/// A `struct timespec`.
pub(crate) fn timespec(ns: u64) -> Vec<u8> {
    words(&[ns / 1_000_000_000, ns % 1_000_000_000])
}

/// Words as the app's memory has them.
pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// nanosleep(2) of milliseconds.
pub(crate) fn sleep_ms(ms: u64) {
    let time = Buffer::new(&timespec(ms * 1_000_000));
    assert_eq!(sys(linux::__NR_nanosleep, &[time.address, 0]), Ok(0));
}

/// `CLOCK_MONOTONIC` in milliseconds.
pub(crate) fn now_ms() -> u64 {
    now_ns(linux::CLOCK_MONOTONIC) / 1_000_000
}

/// A clock in nanoseconds.
pub(crate) fn now_ns(clock: u32) -> u64 {
    let time = Buffer::zeroed(16);
    assert_eq!(sys(linux::__NR_clock_gettime, &[clock.into(), time.address]), Ok(0));
    let bytes = time.bytes(16);
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    word(0) * 1_000_000_000 + word(8)
}
