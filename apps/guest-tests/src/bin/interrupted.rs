//! Calls that a signal cuts short whose handler has `SA_RESTART`: those without a time-out go on, those with one answer
//! `EINTR`, for their time-out would begin anew (signal(7), "Interruption of system calls").

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::errno;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

const NONE: *mut u8 = null_mut();
const LONG: Duration = Duration::from_secs(3);

/// Runs a call that sleeps, interrupts it after 60 ms, and does `then` after 150 ms; answers how the call ended.
fn interrupt(call: impl FnOnce() -> i64, then: impl FnOnce() + Send) -> (i64, i32) {
    // SAFETY: plain calls.
    let (me, process) = unsafe { (libc::gettid(), libc::getpid()) };
    let before = HANDLED.load(Ordering::Relaxed);
    let start = Instant::now();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(60));
            // SAFETY: as above.
            assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, me, libc::SIGUSR1) }, 0);
            thread::sleep(Duration::from_millis(90));
            then();
        });
        (call(), errno())
    });
    assert_eq!(HANDLED.load(Ordering::Relaxed), before + 1, "the signal came");
    assert!(start.elapsed() < LONG, "it did not sleep to its end");
    outcome
}

/// For calls that must answer `EINTR`.
fn ends(what: &str, call: impl FnOnce() -> i64) {
    assert_eq!(interrupt(call, || ()), (-1, libc::EINTR), "{what}");
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

fn receive(fd: &impl AsRawFd) -> i64 {
    let mut bytes = [0_u8; 64];
    // SAFETY: the buffer is ours.
    unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), 64, 0) as i64 }
}

fn limit(fd: &impl AsRawFd, option: i32) {
    let time = libc::timeval { tv_sec: LONG.as_secs() as i64, tv_usec: 0 };
    // SAFETY: the option's value is a `timeval`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const time).cast(),
            size_of_val(&time) as u32,
        )
    };
    assert_eq!(result, 0);
}

/// Sends until nothing more goes in, even if the other side makes room once more.
fn fill(fd: &impl AsRawFd) {
    let bytes = [0_u8; 65_536];
    // SAFETY: the buffer is ours.
    let send =
        || unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
    while send() > 0 {
        while send() > 0 {}
        thread::sleep(Duration::from_millis(50));
    }
}

fn send(fd: &impl AsRawFd) -> i64 {
    // SAFETY: the buffer is ours.
    unsafe { libc::send(fd.as_raw_fd(), [0_u8; 65_536].as_ptr().cast(), 65_536, 0) as i64 }
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(
        interrupt(|| receive(&server), || _ = client.write(b"late").unwrap()).0,
        4,
        "a stream goes on"
    );
    limit(&server, libc::SO_RCVTIMEO);
    ends("a stream", || receive(&server));
    let whole = || {
        let mut bytes = [0_u8; 64];
        // SAFETY: the buffer is ours.
        unsafe { libc::recv(server.as_raw_fd(), bytes.as_mut_ptr().cast(), 64, libc::MSG_WAITALL) as i64 }
    };
    ends("all of a stream", whole);
    limit(&server, libc::SO_SNDTIMEO);
    fill(&server);
    ends("a full stream", || send(&server));

    // SAFETY: a plain call; the descriptor is new.
    let accept = || unsafe { i64::from(libc::accept(listener.as_raw_fd(), null_mut(), null_mut())) };
    let to = listener.local_addr().unwrap();
    let (accepted, _) = interrupt(accept, || _ = TcpStream::connect(to).unwrap());
    assert!(accepted > 0, "accept goes on");
    // SAFETY: as above.
    drop(unsafe { OwnedFd::from_raw_fd(accepted as i32) });
    limit(&listener, libc::SO_RCVTIMEO);
    ends("accept", accept);

    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = datagrams.local_addr().unwrap();
    assert_eq!(interrupt(|| receive(&datagrams), || _ = datagrams.send_to(b"late", own).unwrap()).0, 4);
    limit(&datagrams, libc::SO_RCVTIMEO);
    ends("a datagram", || receive(&datagrams));
    let mut many: [libc::mmsghdr; 2] =
        // SAFETY: zeros are an empty message.
        unsafe { std::mem::zeroed() };
    // SAFETY: two messages of ours.
    ends("several datagrams", || unsafe {
        libc::recvmmsg(datagrams.as_raw_fd(), many.as_mut_ptr(), 2, 0, null_mut()).into()
    });
}

fn local_sockets() {
    let (one, mut other) = UnixStream::pair().unwrap();
    assert_eq!(
        interrupt(|| receive(&one), || _ = other.write(b"late").unwrap()).0,
        4,
        "a local stream goes on"
    );
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        limit(&one, option);
    }
    ends("a local stream", || receive(&one));
    fill(&one);
    ends("a full local stream", || send(&one));
    let (one, _other) = UnixDatagram::pair().unwrap();
    limit(&one, libc::SO_RCVTIMEO);
    ends("a local datagram", || receive(&one));

    // A listener with no room left.
    let path = format!("/tmp/interrupted-{}", std::process::id());
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    // SAFETY: plain calls; the address is built below.
    unsafe {
        assert_eq!(libc::listen(listener.as_raw_fd(), 0), 0);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        address.sun_path.iter_mut().zip(path.bytes()).for_each(|(to, byte)| *to = byte as _);
        let connect = |fd: &OwnedFd| {
            i64::from(libc::connect(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            ))
        };
        let socket = || OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
        let _first = UnixStream::connect(&path).unwrap();
        let late = socket();
        limit(&late, libc::SO_SNDTIMEO);
        ends("connect", || connect(&late));
        let time = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        let (level, option) = (libc::SOL_SOCKET, libc::SO_SNDTIMEO);
        let place = (&raw const time).cast();
        assert_eq!(libc::setsockopt(late.as_raw_fd(), level, option, place, size_of_val(&time) as u32), 0);
        assert_eq!((connect(&late), errno()), (-1, libc::EAGAIN));
    }
    std::fs::remove_file(&path).unwrap();
}

fn pipes() {
    let mut ends = [0; 2];
    // SAFETY: the descriptors are new.
    let (mut read, mut write) = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1]))
    };
    let mut bytes = [0; 8];
    let outcome = interrupt(|| read.read(&mut bytes).unwrap() as i64, || _ = write.write(b"late").unwrap());
    assert_eq!(outcome.0, 4, "a pipe goes on");
}

fn futexes() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    let wait = |operation: i32, time: *const libc::timespec| {
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is alive, and so is the time.
        unsafe { libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, 0, time, null::<u32>(), u32::MAX) }
    };
    let wake = || {
        // SAFETY: as above.
        unsafe {
            libc::syscall(libc::SYS_futex, WORD.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
        };
    };
    assert_eq!(interrupt(|| wait(libc::FUTEX_WAIT, null()), wake).0, 0, "a futex goes on");
    let span = timespec(LONG);
    ends("a futex", || wait(libc::FUTEX_WAIT, &raw const span));
    let end = after(LONG);
    ends("a futex until then", || wait(libc::FUTEX_WAIT_BITSET, &raw const end));
}

/// A time on the clock since boot.
fn after(span: Duration) -> libc::timespec {
    let mut now = timespec(Duration::ZERO);
    // SAFETY: the place is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    libc::timespec { tv_sec: now.tv_sec + span.as_secs() as i64, ..now }
}

fn sleeps() {
    let (span, mut left) = (timespec(LONG), timespec(Duration::ZERO));
    // SAFETY: the times are ours.
    let raw = |flags: i32, time: &libc::timespec, left: *mut libc::timespec| unsafe {
        libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, flags, time, left)
    };
    ends("a sleep", || raw(0, &span, &raw mut left));
    assert!((2..3).contains(&left.tv_sec), "{}", left.tv_sec);
    let end = after(LONG);
    ends("a sleep until then", || raw(libc::TIMER_ABSTIME, &end, null_mut()));
    // SAFETY: plain calls.
    ends("pause", || unsafe { libc::syscall(libc::SYS_pause) });
    // Nothing is there to go on with.
    // SAFETY: as above.
    assert_eq!((unsafe { libc::syscall(libc::SYS_restart_syscall) }, errno()), (-1, libc::EINTR));
}

/// What waits for several files, and tells how much of its time-out is left.
fn waits() {
    let millis = LONG.as_millis() as i32;
    // SAFETY: the arguments are ours, and null where that is allowed.
    unsafe {
        ends("poll", || i64::from(libc::poll(null_mut(), 0, millis)));
        let mut left = timespec(LONG);
        ends("ppoll", || libc::syscall(libc::SYS_ppoll, NONE, 0_usize, &raw mut left, NONE, 8_usize));
        assert_eq!(left.tv_sec, 2);
        let mut left = timespec(LONG);
        ends("pselect", || libc::syscall(libc::SYS_pselect6, 0, NONE, NONE, NONE, &raw mut left, NONE));
        assert_eq!(left.tv_sec, 2);
        let mut left = libc::timeval { tv_sec: LONG.as_secs() as i64, tv_usec: 0 };
        ends("select", || libc::syscall(libc::SYS_select, 0, NONE, NONE, NONE, &raw mut left));
        assert_eq!(left.tv_sec, 2);
        let mut gone = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        assert_eq!(libc::syscall(libc::SYS_select, 0, NONE, NONE, NONE, &raw mut gone), 0);
        assert_eq!((gone.tv_sec, gone.tv_usec), (0, 0));
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        ends("epoll", || i64::from(libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, millis)));
        ends("epoll for ever", || i64::from(libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1)));
    }
}

fn main() -> io::Result<()> {
    // SAFETY: the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, null_mut()), 0);
    }
    let tests: &[(&str, fn())] = &[
        ("sockets", sockets),
        ("sockets within the machine", local_sockets),
        ("pipes", pipes),
        ("futexes", futexes),
        ("sleeps", sleeps),
        ("waits", waits),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
    Ok(())
}
