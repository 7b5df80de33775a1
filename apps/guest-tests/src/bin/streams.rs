//! Pipes, event counters, timers, and waiting for them with poll(2); descriptors and their flags.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fcntl_setfl, seek};
use rustix::io::{
    DupFlags, Errno, FdFlags, dup, dup2, dup3, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd, ioctl_fionbio,
    ioctl_fionread, read, readv, write, writev,
};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 65_536;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("a pipe's bounds", pipe_bounds),
        ("a pipe's ends", pipe_ends),
        ("blocking pipe", pipe_blocking),
        ("vectored pipe", pipe_vectored),
        ("vectors that are too long", vectors_too_long),
        ("event counter", counter),
        ("semaphore", semaphore),
        ("counter wakes a reader", counter_wakes),
        ("interval timer", interval_timer),
        ("one-shot timer", one_shot_timer),
        ("poll", polling),
        ("poll sleeps", poll_sleeps),
        ("lowest free descriptor", lowest_free),
        ("descriptor flags", flags),
        ("many descriptors", many),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn read_some(file: &OwnedFd, most: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; most];
    let count = read(file, &mut bytes[..])?;
    bytes.truncate(count);
    Ok(bytes)
}

fn pipe_bounds() {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
    assert_eq!(read_some(&reader, 1), Err(Errno::AGAIN));
    assert_eq!(fcntl_getpipe_size(&writer), Ok(PIPE_BYTES));
    assert_eq!(write(&writer, &[1; PIPE_BYTES + 1]), Ok(PIPE_BYTES));
    assert_eq!(write(&writer, &[1]), Err(Errno::AGAIN));
    assert_eq!(ioctl_fionread(&reader), Ok(PIPE_BYTES as u64));
    assert_eq!(read_some(&reader, 60_000).unwrap().len(), 60_000);
    // Over the end of the ring and around.
    assert_eq!(write(&writer, &[2; 10_000]), Ok(10_000));
    let rest = read_some(&reader, PIPE_BYTES).unwrap();
    assert_eq!((rest.len(), rest[0], rest[15_535]), (15_536, 1, 2));
    assert_eq!(seek(&reader, SeekFrom::Current(0)), Err(Errno::SPIPE));
}

fn pipe_ends() {
    let (reader, writer) = pipe().unwrap();
    assert_eq!(write(&reader, b"x"), Err(Errno::BADF));
    assert_eq!(read_some(&writer, 1), Err(Errno::BADF));
    drop(writer);
    assert_eq!(read_some(&reader, 1).unwrap(), b"");
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    // `std` ignores SIGPIPE.
    assert_eq!(write(&writer, b"x"), Err(Errno::PIPE));
}

fn pipe_blocking() {
    const BYTES: usize = 300_000;
    let (reader, writer) = pipe().unwrap();
    let data: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    let sent = data.clone();
    let sender = thread::spawn(move || write(&writer, &sent));
    let mut received = Vec::new();
    loop {
        let part = read_some(&reader, 7001).unwrap();
        if part.is_empty() {
            break;
        }
        received.extend(part);
    }
    assert_eq!(sender.join().unwrap(), Ok(BYTES));
    assert!(received == data);
}

fn pipe_vectored() {
    let (reader, writer) = pipe().unwrap();
    let parts = [b"ab".as_slice(), b"", b"cde"].map(IoSlice::new);
    assert_eq!(writev(&writer, &parts), Ok(5));
    let (mut first, mut second) = ([0; 1], [0; 9]);
    let mut into = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(readv(&reader, &mut into), Ok(5));
    assert_eq!((&first, &second[..4]), (b"a", &b"bcde"[..]));
}

/// Lengths that no buffer can have, and such as wrap around when they are added.
fn vectors_too_long() {
    let (reader, writer) = pipe().unwrap();
    let (left, right) = UnixStream::pair().unwrap();
    let file = rustix::fs::memfd_create("vectors", rustix::fs::MemfdFlags::empty()).unwrap();
    let mut byte = 0_u8;
    let start = &raw mut byte;
    let part = |len| libc::iovec { iov_base: start.cast(), iov_len: len };
    for (parts, error) in [
        ([part(1), part(usize::MAX)], libc::EINVAL),
        ([part(usize::MAX), part(2)], libc::EINVAL),
        ([part(1 << 63), part(1 << 63)], libc::EINVAL),
        ([part(usize::MAX >> 1), part(usize::MAX >> 1)], libc::EFAULT),
    ] {
        // SAFETY: zeros are a message; the vectors are meant to be bad, and refused before anything is touched.
        let outcomes = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (parts.as_ptr().cast_mut(), 2);
            [
                last_error(libc::writev(writer.as_raw_fd(), parts.as_ptr(), 2)),
                last_error(libc::readv(reader.as_raw_fd(), parts.as_ptr(), 2)),
                last_error(libc::sendmsg(left.as_raw_fd(), &message, 0)),
                last_error(libc::recvmsg(right.as_raw_fd(), &mut message, libc::MSG_DONTWAIT)),
                last_error(libc::preadv(file.as_raw_fd(), parts.as_ptr(), 2, 0)),
                last_error(libc::pwritev(file.as_raw_fd(), parts.as_ptr(), 2, 0)),
                last_error(libc::preadv2(file.as_raw_fd(), parts.as_ptr(), 2, -1, 0)),
                last_error(libc::pwritev2(file.as_raw_fd(), parts.as_ptr(), 2, 0, 0)),
            ]
        };
        assert_eq!(outcomes, [error; 8]);
    }
}

fn last_error(outcome: isize) -> i32 {
    assert_eq!(outcome, -1);
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn counter() {
    let counter = eventfd(3, EventfdFlags::NONBLOCK).unwrap();
    assert_eq!(read_some(&counter, 8).unwrap(), 3_u64.to_le_bytes());
    assert_eq!(read_some(&counter, 8), Err(Errno::AGAIN));
    assert_eq!(read_some(&counter, 7), Err(Errno::INVAL));
    assert_eq!(write(&counter, &u64::MAX.to_le_bytes()), Err(Errno::INVAL));
    assert_eq!(write(&counter, &(u64::MAX - 1).to_le_bytes()), Ok(8));
    assert_eq!(write(&counter, &1_u64.to_le_bytes()), Err(Errno::AGAIN));
}

fn semaphore() {
    let counter = eventfd(2, EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE).unwrap();
    assert_eq!(read_some(&counter, 8).unwrap(), 1_u64.to_le_bytes());
    assert_eq!(read_some(&counter, 8).unwrap(), 1_u64.to_le_bytes());
    assert_eq!(read_some(&counter, 8), Err(Errno::AGAIN));
}

fn counter_wakes() {
    let counter = eventfd(0, EventfdFlags::empty()).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_some(&counter, 8).unwrap());
        thread::sleep(Duration::from_millis(10));
        write(&counter, &5_u64.to_le_bytes()).unwrap();
        assert_eq!(reader.join().unwrap(), 5_u64.to_le_bytes());
    });
}

fn millis(count: i64) -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: count * 1_000_000 }
}

fn interval_timer() {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    assert_eq!(read_some(&timer, 8), Err(Errno::AGAIN));
    let every_10_ms = Itimerspec { it_interval: millis(10), it_value: millis(20) };
    // The clock is read first: the host may take its time between the two.
    let begin = Instant::now();
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every_10_ms).unwrap();
    let mut fds = [PollFd::new(&timer, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })), Ok(1));
    assert!(begin.elapsed() >= Duration::from_millis(20), "{:?}", begin.elapsed());
    thread::sleep(Duration::from_millis(35));
    let count = u64::from_le_bytes(read_some(&timer, 8).unwrap().try_into().unwrap());
    let most = (begin.elapsed().as_millis() as u64 - 20) / 10 + 1;
    assert!((4..=most).contains(&count), "{count} of {most}");
    let left = timerfd_gettime(&timer).unwrap();
    assert!(left.it_interval == millis(10) && left.it_value <= millis(10));
    timerfd_settime(
        &timer,
        TimerfdTimerFlags::empty(),
        &Itimerspec { it_interval: millis(0), it_value: millis(0) },
    )
    .unwrap();
    thread::sleep(Duration::from_millis(15));
    assert_eq!(read_some(&timer, 8), Err(Errno::AGAIN));
}

fn one_shot_timer() {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::empty()).unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let at = now + millis(20);
    let once = Itimerspec { it_interval: millis(0), it_value: at };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once).unwrap();
    assert_eq!(read_some(&timer, 8).unwrap(), 1_u64.to_le_bytes());
    assert!(rustix::time::clock_gettime(rustix::time::ClockId::Realtime) >= at);
}

fn polling() {
    let (reader, writer) = pipe().unwrap();
    let mut fds = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&writer, PollFlags::OUT)];
    assert_eq!(poll(&mut fds, Some(&millis(0))), Ok(1));
    assert_eq!(fds.each_ref().map(PollFd::revents), [PollFlags::empty(), PollFlags::OUT]);
    write(&writer, b"x").unwrap();
    assert_eq!(poll(&mut fds, None), Ok(2));
    assert_eq!(fds[0].revents(), PollFlags::IN);
    read_some(&reader, 1).unwrap();
    drop(writer);
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    assert_eq!(poll(&mut fds, None), Ok(1));
    assert_eq!(fds[0].revents(), PollFlags::HUP);
}

fn poll_sleeps() {
    let (reader, writer) = pipe().unwrap();
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    let begin = Instant::now();
    assert_eq!(poll(&mut fds, Some(&millis(20))), Ok(0));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(10));
            write(&writer, b"x").unwrap();
        });
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })), Ok(1));
    });
}

fn lowest_free() {
    let (reader, writer) = pipe().unwrap();
    let number = reader.as_raw_fd();
    drop(reader);
    assert_eq!(dup(&writer).unwrap().as_raw_fd(), number);
    let high = fcntl_dupfd_cloexec(&writer, 200).unwrap();
    assert!(high.as_raw_fd() >= 200);
    assert_eq!(fcntl_getfd(&high), Ok(FdFlags::CLOEXEC));
    let mut target = dup(&writer).unwrap();
    dup2(&high, &mut target).unwrap();
    assert_eq!(fcntl_getfd(&target), Ok(FdFlags::empty()));
    dup3(&high, &mut target, DupFlags::CLOEXEC).unwrap();
    assert_eq!(fcntl_getfd(&target), Ok(FdFlags::CLOEXEC));
}

fn flags() {
    let (reader, writer) = pipe().unwrap();
    let other = dup(&reader).unwrap();
    assert_eq!(fcntl_getfl(&reader).unwrap() & OFlags::RWMODE, OFlags::RDONLY);
    assert_eq!(fcntl_getfl(&writer).unwrap() & OFlags::RWMODE, OFlags::WRONLY);
    // Status flags belong to the open file, descriptor flags to the number.
    fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    assert!(fcntl_getfl(&other).unwrap().contains(OFlags::NONBLOCK));
    ioctl_fionbio(&other, false).unwrap();
    assert!(!fcntl_getfl(&reader).unwrap().contains(OFlags::NONBLOCK));
    fcntl_setfd(&reader, FdFlags::CLOEXEC).unwrap();
    assert_eq!(fcntl_getfd(&other), Ok(FdFlags::empty()));
}

fn many() {
    let (reader, _writer) = pipe().unwrap();
    // Linux's usual limit is 1,024.
    let copies: Vec<OwnedFd> = (0..900).map(|_| dup(&reader).unwrap()).collect();
    assert!(copies.windows(2).all(|pair| pair[0].as_raw_fd() < pair[1].as_raw_fd()));
}
