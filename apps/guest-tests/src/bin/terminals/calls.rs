//! The calls, with what they refuse; reads that wait for all that is expected.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq, errno};

pub(crate) const TIOCGPTPEER: libc::Ioctl = 0x5441;
pub(crate) const TIOCGPTLCK: libc::Ioctl = 0x8004_5439_u32 as libc::Ioctl;
pub(crate) const TIOCPKT: libc::Ioctl = 0x5420;

/// Signals seen, by number.
pub(crate) static SEEN: [AtomicI32; 65] = [const { AtomicI32::new(0) }; 65];

pub(crate) extern "C" fn note(signal: i32) {
    SEEN[signal as usize].fetch_add(1, Ordering::SeqCst);
}

pub(crate) fn seen(signal: i32) -> i32 {
    SEEN[signal as usize].load(Ordering::SeqCst)
}

/// Waits until a signal was seen so often.
pub(crate) fn await_signal(signal: i32, count: i32) {
    let end = Instant::now() + Duration::from_secs(10);
    while seen(signal) < count && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    check_eq!(seen(signal), count);
}

pub(crate) fn open(path: &str, flags: i32) -> Result<OwnedFd, i32> {
    let path = CString::new(path).expect("no NUL in it");
    // SAFETY: a string that lives; the descriptor is new.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags);
        if fd < 0 { Err(errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// An ioctl(2) with a pointer to `value`.
pub(crate) fn control<T>(fd: &OwnedFd, request: libc::Ioctl, value: &mut T) -> i32 {
    // SAFETY: callers give the type that the request is for.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(value)) };
    if result < 0 { -errno() } else { result }
}

/// An ioctl(2) with a number.
pub(crate) fn control_by(fd: &OwnedFd, request: libc::Ioctl, value: libc::c_long) -> i32 {
    // SAFETY: such requests take no pointer.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, value) };
    if result < 0 { -errno() } else { result }
}

pub(crate) fn ask(fd: &OwnedFd, request: libc::Ioctl) -> i32 {
    let mut value = -1;
    check_eq!(control(fd, request, &mut value), 0);
    value
}

fn poll_for(fd: &OwnedFd, events: i16, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut entry, 1, timeout_ms) };
    entry.revents
}

/// What a terminal is ready for.
pub(crate) fn poll(fd: &OwnedFd) -> i16 {
    poll_for(fd, libc::POLLIN | libc::POLLOUT | libc::POLLPRI, 0)
}

/// Waits until output is held.
pub(crate) fn await_hold(slave: &OwnedFd) {
    let end = Instant::now() + Duration::from_secs(10);
    while poll(slave) & libc::POLLOUT != 0 && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    check_eq!(poll(slave), 0);
}

/// Waits until one of these events is there.
pub(crate) fn await_event(fd: &OwnedFd, events: i16) {
    check!(poll_for(fd, events, 10_000) & events != 0);
}

pub(crate) fn read_some(fd: &OwnedFd, count: usize) -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0; count];
    // SAFETY: the buffer has that length.
    let got = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), count) };
    if got < 0 {
        return Err(errno());
    }
    bytes.truncate(got as usize);
    Ok(bytes)
}

pub(crate) fn write(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, i32> {
    // SAFETY: the buffer has that length.
    let got = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if got < 0 { Err(errno()) } else { Ok(got as usize) }
}

/// Writes all of it.
pub(crate) fn put(fd: &OwnedFd, bytes: &[u8]) {
    check_eq!(write(fd, bytes), Ok(bytes.len()));
}

/// Waits until all of this was read, and no more.
pub(crate) fn expect(fd: &OwnedFd, wanted: &[u8]) {
    let mut got = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while got.len() < wanted.len() && Instant::now() < end {
        match read_some(fd, 4096) {
            Ok(bytes) => got.extend(bytes),
            Err(error) => check_eq!(error, libc::EAGAIN),
        }
        thread::sleep(Duration::from_millis(1));
    }
    check_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(wanted));
}

/// What comes within a moment, where something else came before.
pub(crate) fn expect_nothing(fd: &OwnedFd) {
    thread::sleep(Duration::from_millis(20));
    check_eq!(read_some(fd, 4096), Err(libc::EAGAIN));
}

/// Reads what was echoed meanwhile.
pub(crate) fn drain(fd: &OwnedFd) {
    thread::sleep(Duration::from_millis(60));
    while read_some(fd, 4096).is_ok() {}
}

pub(crate) fn settings(fd: &OwnedFd) -> libc::termios {
    // SAFETY: an all-zero structure is a place to write to.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        check_eq!(libc::tcgetattr(fd.as_raw_fd(), &raw mut settings), 0);
        settings
    }
}

pub(crate) fn set(fd: &OwnedFd, change: impl FnOnce(&mut libc::termios)) {
    let mut new = settings(fd);
    change(&mut new);
    // SAFETY: a whole structure.
    check_eq!(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const new) }, 0);
}

/// Bytes are read as they come, as a time-out and a number ask for.
pub(crate) fn make_raw(fd: &OwnedFd, minimum: u8, tenths: u8) {
    set(fd, |new| {
        // SAFETY: a whole structure.
        unsafe { libc::cfmakeraw(&raw mut *new) };
        (new.c_cc[libc::VMIN], new.c_cc[libc::VTIME]) = (minimum, tenths);
    });
}

pub(crate) struct Pair {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
    pub(crate) path: String,
}

pub(crate) const NEW: i32 = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;

pub(crate) fn master() -> (OwnedFd, String) {
    let master = open("/dev/ptmx", NEW).expect("there is one for everybody");
    let path = format!("/dev/pts/{}", ask(&master, libc::TIOCGPTN));
    (master, path)
}

/// Both ends, which do not wait.
pub(crate) fn pair() -> Pair {
    let (master, path) = master();
    check_eq!(control(&master, libc::TIOCSPTLCK, &mut 0), 0);
    let slave = open(&path, NEW).expect("it is unlocked");
    Pair { master, slave, path }
}
