//! Message queues (mq_overview(7)): names and limits, order, waiting, readiness, and who is told of a message.

mod queue;
mod telling;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq};

use queue::{
    Attributes, CREATE, NONBLOCK, Queue, READ_WRITE, address, attributes, call, in_ms, name, owned,
    receive_by, refused, send_by, try_open, unlink,
};

fn main() {
    telling::block_signal();
    names();
    shapes();
    order_and_refusals();
    waiting();
    signals_end_waiting();
    readiness();
    telling::told_by_signal();
    telling::told_by_socket();
    limit();
}

fn names() {
    let absent = name("absent");
    check_eq!(try_open(&absent, READ_WRITE, None), refused(libc::ENOENT));
    check_eq!(unlink(&absent), refused(libc::ENOENT));
    let long = [b"x".repeat(256), vec![0]].concat();
    for (bad, error) in [
        (&b"\0"[..], libc::ENOENT),
        (b".\0", libc::EACCES),
        (b"..\0", libc::EACCES),
        (b"a/b\0", libc::EACCES),
        (b"/a\0", libc::EACCES),
        (&long, libc::ENAMETOOLONG),
    ] {
        check_eq!(try_open(bad, CREATE | READ_WRITE, None), refused(error));
        check_eq!(unlink(bad), refused(error));
    }
    let queue = Queue::new("names", 2, 16, 0);
    check_eq!(try_open(&queue.name, CREATE | libc::O_EXCL, None), refused(libc::EEXIST));
    check_eq!(try_open(&queue.name, 3, None), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_mq_open, [address(&queue.name[..]), 0, 0, 1, 0]), refused(libc::EFAULT));
    // Attributes matter only to a queue that is made.
    let other = owned(try_open(&queue.name, CREATE | libc::O_RDONLY, Some(&attributes(-1, 0))));
    // SAFETY: the descriptor is open.
    check_eq!(unsafe { libc::fcntl(other.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    check_eq!(queue.send(b"still there", 0), 0);
    check_eq!(unlink(&queue.name), 0);
    check_eq!(try_open(&queue.name, READ_WRITE, None), refused(libc::ENOENT));
    check_eq!(receive_by(other.as_raw_fd() as u64, 16, None), Ok((b"still there".to_vec(), 0)));
}

fn shapes() {
    let new = name("shapes");
    for (messages, bytes) in [(0, 8), (8, 0), (-1, 8), (8, -1), (i64::MAX, 8), (8, i64::MAX), (65_537, 1)] {
        let wanted = attributes(messages, bytes);
        check_eq!(try_open(&new, CREATE | READ_WRITE, Some(&wanted)), refused(libc::EINVAL));
    }
    check_eq!(try_open(&new, READ_WRITE, None), refused(libc::ENOENT));
    let queue = Queue { fd: owned(try_open(&new, CREATE | READ_WRITE | NONBLOCK, None)), name: new };
    check_eq!(queue.attributes(), [i64::from(NONBLOCK), 10, 8192, 0, 0, 0, 0, 0]);
    // Only O_NONBLOCK is set, the rest is not looked at.
    let set = |flags: i64| {
        let wanted: Attributes = [flags, 99, 99, 99, 0, 0, 0, 0];
        call(libc::SYS_mq_getsetattr, [queue.number(), address(&wanted), 0, 0, 0])
    };
    check_eq!(set(0), 0);
    check_eq!(queue.attributes()[..3], [0, 10, 8192]);
    check_eq!(set(i64::from(NONBLOCK | libc::O_APPEND)), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_mq_getsetattr, [0, 0, 0, 0, 0]), refused(libc::EBADF));
    check_eq!(call(libc::SYS_mq_getsetattr, [queue.number(), 0, 1, 0, 0]), refused(libc::EFAULT));
}

fn order_and_refusals() {
    let queue = Queue::new("order", 4, 8, NONBLOCK);
    for (message, priority) in [(&b"a"[..], 1), (b"", 32_767), (b"c", 1), (b"12345678", 2)] {
        check_eq!(queue.send(message, priority), 0);
    }
    check_eq!(queue.attributes()[3], 4);
    check_eq!(queue.send(b"e", 0), refused(libc::EAGAIN));
    check_eq!(queue.send(b"e", 32_768), refused(libc::EINVAL));
    check_eq!(queue.send(b"123456789", 0), refused(libc::EMSGSIZE));
    check_eq!(receive_by(queue.number(), 7, None), Err(refused(libc::EMSGSIZE)));
    check_eq!(read_text(&queue), "QSIZE:10         NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
    for expected in [(&b""[..], 32_767), (b"12345678", 2), (b"a", 1), (b"c", 1)] {
        check_eq!(queue.receive(), Ok((expected.0.to_vec(), expected.1)));
    }
    check_eq!(queue.receive(), Err(refused(libc::EAGAIN)));
    check_eq!(call(libc::SYS_mq_timedsend, [queue.number(), 1, 4, 0, 0]), refused(libc::EFAULT));
    let reader = owned(try_open(&queue.name, libc::O_RDONLY, None));
    let writer = owned(try_open(&queue.name, libc::O_WRONLY, None));
    check_eq!(send_by(reader.as_raw_fd() as u64, b"x", 0, None), refused(libc::EBADF));
    check_eq!(receive_by(writer.as_raw_fd() as u64, 8, None), Err(refused(libc::EBADF)));
    check_eq!(send_by(1, b"x", 0, None), refused(libc::EBADF));
    // SAFETY: one byte, which lives.
    check_eq!(unsafe { libc::write(queue.fd.as_raw_fd(), b"x".as_ptr().cast(), 1) }, -1);
    check_eq!(guest_tests::errno(), libc::EINVAL);
}

/// What the file shows.
fn read_text(queue: &Queue) -> String {
    let mut bytes = [0_u8; 100];
    // SAFETY: the buffer is as long as that.
    let len = unsafe { libc::pread(queue.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    String::from_utf8_lossy(&bytes[..usize::try_from(len).expect("it can be read")]).into_owned()
}

fn waiting() {
    let queue = Queue::new("waiting", 1, 8, 0);
    let (past, bad) = ([1, 0], [0, 1_000_000_000]);
    check_eq!(receive_by(queue.number(), 8, Some(&past)), Err(refused(libc::ETIMEDOUT)));
    check_eq!(receive_by(queue.number(), 8, Some(&in_ms(20))), Err(refused(libc::ETIMEDOUT)));
    // What can be done at once is, whatever the time; a time that is none is refused first.
    check_eq!(send_by(queue.number(), b"a", 0, Some(&past)), 0);
    check_eq!(send_by(queue.number(), b"b", 0, Some(&past)), refused(libc::ETIMEDOUT));
    check_eq!(send_by(queue.number(), b"b", 0, Some(&bad)), refused(libc::EINVAL));
    check_eq!(receive_by(u64::from(u32::MAX), 8, Some(&bad)), Err(refused(libc::EINVAL)));
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(queue.send(b"b", 3), 0));
        scope.spawn(|| check_eq!(send_by(queue.number(), b"c", 3, Some(&in_ms(60_000))), 0));
        thread::sleep(Duration::from_millis(20));
        check_eq!(queue.receive(), Ok((b"a".to_vec(), 0)));
        let mut rest = [queue.receive(), queue.receive()].map(|message| message.expect("it comes").0);
        rest.sort();
        check_eq!(rest, [b"b".to_vec(), b"c".to_vec()]);
    });
    const MESSAGES: usize = 100;
    let received = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while receive_by(queue.number(), 8, Some(&in_ms(60_000))) == Ok((b"m".to_vec(), 1)) {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..MESSAGES {
            check_eq!(queue.send(b"m", 1), 0);
        }
        for _ in 0..4 {
            check_eq!(queue.send(b"end", 0), 0);
        }
    });
    check_eq!(received.into_inner(), MESSAGES);
}

extern "C" fn nothing(_: i32) {}

fn handle(signal: i32, flags: i32) {
    // SAFETY: zeros are an empty mask; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        action.sa_flags = flags;
        check_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

fn signals_end_waiting() {
    let queue = Queue::new("signals", 1, 8, 0);
    for (flags, deadline, outcome) in [
        (0, None, Err(refused(libc::EINTR))),
        (0, Some(in_ms(60_000)), Err(refused(libc::EINTR))),
        (libc::SA_RESTART, None, Ok((b"x".to_vec(), 0))),
        (libc::SA_RESTART, Some(in_ms(60_000)), Ok((b"x".to_vec(), 0))),
    ] {
        handle(libc::SIGUSR1, flags);
        // SAFETY: no arguments.
        let waiter = unsafe { libc::pthread_self() } as usize;
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(20));
                // SAFETY: the thread waits for this one.
                check_eq!(unsafe { libc::pthread_kill(waiter as libc::pthread_t, libc::SIGUSR1) }, 0);
            });
            if flags == libc::SA_RESTART {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(60));
                    check_eq!(queue.send(b"x", 0), 0);
                });
            }
            check_eq!(receive_by(queue.number(), 8, deadline.as_ref()), outcome);
        });
    }
}

fn poll(fd: &OwnedFd, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which lives during the call.
    unsafe { libc::poll(&raw mut entry, 1, timeout_ms) };
    entry.revents
}

fn readiness() {
    let queue = Queue::new("readiness", 2, 8, NONBLOCK);
    check_eq!(poll(&queue.fd, 0), libc::POLLOUT);
    // SAFETY: the event lives during the calls; the descriptor is new.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(0)) };
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 7 };
    let mut found = || {
        // SAFETY: as above.
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 0) }
    };
    let mut interest = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 7 };
    let (instance, fd) = (epoll.as_raw_fd(), queue.fd.as_raw_fd());
    // SAFETY: as above.
    check_eq!(unsafe { libc::epoll_ctl(instance, libc::EPOLL_CTL_ADD, fd, &raw mut interest) }, 0);
    check_eq!(found(), 0);
    check_eq!(queue.send(b"a", 0), 0);
    check_eq!((found(), found()), (1, 0));
    check_eq!(poll(&queue.fd, 0), libc::POLLIN | libc::POLLOUT);
    check_eq!(queue.send(b"b", 0), 0);
    check_eq!((found(), found()), (1, 0));
    check_eq!(poll(&queue.fd, 0), libc::POLLIN);
    check!(queue.receive().is_ok() && queue.receive().is_ok());
    check_eq!(poll(&queue.fd, 0), libc::POLLOUT);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            check_eq!(queue.send(b"c", 0), 0);
        });
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives during the call.
        check_eq!(unsafe { libc::poll(&raw mut entry, 1, 60_000) }, 1);
    });
}

fn limit() {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives during the calls.
    unsafe { libc::getrlimit(libc::RLIMIT_MSGQUEUE, &raw mut before) };
    check_eq!(before.rlim_cur, 819_200);
    let set = |bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, ..before };
        // SAFETY: as above.
        check_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MSGQUEUE, &raw const limit) }, 0);
    };
    let (first, second) = (name("first"), name("second"));
    let wanted = attributes(1, 100);
    let try_new = |name: &[u8]| try_open(name, CREATE | READ_WRITE, Some(&wanted));
    // On Linux other programs of this user's may have queues, which count, too: the least limit is looked for.
    let (mut too_little, mut enough) = (0, before.rlim_cur);
    while enough - too_little > 1 {
        let middle = (too_little + enough) / 2;
        set(middle);
        match try_new(&first) {
            made if made >= 0 => {
                drop(Queue { fd: owned(made), name: first.clone() });
                enough = middle;
            }
            error => {
                check_eq!(error, refused(libc::EMFILE));
                too_little = middle;
            }
        }
    }
    // Content, a head, and a node for the one priority there can be at once.
    check!(enough >= 100 + 48 + 48);
    set(enough);
    let queue = Queue { fd: owned(try_new(&first)), name: first };
    check_eq!(try_new(&second), refused(libc::EMFILE));
    check_eq!(unlink(&second), refused(libc::ENOENT));
    // It counts until it is gone for good.
    check_eq!(unlink(&queue.name), 0);
    check_eq!(try_new(&second), refused(libc::EMFILE));
    drop(queue);
    drop(Queue { fd: owned(try_new(&second)), name: second });
    set(before.rlim_cur);
}
