//! What setrlimit(2) lowers is kept to: descriptors, files' sizes, memory, the stack, queued signals, threads, locked memory.
//! With `cpu`, uses up its processor time and is killed.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, mem, ptr, thread};

use guest_tests::{check, check_eq, errno, raw_syscall};
use libc::{c_int, c_void, rlimit};
use memory::{WRITE, map, unmap};

mod memory;

const PAGE: usize = 4096;
/// Signals that came, by number.
static SIGNALS: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = c_int;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("cpu") {
        processor_time();
    }
    rules();
    descriptors();
    let folder = std::env::var_os("DATA").map_or_else(std::env::temp_dir, Into::into);
    file_sizes(&folder);
    memory::address_space();
    memory::data();
    memory::stack();
    queued_signals();
    // Root is free of some, and may raise what was lowered.
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: values only.
        check_eq!(unsafe { libc::setuid(65_534) }, 0);
    }
    locked_memory();
    threads();
    hard_limits();
    println!("limits are kept");
}

fn get(resource: Resource) -> rlimit {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is our own.
    check_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit
}

/// 0, or the error number.
fn set(resource: Resource, soft: u64, hard: u64) -> c_int {
    let limit = rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the limit is our own.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 { 0 } else { errno() }
}

/// Runs something under a soft limit.
fn under(resource: Resource, soft: u64, work: impl FnOnce()) {
    let before = get(resource);
    check_eq!(set(resource, soft, before.rlim_max), 0);
    check_eq!(get(resource).rlim_cur, soft);
    work();
    check_eq!(set(resource, before.rlim_cur, before.rlim_max), 0);
}

fn came(signal: c_int) -> u32 {
    SIGNALS[signal as usize].swap(0, Ordering::Relaxed)
}

fn count_signals(signal: c_int) {
    extern "C" fn count(signal: c_int) {
        SIGNALS[signal as usize].fetch_add(1, Ordering::Relaxed);
    }
    let count: extern "C" fn(c_int) = count;
    // SAFETY: the handler only counts.
    check!(unsafe { libc::signal(signal, count as libc::sighandler_t) } != libc::SIG_ERR);
}

fn rules() {
    let files = get(libc::RLIMIT_NOFILE);
    check_eq!(set(16, 1, 1), libc::EINVAL);
    check_eq!(set(Resource::MAX, 1, 1), libc::EINVAL);
    check_eq!(set(libc::RLIMIT_NOFILE, 11, 10), libc::EINVAL);
    check_eq!(set(libc::RLIMIT_NOFILE, u64::MAX, u64::MAX), libc::EPERM);
    check_eq!(get(libc::RLIMIT_NOFILE).rlim_cur, files.rlim_cur);
    // prlimit(2) answers what was, and sets what is to be.
    let new = rlimit { rlim_cur: 100, rlim_max: files.rlim_max };
    let mut old = new;
    // SAFETY: both are our own.
    check_eq!(unsafe { libc::prlimit(libc::getpid(), libc::RLIMIT_NOFILE, &raw const new, &raw mut old) }, 0);
    check_eq!(old.rlim_cur, files.rlim_cur);
    check_eq!(get(libc::RLIMIT_NOFILE).rlim_cur, 100);
    check!(fs::read_to_string("/proc/self/limits").unwrap().contains("Max open files            100  "));
    check_eq!(set(libc::RLIMIT_NOFILE, files.rlim_cur, files.rlim_max), 0);
    // What has no effect on Linux, either, can be set.
    check_eq!(set(libc::RLIMIT_LOCKS, 5, get(libc::RLIMIT_LOCKS).rlim_max), 0);
    check_eq!(get(libc::RLIMIT_LOCKS).rlim_cur, 5);
}

fn descriptors() {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // SAFETY: values only.
    let high = unsafe { libc::fcntl(0, libc::F_DUPFD, 40) };
    check_eq!(high, 40);
    under(libc::RLIMIT_NOFILE, 20, || {
        let mut files = Vec::new();
        let error = loop {
            match File::open("/") {
                Ok(file) => files.push(file),
                Err(error) => break error.raw_os_error(),
            }
        };
        check_eq!(error, Some(libc::EMFILE));
        check_eq!(files.iter().map(AsRawFd::as_raw_fd).max(), Some(19));
        let mut two: [c_int; 2] = [-1; 2];
        let place = two.as_mut_ptr() as u64;
        let name = c"x".as_ptr() as u64;
        let listening = listener.as_raw_fd() as u64;
        let calls = [
            (libc::SYS_dup, [0; 6]),
            (libc::SYS_fcntl, [0, libc::F_DUPFD as u64, 5, 0, 0, 0]),
            (libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
            (libc::SYS_socketpair, [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, place, 0, 0]),
            (libc::SYS_accept4, [listening, 0, 0, 0, 0, 0]),
            (libc::SYS_pipe2, [place, 0, 0, 0, 0, 0]),
            (libc::SYS_eventfd2, [0; 6]),
            (libc::SYS_epoll_create1, [0; 6]),
            (libc::SYS_timerfd_create, [0; 6]),
            (libc::SYS_memfd_create, [name, 0, 0, 0, 0, 0]),
        ];
        for (number, arguments) in calls {
            check_eq!((number, raw_syscall(number, arguments)), (number, -i64::from(libc::EMFILE)));
        }
        let error = |number, arguments| -raw_syscall(number, arguments);
        check_eq!(error(libc::SYS_fcntl, [0, libc::F_DUPFD as u64, 20, 0, 0, 0]), i64::from(libc::EINVAL));
        check_eq!(error(libc::SYS_dup2, [0, 20, 0, 0, 0, 0]), i64::from(libc::EBADF));
        check_eq!(raw_syscall(libc::SYS_dup2, [0, 19, 0, 0, 0, 0]), 19);
        let polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 21];
        check_eq!(error(libc::SYS_poll, [polled.as_ptr() as u64, 21, 0, 0, 0, 0]), i64::from(libc::EINVAL));
        check_eq!(raw_syscall(libc::SYS_poll, [polled.as_ptr() as u64, 20, 0, 0, 0, 0]), 0);
        // What was open stays so, and descriptors that are sent are left out.
        check!(raw_syscall(libc::SYS_fcntl, [40, libc::F_GETFD as u64, 0, 0, 0, 0]) >= 0);
        let (flags, received) = receive_descriptor(&sender, &receiver);
        check_eq!(flags, libc::MSG_CTRUNC);
        check!(received.is_none());
        drop(files.pop());
        let (flags, received) = receive_descriptor(&sender, &receiver);
        check_eq!(flags, 0);
        check_eq!(received.unwrap().as_raw_fd(), 19);
    });
    check_eq!(raw_syscall(libc::SYS_close, [40, 0, 0, 0, 0, 0]), 0);
}

/// Sends a descriptor; answers the message's flags and what arrived.
fn receive_descriptor(from: &UnixDatagram, to: &UnixDatagram) -> (c_int, Option<OwnedFd>) {
    use std::os::fd::FromRawFd;
    let mut byte = [7_u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0_u64; 8];
    // SAFETY: the message names only what is here, and the buffer of control messages is large enough for one descriptor.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(from.as_raw_fd());
        check_eq!(libc::sendmsg(from.as_raw_fd(), &raw const message, 0), 1);
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        check_eq!(libc::recvmsg(to.as_raw_fd(), &raw mut message, 0), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_there = !header.is_null() && (*header).cmsg_len == libc::CMSG_LEN(4) as _;
        let received =
            is_there.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<c_int>().read_unaligned()));
        (message.msg_flags, received)
    }
}

fn file_sizes(folder: &Path) {
    const LIMIT: u64 = 10_000;
    count_signals(libc::SIGXFSZ);
    let path = folder.join(format!("limits-{}", std::process::id()));
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let mut file = open();
    file.set_len(50_000).unwrap();
    under(libc::RLIMIT_FSIZE, LIMIT, || {
        let error = |result: std::io::Result<usize>| result.map_err(|error| error.raw_os_error());
        let too_big = Err(Some(libc::EFBIG));
        let bytes = [1; 8000];
        check_eq!(error(file.write(&bytes)), Ok(8000));
        check_eq!(error(file.write(&bytes)), Ok(2000));
        check_eq!(came(libc::SIGXFSZ), 0);
        check_eq!(error(file.write(&bytes)), too_big);
        check_eq!(came(libc::SIGXFSZ), 1);
        check_eq!(error(file.write(&[])), Ok(0));
        let at = |offset| {
            use std::os::unix::fs::FileExt;
            error(file.write_at(&bytes, offset))
        };
        check_eq!(at(LIMIT - 1), Ok(1));
        check_eq!(came(libc::SIGXFSZ), 0);
        check_eq!(at(20_000), too_big);
        check_eq!(came(libc::SIGXFSZ), 1);
        vectors(&file, LIMIT);
        // What is longer already may become shorter, but not grow.
        let length = |len| error(file.set_len(len).map(|()| 0));
        check_eq!(length(30_000), Ok(0));
        check_eq!(length(30_001), too_big);
        check_eq!(length(LIMIT - 1), Ok(0));
        check_eq!(came(libc::SIGXFSZ), 1);
        check_eq!(length(LIMIT + 1), too_big);
        check_eq!(length(LIMIT), Ok(0));
        check_eq!(came(libc::SIGXFSZ), 1);
        let allocate = |mode: c_int, len: u64| {
            -raw_syscall(libc::SYS_fallocate, [file.as_raw_fd() as u64, mode as u64, 0, len, 0, 0])
        };
        check_eq!(allocate(0, LIMIT + 1), i64::from(libc::EFBIG));
        check_eq!(came(libc::SIGXFSZ), 1);
        check_eq!(allocate(0, LIMIT), 0);
        // The end is where it was.
        file.seek(std::io::SeekFrom::End(0)).unwrap();
        check_eq!(file.stream_position().unwrap(), LIMIT);
        // SAFETY: the signal is ignored.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        check_eq!(error(file.write(&[1])), too_big);
        // Pipes have no size.
        let (_reader, mut writer) = std::io::pipe().unwrap();
        check_eq!(writer.write(&[0; 20_000]).unwrap(), 20_000);
    });
    check_eq!(file.write(&[1; 100]).unwrap(), 100);
    fs::remove_file(&path).unwrap();
}

/// Several buffers are one write, and so is a copy: the signal is for who can write nothing, not for who was cut short
/// between two buffers.
fn vectors(file: &File, limit: u64) {
    let piece = [2; 1000];
    let buffers: Vec<_> = (0..40).map(|_| IoSlice::new(&piece)).collect();
    let mut own = file.try_clone().unwrap();
    for (start, wanted) in [(limit - 3000, 3000), (limit - 2500, 2500)] {
        own.seek(std::io::SeekFrom::Start(start)).unwrap();
        check_eq!(own.write_vectored(&buffers).unwrap(), wanted);
        check_eq!(own.stream_position().unwrap(), limit);
        check_eq!(rustix::io::pwritev(file, &buffers, start).unwrap(), wanted);
        check_eq!(came(libc::SIGXFSZ), 0);
    }
    check_eq!(own.write_vectored(&buffers).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    check_eq!(came(libc::SIGXFSZ), 1);
    check_eq!(rustix::io::pwritev(file, &buffers, limit), Err(rustix::io::Errno::FBIG));
    check_eq!(came(libc::SIGXFSZ), 1);
    let (mut from, mut to) = (limit + 1000, limit - 2000);
    check_eq!(rustix::fs::copy_file_range(file, Some(&mut from), file, Some(&mut to), 2500), Ok(2000));
    check_eq!((from, to, came(libc::SIGXFSZ)), (limit + 3000, limit, 0));
    let copied = rustix::fs::copy_file_range(file, Some(&mut from), file, Some(&mut to), 2500);
    check_eq!((copied, came(libc::SIGXFSZ)), (Err(rustix::io::Errno::FBIG), 1));
}

fn queued_signals() {
    count_signals(libc::SIGUSR1);
    let signal = libc::SIGRTMIN() + 1;
    count_signals(signal);
    let value = libc::sigval { sival_ptr: ptr::null_mut() };
    under(libc::RLIMIT_SIGPENDING, 0, || {
        // SAFETY: values only.
        unsafe {
            check_eq!(libc::sigqueue(libc::getpid(), signal, value), -1);
            check_eq!(errno(), libc::EAGAIN);
            check_eq!(libc::kill(libc::getpid(), libc::SIGUSR1), 0);
        }
    });
    check_eq!(came(libc::SIGUSR1), 1);
    // SAFETY: values only.
    check_eq!(unsafe { libc::sigqueue(libc::getpid(), signal, value) }, 0);
    check_eq!(came(signal), 1);
}

fn locked_memory() {
    let place = map(0, 64 * PAGE, WRITE, 0).unwrap();
    let lock = |pages: usize| {
        // SAFETY: mapped above.
        let outcome = unsafe { libc::mlock(place as *const c_void, pages * PAGE) };
        if outcome == 0 { 0 } else { errno() }
    };
    under(libc::RLIMIT_MEMLOCK, 8 * PAGE as u64, || {
        check_eq!(lock(8), 0);
        check_eq!(lock(64), libc::ENOMEM);
        // SAFETY: mapped above.
        check_eq!(unsafe { libc::munlock(place as *const c_void, 64 * PAGE) }, 0);
    });
    under(libc::RLIMIT_MEMLOCK, 0, || check_eq!(lock(1), libc::EPERM));
    unmap(place, 64 * PAGE);
}

fn threads() {
    under(libc::RLIMIT_NPROC, 1, || {
        let outcome = thread::Builder::new().spawn(|| ());
        check_eq!(outcome.map(drop).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    });
    thread::spawn(|| ()).join().unwrap();
}

fn hard_limits() {
    for resource in [libc::RLIMIT_FSIZE, libc::RLIMIT_NOFILE, libc::RLIMIT_AS] {
        let before = get(resource);
        let lower = before.rlim_max.min(1 << 40) - 1;
        check_eq!(set(resource, before.rlim_cur.min(lower), lower), 0);
        check_eq!(set(resource, lower, lower), 0);
        check_eq!(set(resource, lower, before.rlim_max), libc::EPERM);
        check_eq!(get(resource).rlim_max, lower);
    }
}

/// Is told after a second of work, and killed after another.
fn processor_time() {
    count_signals(libc::SIGXCPU);
    check_eq!(set(libc::RLIMIT_CPU, 1, 2), 0);
    while came(libc::SIGXCPU) == 0 {
        std::hint::spin_loop();
    }
    println!("used a second");
    loop {
        std::hint::spin_loop();
    }
}
