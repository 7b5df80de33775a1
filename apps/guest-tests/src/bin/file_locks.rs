//! Locks on files, and copies from file to file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use guest_tests::{check, check_eq};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

fn main() {
    let path = format!("/tmp/guest-test-locks-{}", std::process::id());
    fs::write(&path, b"0123456789").unwrap();
    let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
    whole_files(&open);
    waiting(&open);
    ranges(&open);
    sendfile(&open);
    fs::remove_file(&path).unwrap();
}

fn whole_files(open: &dyn Fn() -> File) {
    let (first, second, third) = (open(), open(), open());
    check_eq!(rustix::fs::flock(&first, FlockOperation::LockShared), Ok(()));
    check_eq!(rustix::fs::flock(&second, FlockOperation::NonBlockingLockShared), Ok(()));
    check_eq!(rustix::fs::flock(&third, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    check_eq!(rustix::fs::flock(&first, FlockOperation::Unlock), Ok(()));
    // A second descriptor is the same open file, so closing one of them keeps the lock.
    drop(second.try_clone().unwrap());
    check_eq!(rustix::fs::flock(&third, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    drop(second);
    check_eq!(rustix::fs::flock(&third, FlockOperation::NonBlockingLockExclusive), Ok(()));
}

fn waiting(open: &dyn Fn() -> File) {
    let (holder, waiter) = (open(), open());
    rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        rustix::fs::flock(&waiter, FlockOperation::LockExclusive).unwrap();
        sender.send(()).unwrap();
    });
    check!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
    drop(holder);
    check_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(()));
    thread.join().unwrap();
}

fn control(file: &File, command: i32, kind: i32, start: i64, len: i64) -> io::Result<libc::flock> {
    // SAFETY: any bytes are a `flock`, and the call gets a whole one.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (kind as _, start, len);
    // SAFETY: as above.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        0 => Ok(lock),
        _ => Err(io::Error::last_os_error()),
    }
}

fn ranges(open: &dyn Fn() -> File) {
    let (first, second) = (open(), open());
    let set = |file: &File, kind, start, len| {
        control(file, libc::F_OFD_SETLK, kind, start, len).map_err(|error| error.raw_os_error())
    };
    check!(set(&first, libc::F_WRLCK, 10, 10).is_ok());
    check!(set(&second, libc::F_WRLCK, 0, 10).is_ok());
    check_eq!(set(&second, libc::F_RDLCK, 19, 0).err(), Some(Some(libc::EAGAIN)));
    check!(set(&first, libc::F_UNLCK, 15, 0).is_ok());
    check!(set(&second, libc::F_RDLCK, 19, 0).is_ok());
    let seen = control(&first, libc::F_OFD_GETLK, libc::F_WRLCK, 0, 0).unwrap();
    check_eq!((i32::from(seen.l_type), seen.l_start, seen.l_len, seen.l_pid), (libc::F_WRLCK, 0, 10, -1));
    let seen = control(&first, libc::F_OFD_GETLK, libc::F_RDLCK, 15, 0).unwrap();
    check_eq!(i32::from(seen.l_type), libc::F_UNLCK);
    // The process's own locks are in the way of those, but not of each other.
    check_eq!(
        control(&first, libc::F_SETLK, libc::F_WRLCK, 0, 5).unwrap_err().raw_os_error(),
        Some(libc::EAGAIN)
    );
    drop(second);
    check!(control(&first, libc::F_SETLK, libc::F_WRLCK, 0, 5).is_ok());
    check!(control(&open(), libc::F_SETLK, libc::F_WRLCK, 0, 5).is_ok());
    // Up to the last byte that there can be, which is "to the end".
    let (first, second) = (open(), open());
    check!(set(&first, libc::F_RDLCK, 1 << 62, (i64::MAX - (1 << 62)) + 1).is_ok());
    let seen = control(&second, libc::F_OFD_GETLK, libc::F_WRLCK, i64::MAX, 1).unwrap();
    check_eq!((i32::from(seen.l_type), seen.l_start, seen.l_len), (libc::F_RDLCK, 1 << 62, 0));
    check_eq!(set(&first, libc::F_RDLCK, 2, i64::MAX).err(), Some(Some(libc::EOVERFLOW)));
}

fn sendfile(open: &dyn Fn() -> File) {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut source = open();
    let mut offset = 4;
    check_eq!(rustix::fs::sendfile(&writer, &source, Some(&mut offset), 3), Ok(3));
    check_eq!(offset, 7);
    check_eq!(rustix::fs::sendfile(&writer, &source, None, 100), Ok(10));
    check_eq!(source.stream_position().unwrap(), 10);
    let mut bytes = [0; 13];
    reader.read_exact(&mut bytes).unwrap();
    check_eq!(&bytes, b"4560123456789");
    let mut other =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open("/tmp/copy").unwrap();
    other.write_all(b"--").unwrap();
    source.seek(SeekFrom::Start(8)).unwrap();
    check_eq!(rustix::fs::copy_file_range(&source, None, &other, None, 100), Ok(2));
    check_eq!(fs::read("/tmp/copy").unwrap(), b"--89");
    fs::remove_file("/tmp/copy").unwrap();
}
