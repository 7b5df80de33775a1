//! epoll, poll, pipes, eventfd and timerfd, as the manual pages say.

use std::time::{Duration, Instant};

use guest_tests::{check, check_eq, errno};

/// How long a call waits that is to be ended sooner.
const PATIENCE_MS: i32 = 4000;

fn main() {
    pipes_carry_bytes_and_end();
    eventfd_counts();
    epoll_is_level_triggered();
    epoll_is_edge_triggered();
    epoll_one_shot_fires_once();
    epoll_times_out();
    epoll_refuses_nonsense();
    timerfd_fires();
    poll_reports();
    news_that_are_over();
    closing_leaves_the_set();
}

/// `call(...)`, which must not fail.
macro_rules! good {
    ($call:expr) => {{
        // SAFETY: each call gets pointers to live values of the right size.
        let result = unsafe { $call };
        check!(result >= 0);
        result
    }};
}

fn pipe(flags: i32) -> [i32; 2] {
    let mut ends = [0; 2];
    good!(libc::pipe2(ends.as_mut_ptr(), flags));
    ends
}

fn write_byte(fd: i32) {
    check_eq!(good!(libc::write(fd, b"x".as_ptr().cast(), 1)), 1);
}

fn read_some(fd: i32) -> isize {
    let mut buffer = [0u8; 64];
    // SAFETY: the buffer is as long as said.
    unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) }
}

fn close(fd: i32) {
    good!(libc::close(fd));
}

fn pipes_carry_bytes_and_end() {
    let [reader, writer] = pipe(libc::O_NONBLOCK);
    check!(read_some(reader) == -1 && errno() == libc::EAGAIN);
    write_byte(writer);
    check_eq!(read_some(reader), 1);
    let big = vec![1u8; 100_000];
    let written = good!(libc::write(writer, big.as_ptr().cast(), big.len()));
    check_eq!(written, 65_536);
    close(writer);
    let mut total = 0;
    loop {
        match read_some(reader) {
            0 => break,
            count => total += count,
        }
    }
    check_eq!(total, 65_536);
    close(reader);
    let [reader, writer] = pipe(0);
    close(reader);
    // SAFETY: `std` ignores SIGPIPE, so this answers an error.
    check_eq!(unsafe { libc::write(writer, b"x".as_ptr().cast(), 1) }, -1);
    check_eq!(errno(), libc::EPIPE);
    close(writer);
}

fn eventfd_counts() {
    let fd = good!(libc::eventfd(3, libc::EFD_NONBLOCK));
    let mut value = 0u64;
    let mut read = || {
        // SAFETY: reads one word.
        let count = unsafe { libc::read(fd, (&raw mut value).cast(), 8) };
        if count == 8 { Some(value) } else { None }
    };
    check_eq!(read(), Some(3));
    check_eq!(read(), None);
    let two = 2u64;
    for _ in 0..5 {
        good!(libc::write(fd, (&raw const two).cast(), 8));
    }
    check_eq!(read(), Some(10));
    close(fd);
}

fn add(epoll: i32, fd: i32, events: i32, data: u64) {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    good!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event));
}

/// Events that are there within a time-out, as (bits, data).
fn wait(epoll: i32, timeout_ms: i32) -> Vec<(i32, u64)> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    let count = good!(libc::epoll_wait(epoll, events.as_mut_ptr(), 8, timeout_ms));
    events[..count as usize].iter().map(|event| (event.events as i32, event.u64)).collect()
}

fn epoll_is_level_triggered() {
    let (epoll, [reader, writer]) = (good!(libc::epoll_create1(0)), pipe(0));
    add(epoll, reader, libc::EPOLLIN, 1);
    add(epoll, writer, libc::EPOLLOUT, 2);
    check_eq!(wait(epoll, 0), vec![(libc::EPOLLOUT, 2)]);
    write_byte(writer);
    for _ in 0..3 {
        let mut events = wait(epoll, 0);
        events.sort_by_key(|event| event.1);
        check_eq!(events, vec![(libc::EPOLLIN, 1), (libc::EPOLLOUT, 2)]);
    }
    read_some(reader);
    check_eq!(wait(epoll, 0), vec![(libc::EPOLLOUT, 2)]);
    close(writer);
    check_eq!(wait(epoll, 0), vec![(libc::EPOLLHUP, 1)]);
    [reader, epoll].into_iter().for_each(close);
}

fn epoll_is_edge_triggered() {
    let (epoll, [reader, writer]) = (good!(libc::epoll_create1(0)), pipe(0));
    add(epoll, reader, libc::EPOLLIN | libc::EPOLLET, 1);
    write_byte(writer);
    check_eq!(wait(epoll, 100).len(), 1);
    check_eq!(wait(epoll, 0).len(), 0);
    write_byte(writer);
    check_eq!(wait(epoll, 100).len(), 1);
    [reader, writer, epoll].into_iter().for_each(close);
}

fn epoll_one_shot_fires_once() {
    let (epoll, [reader, writer]) = (good!(libc::epoll_create1(0)), pipe(0));
    add(epoll, reader, libc::EPOLLIN | libc::EPOLLONESHOT, 1);
    write_byte(writer);
    check_eq!(wait(epoll, 100).len(), 1);
    write_byte(writer);
    check_eq!(wait(epoll, 0).len(), 0);
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLONESHOT) as u32, u64: 5 };
    good!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, reader, &mut event));
    check_eq!(wait(epoll, 0), vec![(libc::EPOLLIN, 5)]);
    [reader, writer, epoll].into_iter().for_each(close);
}

fn epoll_times_out() {
    let epoll = good!(libc::epoll_create1(0));
    let started = Instant::now();
    check_eq!(wait(epoll, 40).len(), 0);
    check!(started.elapsed() >= Duration::from_millis(40));
    close(epoll);
}

fn epoll_refuses_nonsense() {
    let (epoll, [reader, writer]) = (good!(libc::epoll_create1(0)), pipe(0));
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let mut control = |operation, fd| {
        // SAFETY: passes one event.
        let result = unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) };
        if result == 0 { 0 } else { errno() }
    };
    check_eq!(control(libc::EPOLL_CTL_ADD, 9999), libc::EBADF);
    check_eq!(control(libc::EPOLL_CTL_ADD, epoll), libc::EINVAL);
    check_eq!(control(libc::EPOLL_CTL_DEL, reader), libc::ENOENT);
    check_eq!(control(libc::EPOLL_CTL_ADD, reader), 0);
    check_eq!(control(libc::EPOLL_CTL_ADD, reader), libc::EEXIST);
    check_eq!(control(42, reader), libc::EINVAL);
    [reader, writer, epoll].into_iter().for_each(close);
}

fn timerfd_fires() {
    let fd = good!(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK));
    let epoll = good!(libc::epoll_create1(0));
    add(epoll, fd, libc::EPOLLIN, 1);
    let time = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let spec = libc::itimerspec { it_interval: time, it_value: time };
    good!(libc::timerfd_settime(fd, 0, &spec, std::ptr::null_mut()));
    check_eq!(wait(epoll, 5000).len(), 1);
    std::thread::sleep(Duration::from_millis(35));
    let mut fired = 0u64;
    check_eq!(good!(libc::read(fd, (&raw mut fired).cast(), 8)), 8);
    check!(fired >= 3);
    [fd, epoll].into_iter().for_each(close);
}

fn poll_reports() {
    let [reader, writer] = pipe(0);
    let poll = |timeout_ms| {
        let mut fds = [
            libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: 9999, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 },
        ];
        good!(libc::poll(fds.as_mut_ptr(), 3, timeout_ms));
        fds.map(|fd| fd.revents)
    };
    check_eq!(poll(0), [0, libc::POLLNVAL, 0]);
    write_byte(writer);
    check_eq!(poll(-1), [libc::POLLIN, libc::POLLNVAL, 0]);
    [reader, writer].into_iter().for_each(close);
}

/// Whoever polls is told of something that somebody else has taken meanwhile: it sleeps on, and is told of the next.
fn news_that_are_over() {
    const ROUNDS: usize = 20;
    type Wait = fn(i32) -> i32;
    let poll: Wait = |fd| {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        good!(libc::poll(&raw mut entry, 1, PATIENCE_MS))
    };
    let select: Wait = |fd| {
        // SAFETY: a set of descriptors is plain bits.
        let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
        let mut rest = libc::timeval { tv_sec: i64::from(PATIENCE_MS) / 1000, tv_usec: 0 };
        good!({
            libc::FD_SET(fd, &raw mut set);
            libc::select(fd + 1, &raw mut set, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut rest)
        })
    };
    for wait in [poll, select] {
        let [reader, writer] = pipe(libc::O_NONBLOCK);
        for _ in 0..ROUNDS {
            let waiter = std::thread::spawn(move || {
                let start = Instant::now();
                check_eq!(wait(reader), 1);
                start.elapsed()
            });
            std::thread::sleep(Duration::from_millis(10));
            write_byte(writer);
            let is_over = read_some(reader) == 1;
            std::thread::sleep(Duration::from_millis(10));
            if is_over && !waiter.is_finished() {
                write_byte(writer);
            }
            check!(waiter.join().unwrap() < Duration::from_millis(PATIENCE_MS as u64 / 2));
            let _ = read_some(reader);
        }
        close(reader);
        close(writer);
    }
}

fn closing_leaves_the_set() {
    let (epoll, [reader, writer]) = (good!(libc::epoll_create1(0)), pipe(0));
    add(epoll, reader, libc::EPOLLIN, 1);
    write_byte(writer);
    close(reader);
    check_eq!(wait(epoll, 0).len(), 0);
    [writer, epoll].into_iter().for_each(close);
}
