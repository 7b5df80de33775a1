//! Who is told of a message (mq_notify(3)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq};

use super::queue::{Queue, address, call, owned, refused, try_open};

/// What comes back by a socket.
const COOKIE_BYTES: usize = 32;
/// `si_code` of a signal that tells of a message.
const SI_MESGQ: i32 = -3;

/// A `sigevent`: value, signal or socket, how to notify.
fn event(value: u64, signal: u32, how: i32) -> [u32; 16] {
    let mut event = [0; 16];
    event[..4].copy_from_slice(&[value as u32, (value >> 32) as u32, signal, how as u32]);
    event
}

/// Takes a signal that is blocked, if it comes in time: its code and value.
fn take_signal(signal: i32, milliseconds: i64) -> Option<(i32, u64)> {
    // SAFETY: all structures live during the calls.
    unsafe {
        let (mut set, mut info): (libc::sigset_t, libc::siginfo_t) = std::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        let time = libc::timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
        let taken = libc::sigtimedwait(&raw const set, &raw mut info, &raw const time);
        (taken == signal).then(|| (info.si_code, info.si_value().sival_ptr.addr() as u64))
    }
}

/// The signal that messages are told by.
fn signal() -> i32 {
    libc::SIGRTMIN() + 3
}

/// To be called before there are threads, which inherit it: the signal is the process's, and a thread that is done but not
/// gone yet (a scope does not wait for that) would take it and end the process.
pub(crate) fn block_signal() {
    // SAFETY: the set lives during the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, signal());
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

pub(crate) fn told_by_signal() {
    let signal = signal();
    let queue = Queue::new("signal", 4, 8, 0);
    let wanted = event(0x1234_5678_9ABC, signal as u32, libc::SIGEV_SIGNAL);
    check_eq!(queue.notify(Some(&event(0, 0, 3))), refused(libc::EINVAL));
    check_eq!(queue.notify(Some(&event(0, 65, libc::SIGEV_SIGNAL))), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_mq_notify, [0, 0, 0, 0, 0]), refused(libc::EBADF));
    check_eq!(call(libc::SYS_mq_notify, [queue.number(), 1, 0, 0, 0]), refused(libc::EFAULT));
    check_eq!(queue.notify(Some(&wanted)), 0);
    check_eq!(queue.notify(Some(&wanted)), refused(libc::EBUSY));
    check_eq!(queue.send(b"a", 0), 0);
    check_eq!(take_signal(signal, 500), Some((SI_MESGQ, 0x1234_5678_9ABC)));
    // Once, and only if the queue was empty.
    check_eq!(queue.notify(Some(&wanted)), 0);
    check_eq!(queue.send(b"b", 0), 0);
    check_eq!(take_signal(signal, 10), None);
    check!(queue.receive().is_ok() && queue.receive().is_ok());
    // A receiver that waits takes the message, and nobody is told.
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(queue.receive(), Ok((b"c".to_vec(), 0))));
        thread::sleep(Duration::from_millis(50));
        check_eq!(queue.send(b"c", 0), 0);
    });
    check_eq!(take_signal(signal, 10), None);
    check_eq!(queue.notify(Some(&wanted)), refused(libc::EBUSY));
    check_eq!(queue.notify(None), 0);
    check_eq!(queue.send(b"d", 0), 0);
    check_eq!(take_signal(signal, 10), None);
    check!(queue.receive().is_ok());
    // Who closes a descriptor of the queue is not told any more.
    check_eq!(queue.notify(Some(&event(0, 0, libc::SIGEV_NONE))), 0);
    check_eq!(queue.notify(Some(&wanted)), refused(libc::EBUSY));
    drop(owned(try_open(&queue.name, libc::O_RDONLY, None)));
    check_eq!(queue.notify(Some(&wanted)), 0);
}

/// How C libraries start a thread for a message: a netlink socket gets back what they gave.
pub(crate) fn told_by_socket() {
    const SIGEV_THREAD: i32 = 2;
    let queue = Queue::new("socket", 4, 8, 0);
    // SAFETY: the descriptor is new.
    let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)) };
    let cookie = [7_u8; COOKIE_BYTES];
    let wanted = event(address(&cookie), socket.as_raw_fd() as u32, SIGEV_THREAD);
    let received = || {
        let mut bytes = [0_u8; 100];
        let into = bytes.as_mut_ptr().cast();
        // SAFETY: the buffer is as long as that.
        let len = unsafe { libc::recv(socket.as_raw_fd(), into, bytes.len(), libc::MSG_WAITALL) };
        (len, bytes[0], bytes[COOKIE_BYTES - 1])
    };
    let other = event(address(&cookie), queue.number() as u32, SIGEV_THREAD);
    check_eq!(queue.notify(Some(&other)), refused(libc::ENOTSOCK));
    let other = event(1, socket.as_raw_fd() as u32, SIGEV_THREAD);
    check_eq!(queue.notify(Some(&other)), refused(libc::EFAULT));
    check_eq!(queue.notify(Some(&wanted)), 0);
    check_eq!(queue.send(b"a", 0), 0);
    check_eq!(received(), (COOKIE_BYTES as isize, 7, 1));
    check!(queue.receive().is_ok());
    check_eq!(queue.notify(Some(&wanted)), 0);
    check_eq!(queue.notify(None), 0);
    check_eq!(received(), (COOKIE_BYTES as isize, 7, 2));
}
