//! io_uring(7): a thread of the kernel's that takes entries without a call (SQPOLL), and entries of both sizes.

use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::rings::{ECANCELED, fd, nap, pipe, push, read, write};
use io_uring::{Builder, EnterFlags, IoUring, cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("entries without a call", without_calls),
        ("a thread that has to be woken", asleep),
        ("room in the queue", room),
        ("a queue that is filled again and again", stream),
        ("links, and a pipe that is filled later", links),
        ("two rings with one thread", attached),
        ("a ring that begins disabled", disabled),
        ("one processor", bound),
        ("rings that are closed", closing),
        ("completions that find no room", overflow),
        ("refusals", refusals),
        ("large entries", large),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

/// So long a ring's thread looks for entries in tests that are not about its sleep: longer than a busy host keeps the test from
/// adding some.
const PATIENT_MS: u32 = 20_000;

fn polled(entries: u32, idle_ms: u32) -> IoUring {
    let mut ring = IoUring::builder().setup_sqpoll(idle_ms).build(entries).unwrap();
    // A thread that is new may sleep until it is called for the first time.
    push(&mut ring, &nop(0));
    ring.submit().unwrap();
    assert_eq!(spin(&mut ring, 1), [(0, 0)]);
    ring
}

fn nop(data: u64) -> squeue::Entry {
    opcode::Nop::new().build().user_data(data)
}

/// Looks for completions without a call, for a minute at most; their user data and results.
fn spin(ring: &mut IoUring, count: usize) -> Vec<(u64, i32)> {
    let started = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        assert!(started.elapsed() < Duration::from_secs(60), "{all:?}");
        all.extend(ring.completion().map(|cqe| (cqe.user_data(), cqe.result())));
    }
    all
}

fn without_calls() {
    let mut ring = polled(8, PATIENT_MS);
    assert!(ring.params().is_setup_sqpoll());
    for round in 0..200_u64 {
        for index in 0..8 {
            push(&mut ring, &nop(round * 8 + index));
        }
        let expected: Vec<_> = (0..8).map(|index| (round * 8 + index, 0)).collect();
        assert_eq!(spin(&mut ring, 8), expected);
    }
    // A pause is no reason to stop looking.
    nap();
    push(&mut ring, &nop(1));
    assert_eq!(spin(&mut ring, 1), [(1, 0)]);
    // Waiting for completions is a call.
    push(&mut ring, &nop(2));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(spin(&mut ring, 1), [(2, 0)]);
}

/// Waits until the ring says that its thread has stopped to look. The thread looks once more between saying so and sleeping, and may lose the
/// processor there, so it gets a moment.
fn until_asleep(ring: &mut IoUring) {
    let started = Instant::now();
    while !ring.submission().need_wakeup() {
        assert!(started.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
    nap();
}

fn asleep() {
    let started = Instant::now();
    let mut ring = polled(8, 50);
    until_asleep(&mut ring);
    assert!(started.elapsed() >= Duration::from_millis(20), "it looks for as long as it was told to");
    push(&mut ring, &nop(1));
    nap();
    assert_eq!(ring.completion().count(), 0, "a sleeper takes nothing");
    // Without the flag a call wakes nobody; with it the entry is taken.
    // SAFETY: no argument is given.
    let taken = unsafe { ring.submitter().enter::<libc::sigset_t>(5, 0, 0, None) };
    assert_eq!(taken.unwrap(), 5, "what was asked for is said to be taken");
    nap();
    assert_eq!(ring.completion().count(), 0);
    ring.submitter().squeue_wait().unwrap();
    ring.submit().unwrap();
    assert_eq!(spin(&mut ring, 1), [(1, 0)]);
    assert!((0..100).any(|_| takes_one_awake(&mut ring)), "it looks again, for a while");
    until_asleep(&mut ring);
    push(&mut ring, &nop(3));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(spin(&mut ring, 1), [(3, 0)]);
}

/// Wakes the ring's thread; true if it then takes a further entry by itself. Where the host is busy, it may sleep before that is there.
fn takes_one_awake(ring: &mut IoUring) -> bool {
    push(ring, &nop(2));
    ring.submit().unwrap();
    assert_eq!(spin(ring, 1), [(2, 0)]);
    push(ring, &nop(2));
    let started = Instant::now();
    while ring.completion().is_empty() && !ring.submission().need_wakeup() {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    let was_awake = !ring.completion().is_empty();
    // It wakes the thread if it has to.
    ring.submit().unwrap();
    assert_eq!(spin(ring, 1), [(2, 0)]);
    was_awake
}

fn room() {
    let mut ring = polled(4, 10);
    until_asleep(&mut ring);
    for index in 0..4 {
        push(&mut ring, &nop(index));
    }
    // The queue is full, and its thread sleeps.
    let flags = (EnterFlags::SQ_WAKEUP | EnterFlags::SQ_WAIT).bits();
    // SAFETY: no argument is given.
    unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) }.unwrap();
    assert!(!ring.submission().is_full());
    assert_eq!(spin(&mut ring, 4).len(), 4);
}

fn stream() {
    let mut ring = polled(16, PATIENT_MS);
    let (mut sent, mut done) = (0_u64, 0_u64);
    let started = Instant::now();
    while done < 20_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "{done}");
        // SAFETY: the entry points to nothing.
        while sent < done + 16 && unsafe { ring.submission().push(&nop(sent)) }.is_ok() {
            sent += 1;
        }
        for cqe in ring.completion() {
            assert_eq!((cqe.user_data(), cqe.result()), (done, 0));
            done += 1;
        }
    }
}

/// Adds entries that hang together at once: a thread that finds the first without the next takes it for the whole chain.
fn push_chain(ring: &mut IoUring, entries: &[squeue::Entry]) {
    // SAFETY: what the entries of this program point to lives until their completions.
    unsafe { ring.submission().push_multiple(entries) }.unwrap();
}

fn links() {
    let mut ring = polled(8, PATIENT_MS);
    let (reader, writer) = pipe();
    let mut buffer = [0_u8; 4];
    push_chain(&mut ring, &[read(&reader, &mut buffer).user_data(1).flags(squeue::Flags::IO_LINK), nop(2)]);
    nap();
    assert_eq!(ring.completion().count(), 0);
    push(&mut ring, &write(&writer, b"late").user_data(3));
    let mut done = spin(&mut ring, 3);
    done.sort_unstable();
    assert_eq!(done, [(1, 4), (2, 0), (3, 4)]);
    assert_eq!(&buffer, b"late");
    // What cannot be done is told as usual, and what hangs on it is not done.
    let bad = opcode::Read::new(io_uring::types::Fd(-1), buffer.as_mut_ptr(), 4).build();
    push_chain(&mut ring, &[bad.user_data(4).flags(squeue::Flags::IO_LINK), nop(5)]);
    assert_eq!(spin(&mut ring, 2), [(4, -libc::EBADF), (5, ECANCELED)]);
}

fn attached() {
    let mut first = polled(8, PATIENT_MS);
    let mut second =
        IoUring::builder().setup_sqpoll(PATIENT_MS).setup_attach_wq(first.as_raw_fd()).build(32).unwrap();
    for round in 0..50 {
        for index in 0..8 {
            push(&mut first, &nop(index));
            push(&mut second, &nop(round));
        }
        assert_eq!(spin(&mut first, 8).len(), 8);
        assert_eq!(spin(&mut second, 8), [(round, 0); 8]);
    }
    // The thread goes on for the ring that is left.
    drop(first);
    push(&mut second, &nop(9));
    assert_eq!(spin(&mut second, 1), [(9, 0)]);
}

fn disabled() {
    let mut ring: IoUring = IoUring::builder().setup_sqpoll(20).setup_r_disabled().build(8).unwrap();
    push(&mut ring, &nop(1));
    nap();
    assert_eq!(ring.completion().count(), 0);
    let flags = EnterFlags::SQ_WAKEUP.bits();
    // SAFETY: no argument is given.
    let refused = unsafe { ring.submitter().enter::<libc::sigset_t>(1, 0, flags, None) };
    assert_eq!(errno(refused), libc::EBADFD);
    ring.submitter().register_enable_rings().unwrap();
    ring.submit().unwrap();
    assert_eq!(spin(&mut ring, 1), [(1, 0)]);
}

fn bound() {
    let mut ring: IoUring = IoUring::builder().setup_sqpoll(PATIENT_MS).setup_sqpoll_cpu(0).build(8).unwrap();
    push(&mut ring, &nop(1));
    ring.submit().unwrap();
    assert_eq!(spin(&mut ring, 1), [(1, 0)]);
}

fn closing() {
    for round in 0..100_u64 {
        let mut ring = polled(8, PATIENT_MS);
        let (reader, _writer) = pipe();
        let buffer: &'static mut [u8] = Box::leak(Box::new([0; 4]));
        push(&mut ring, &read(&reader, buffer));
        push(&mut ring, &nop(round));
        if round % 2 == 0 {
            assert_eq!(spin(&mut ring, 1), [(round, 0)]);
        }
    }
}

fn overflow() {
    let mut ring = polled(4, PATIENT_MS);
    for index in 0..64 {
        // SAFETY: the entry points to nothing.
        while unsafe { ring.submission().push(&nop(index)) }.is_err() {
            thread::yield_now();
        }
    }
    let started = Instant::now();
    let mut all = Vec::new();
    while all.len() < 64 {
        assert!(started.elapsed() < Duration::from_secs(10), "{all:?}");
        all.extend(ring.completion().map(|cqe| cqe.user_data()));
        if ring.submission().cq_overflow() {
            // SAFETY: no argument is given.
            unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None) }
                .unwrap();
        }
    }
    assert_eq!(all, (0..64).collect::<Vec<_>>());
}

fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn refused(builder: &Builder) -> i32 {
    errno(builder.build(8))
}

fn refusals() {
    let builder = || -> Builder { IoUring::builder() };
    assert_eq!(refused(builder().setup_sqpoll(10).setup_sqpoll_cpu(4_000)), libc::EINVAL);
    assert_eq!(refused(builder().setup_sqpoll_cpu(0)), libc::EINVAL);
    assert_eq!(refused(builder().setup_sqpoll(10).setup_coop_taskrun()), libc::EINVAL);
    let alone = builder().setup_sqpoll(10).setup_single_issuer().setup_defer_taskrun().clone();
    assert_eq!(refused(&alone), libc::EINVAL);
    assert_eq!(refused(builder().setup_taskrun_flag()), libc::EINVAL);
    let plain = IoUring::new(8).unwrap();
    let (reader, _writer) = pipe();
    let attach = |to: RawFd, polls: bool| {
        let mut builder = builder();
        builder.setup_attach_wq(to);
        if polls {
            builder.setup_sqpoll(10);
        }
        refused(&builder)
    };
    assert_eq!(attach(1_000, false), libc::ENXIO);
    assert_eq!(attach(1_000, true), libc::ENXIO);
    assert_eq!(attach(fd(&reader).0, false), libc::EINVAL);
    assert_eq!(attach(fd(&reader).0, true), libc::EINVAL);
    assert_eq!(attach(plain.as_raw_fd(), true), libc::EINVAL, "it has no thread");
    assert_eq!(attach(plain.as_raw_fd(), false), 0);
}

/// Entries that are larger than those of others, and that hold the same.
fn sized<S: squeue::EntryMarker + From<squeue::Entry>, C: cqueue::EntryMarker + Into<cqueue::Entry>>() {
    let mut ring: IoUring<S, C> = IoUring::builder().build(64).unwrap();
    for round in 0..100_u64 {
        for index in 0..32 {
            let data = round * 64 + index * 2;
            let made = opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build().user_data(data);
            // SAFETY: the entry points to nothing, as the next.
            unsafe { ring.submission().push(&made.into()) }.unwrap();
            // SAFETY: as above.
            unsafe { ring.submission().push(&nop(data + 1).into()) }.unwrap();
        }
        ring.submit_and_wait(64).unwrap();
        let mut all: Vec<_> =
            ring.completion().map(Into::into).map(|cqe| (cqe.user_data(), cqe.result())).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 64);
        for (index, &(data, result)) in all.iter().enumerate() {
            assert_eq!(data, round * 64 + index as u64);
            assert!(result == 0 && index % 2 == 1 || result > 0 && index % 2 == 0, "{result}");
            if result > 0 {
                // SAFETY: the descriptor was made for this test.
                unsafe { libc::close(result) };
            }
        }
    }
}

fn large() {
    sized::<squeue::Entry128, cqueue::Entry>();
    sized::<squeue::Entry, cqueue::Entry32>();
    sized::<squeue::Entry128, cqueue::Entry32>();
}
