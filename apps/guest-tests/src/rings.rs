//! What several tests of io_uring(7) share: entries in, completions out.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

/// The result of a request that was ended.
pub const ECANCELED: i32 = -libc::ECANCELED;
/// The result of a time-out.
pub const ETIME: i32 = -libc::ETIME;

/// A ring with so many entries.
pub fn ring(entries: u32) -> IoUring {
    IoUring::new(entries).unwrap()
}

/// Puts an entry into the queue.
pub fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: what the entries of this program point to lives until their completions.
    unsafe { ring.submission().push(entry) }.unwrap();
}

/// Submits and waits for `count` completions: (user data, result, flags) in their order.
pub fn complete(ring: &mut IoUring, count: usize) -> Vec<(u64, i32, u32)> {
    let mut all = Vec::new();
    while all.len() < count {
        let limit = Timespec::new().sec(10);
        let args = SubmitArgs::new().timespec(&limit);
        ring.submitter().submit_with_args(1, &args).expect("a completion within ten seconds");
        all.extend(ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// The same, without flags and sorted by user data.
pub fn results(ring: &mut IoUring, count: usize) -> Vec<(u64, i32)> {
    let mut all: Vec<_> = complete(ring, count).into_iter().map(|(data, result, _)| (data, result)).collect();
    all.sort_unstable();
    all
}

/// Submits one entry; answers its result.
pub fn one(ring: &mut IoUring, entry: &squeue::Entry) -> i32 {
    push(ring, entry);
    complete(ring, 1)[0].1
}

/// A pipe: where it is read, where it is written.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe().unwrap()
}

/// The descriptor as entries take it.
pub fn fd(file: &impl AsRawFd) -> Fd {
    Fd(file.as_raw_fd())
}

/// A read(2).
pub fn read(file: &impl AsRawFd, buffer: &mut [u8]) -> squeue::Entry {
    opcode::Read::new(fd(file), buffer.as_mut_ptr(), buffer.len() as u32).offset(u64::MAX).build()
}

/// A write(2).
pub fn write(file: &impl AsRawFd, bytes: &[u8]) -> squeue::Entry {
    opcode::Write::new(fd(file), bytes.as_ptr(), bytes.len() as u32).offset(u64::MAX).build()
}

/// A while in which other threads get on.
pub fn nap() {
    thread::sleep(Duration::from_millis(30));
}
