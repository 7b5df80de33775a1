//! Descriptors of the process and of its threads (pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)): whom they
//! stand for, when they become readable, and what is refused.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq, raw_syscall};

const THREAD: u64 = libc::O_EXCL as u64;
const NONBLOCK: u64 = libc::O_NONBLOCK as u64;

/// A raw call; the error number is negative.
fn call(number: libc::c_long, args: [u64; 4]) -> i64 {
    raw_syscall(number, [args[0], args[1], args[2], args[3], 0, 0])
}

fn refused(error: i32) -> i64 {
    -i64::from(error)
}

fn pidfd_open(id: i32, flags: u64) -> i64 {
    call(libc::SYS_pidfd_open, [id as u64, flags, 0, 0])
}

fn opened(result: i64) -> OwnedFd {
    check!(result >= 0);
    // SAFETY: the call has made it just now.
    unsafe { OwnedFd::from_raw_fd(result as RawFd) }
}

fn send(pidfd: RawFd, signal: i32, info: u64, flags: u64) -> i64 {
    call(libc::SYS_pidfd_send_signal, [pidfd as u64, signal as u64, info, flags])
}

fn getfd(pidfd: RawFd, target: RawFd, flags: u64) -> i64 {
    call(libc::SYS_pidfd_getfd, [pidfd as u64, target as u64, flags, 0])
}

/// The events that poll(2) finds.
fn poll(fd: RawFd, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which lives during the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, timeout_ms) };
    check_eq!(count, i32::from(entry.revents != 0));
    entry.revents
}

/// A thread that waits until it is told to end; its id, and the way to tell.
fn sleeper() -> (i32, mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (tell_id, id) = mpsc::channel();
    let (end, told) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        // SAFETY: no arguments.
        tell_id.send(unsafe { libc::gettid() }).expect("somebody waits");
        let _ = told.recv();
    });
    (id.recv().expect("it says so first"), end, thread)
}

fn main() {
    let process = std::process::id() as i32;
    let own = opened(pidfd_open(process, 0));
    what_is_opened(process, &own);
    signals(process, &own);
    descriptors(&own);
    waiting(&own);
    ends_of_threads();
    many_of_one_thread();
}

fn what_is_opened(process: i32, own: &OwnedFd) {
    for (id, flags, error) in [
        (process, 1, libc::EINVAL),
        (0, 0, libc::EINVAL),
        (-1, 0, libc::EINVAL),
        (i32::MAX, 0, libc::ESRCH),
        (i32::MAX, THREAD, libc::ESRCH),
    ] {
        check_eq!(pidfd_open(id, flags), refused(error));
    }
    let (id, _end, _thread) = sleeper();
    // Linux before 6.15 said EINVAL.
    let answer = pidfd_open(id, 0);
    check!(answer == refused(libc::ENOENT) || answer == refused(libc::EINVAL));
    let thread = opened(pidfd_open(id, THREAD));
    let eager = opened(pidfd_open(process, NONBLOCK));
    // SAFETY: fcntl with these commands takes no pointer.
    let flags = |fd: &OwnedFd, command| unsafe { libc::fcntl(fd.as_raw_fd(), command) };
    check_eq!(flags(own, libc::F_GETFD), libc::FD_CLOEXEC);
    check_eq!(flags(own, libc::F_GETFL), libc::O_RDWR);
    check_eq!(flags(&eager, libc::F_GETFL), libc::O_RDWR | libc::O_NONBLOCK);
    check_eq!(flags(&thread, libc::F_GETFL), libc::O_RDWR | libc::O_EXCL);
    let mut byte = [0_u8];
    let buffer = byte.as_mut_ptr().addr() as u64;
    check_eq!(call(libc::SYS_read, [own.as_raw_fd() as u64, buffer, 1, 0]), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_write, [own.as_raw_fd() as u64, buffer, 1, 0]), refused(libc::EINVAL));
    for (fd, id) in [(own, process), (&thread, id)] {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("it is open");
        check!(text.lines().any(|line| line == format!("Pid:\t{id}")));
        check!(text.starts_with("pos:\t0\nflags:\t02"));
    }
    check!(fs::File::open("/proc/self/fdinfo/9999").is_err());
}

static TAKEN_BY: AtomicI32 = AtomicI32::new(0);
static VALUE: AtomicU64 = AtomicU64::new(0);

extern "C" fn handler(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole structure; gettid takes nothing.
    unsafe {
        VALUE.store((*info).si_value().sival_ptr.addr() as u64, Ordering::SeqCst);
        TAKEN_BY.store(libc::gettid(), Ordering::SeqCst);
    }
}

/// A `siginfo_t` with a number, a code, and a value.
fn info(signal: i32, code: i32, value: u64) -> [u64; 16] {
    let mut words = [0; 16];
    (words[0], words[1], words[3]) = (signal as u64, u64::from(code as u32), value);
    words
}

fn signals(process: i32, own: &OwnedFd) {
    let own = own.as_raw_fd();
    // SAFETY: an all-zero structure is a valid start; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        check_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    check_eq!(send(own, 0, 0, 0), 0);
    check_eq!(send(own, libc::SIGUSR1, 0, 0), 0);
    check_eq!(TAKEN_BY.swap(0, Ordering::SeqCst), process);
    for (fd, signal, flags, error) in [
        (own, 65, 0, libc::EINVAL),
        (own, -1, 0, libc::EINVAL),
        (own, 0, 3, libc::EINVAL),
        (own, 0, 8, libc::EINVAL),
        (0, 0, 0, libc::EBADF),
        (9999, 0, 0, libc::EBADF),
    ] {
        check_eq!(send(fd, signal, 0, flags), refused(error));
    }
    let queued = info(libc::SIGUSR1, libc::SI_QUEUE, 77);
    let pointer = queued.as_ptr().addr() as u64;
    check_eq!(send(own, libc::SIGUSR2, pointer, 0), refused(libc::EINVAL));
    check_eq!(send(own, 0, 8, 0), refused(libc::EFAULT));
    check_eq!(send(own, libc::SIGUSR1, pointer, 0), 0);
    check_eq!(VALUE.load(Ordering::SeqCst), 77);

    let (id, end, thread) = sleeper();
    let pidfd = opened(pidfd_open(id, THREAD));
    TAKEN_BY.store(0, Ordering::SeqCst);
    check_eq!(send(pidfd.as_raw_fd(), libc::SIGUSR1, 0, 0), 0);
    while TAKEN_BY.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    check_eq!(TAKEN_BY.load(Ordering::SeqCst), id);
    let forged = info(libc::SIGUSR1, 0, 0);
    check_eq!(send(pidfd.as_raw_fd(), libc::SIGUSR1, forged.as_ptr().addr() as u64, 0), refused(libc::EPERM));
    end.send(()).expect("it waits");
    thread.join().expect("it does not panic");
    check!(poll(pidfd.as_raw_fd(), 5000) & libc::POLLIN != 0);
    check_eq!(send(pidfd.as_raw_fd(), 0, 0, 0), refused(libc::ESRCH));
    check_eq!(getfd(pidfd.as_raw_fd(), 0, 0), refused(libc::ESRCH));
    check_eq!(pidfd_open(id, THREAD), refused(libc::ESRCH));
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("it is open");
    check!(text.contains("Pid:\t-1\n"));

    let directory = fs::File::open("/proc/self").expect("it is there");
    check_eq!(send(directory.as_raw_fd(), 0, 0, 0), 0);
    check_eq!(getfd(directory.as_raw_fd(), 0, 0), refused(libc::EBADF));
}

/// What pidfd_getfd(2) gives shares the offset, as dup(2) does.
fn descriptors(own: &OwnedFd) {
    let own = own.as_raw_fd();
    let path = std::env::temp_dir().join(format!("pidfds-{}", std::process::id()));
    fs::write(&path, b"hello").expect("there is room");
    let file = opened(
        fs::File::open(&path).map(|file| i64::from(std::os::fd::IntoRawFd::into_raw_fd(file))).unwrap_or(-1),
    );
    let twin = opened(getfd(own, file.as_raw_fd(), 0));
    // SAFETY: no pointers but the buffer, which lives.
    unsafe {
        check_eq!(libc::fcntl(twin.as_raw_fd(), libc::F_GETFD), libc::FD_CLOEXEC);
        let mut bytes = [0_u8; 2];
        check_eq!(libc::read(file.as_raw_fd(), bytes.as_mut_ptr().cast(), 2), 2);
        check_eq!(libc::lseek(twin.as_raw_fd(), 0, libc::SEEK_CUR), 2);
    }
    let _ = fs::remove_file(&path);
    check_eq!(getfd(own, file.as_raw_fd(), 1), refused(libc::EINVAL));
    check_eq!(getfd(own, 9999, 0), refused(libc::EBADF));
    check_eq!(getfd(file.as_raw_fd(), 0, 0), refused(libc::EBADF));
}

fn waiting(own: &OwnedFd) {
    let waitid = |fd: i32, options: i32| {
        let mut info = [0_u64; 16];
        let info = info.as_mut_ptr().addr() as u64;
        call(libc::SYS_waitid, [u64::from(libc::P_PIDFD), fd as u64, info, options as u64])
    };
    check_eq!(waitid(own.as_raw_fd(), libc::WEXITED), refused(libc::ECHILD));
    check_eq!(waitid(0, libc::WEXITED), refused(libc::EBADF));
    check_eq!(waitid(-1, libc::WEXITED), refused(libc::EINVAL));
    check_eq!(waitid(own.as_raw_fd(), 0), refused(libc::EINVAL));
    check_eq!(poll(own.as_raw_fd(), 0), 0);
}

/// An epoll instance and a sleeping `poll` hear of the end.
fn ends_of_threads() {
    let (id, end, thread) = sleeper();
    let pidfd = opened(pidfd_open(id, THREAD));
    check_eq!(poll(pidfd.as_raw_fd(), 0), 0);
    // SAFETY: descriptors of our own, structures that live during the calls.
    let epoll = unsafe {
        let epoll = opened(i64::from(libc::epoll_create1(0)));
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 5 };
        check_eq!(
            libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, pidfd.as_raw_fd(), &raw mut event),
            0
        );
        epoll
    };
    let fd = pidfd.as_raw_fd();
    let poller = thread::spawn(move || poll(fd, 10_000));
    thread::sleep(Duration::from_millis(20));
    end.send(()).expect("it waits");
    check!(poller.join().expect("it does not panic") & libc::POLLIN != 0);
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 10_000) };
    let (events, data) = (event.events, event.u64);
    check_eq!((count, data), (1, 5));
    check!(events & libc::EPOLLIN as u32 != 0);
    thread.join().expect("it does not panic");
}

/// Threads end while their descriptors are made: each descriptor that there is becomes readable.
fn many_of_one_thread() {
    for _ in 0..50 {
        let (id, end, thread) = sleeper();
        let mut last = opened(pidfd_open(id, THREAD));
        let opener = thread::spawn(move || {
            loop {
                match pidfd_open(id, THREAD) {
                    answer if answer == refused(libc::ESRCH) => return last,
                    answer => last = opened(answer),
                }
            }
        });
        thread::sleep(Duration::from_micros(300));
        end.send(()).expect("it waits");
        let last = opener.join().expect("it does not panic");
        check!(poll(last.as_raw_fd(), 10_000) & libc::POLLIN != 0);
        thread.join().expect("it does not panic");
    }
}
