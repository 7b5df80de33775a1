//! io_uring(7): order and links, waiting, registered files, a queue that is too small.

use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::rings::{ECANCELED, complete, fd, nap, one, pipe, push, read, results, ring, write};
use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("nothing, many times", nothing),
        ("bytes of a file", file),
        ("a pipe that is filled later", pipe_later),
        ("a spinning reader needs no system call", spinning),
        ("poll, once and again", poll),
        ("links", links),
        ("drain", drain),
        ("registered files and buffers", registered),
        ("files without a descriptor", without_descriptors),
        ("more completions than room", overflow),
        ("an event descriptor, and waiting in epoll", events),
        ("another ring", message),
        ("a ring that is closed with requests in it", closing),
        ("refusals", refusals),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn nothing() {
    let mut ring = ring(8);
    let mut expected = 0;
    for round in 0..50_u64 {
        for index in 0..8 {
            push(&mut ring, &opcode::Nop::new().build().user_data(round * 8 + index));
        }
        for (data, result, _) in complete(&mut ring, 8) {
            assert_eq!((data, result), (expected, 0));
            expected += 1;
        }
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).unwrap();
    assert!(probe.is_supported(opcode::Read::CODE) && probe.is_supported(opcode::AcceptMulti::CODE));
    assert!(ring.params().is_feature_nodrop() && ring.params().is_feature_fast_poll());
}

fn file() {
    let mut ring = ring(8);
    let path = c"/tmp/uring-file";
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
    let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).mode(0o600).build();
    let opened = one(&mut ring, &open);
    assert!(opened >= 0, "{opened}");
    let target = Fd(opened);
    let bytes = b"0123456789";
    let at = opcode::Write::new(target, bytes.as_ptr(), 10).offset(5).build();
    assert_eq!(one(&mut ring, &at), 10);
    assert_eq!(one(&mut ring, &opcode::Fsync::new(target).build()), 0);
    let mut first = [0xff_u8; 3];
    let mut second = [0_u8; 30];
    let parts = [
        libc::iovec { iov_base: first.as_mut_ptr().cast(), iov_len: first.len() },
        libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: second.len() },
    ];
    let readv = opcode::Readv::new(target, parts.as_ptr(), 2).offset(3).build();
    assert_eq!(one(&mut ring, &readv), 12);
    assert_eq!((&first, &second[..9]), (b"\0\x000", &b"123456789"[..]));
    // The place of the file is used, and moves.
    for expected in [15, 0] {
        let next = opcode::Read::new(target, second.as_mut_ptr(), 30).offset(u64::MAX).build();
        assert_eq!(one(&mut ring, &next), expected);
    }
    // SAFETY: all bits of a `statx` may be zero.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    let place = (&raw mut answer).cast();
    let statx = opcode::Statx::new(Fd(libc::AT_FDCWD), path.as_ptr(), place).mask(libc::STATX_SIZE).build();
    assert_eq!((one(&mut ring, &statx), answer.stx_size), (0, 15));
    assert_eq!(one(&mut ring, &opcode::Close::new(target).build()), 0);
    assert_eq!(one(&mut ring, &opcode::Close::new(target).build()), -libc::EBADF);
    let unlink = opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build();
    assert_eq!((one(&mut ring, &unlink), one(&mut ring, &unlink)), (0, -libc::ENOENT));
}

fn pipe_later() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let mut buffers = [[0_u8; 4]; 3];
    for (index, buffer) in buffers.iter_mut().enumerate() {
        push(&mut ring, &read(&reader, buffer).user_data(index as u64));
    }
    ring.submit().unwrap();
    nap();
    assert_eq!(ring.completion().len(), 0);
    let other = thread::spawn(move || {
        for chunk in [&b"abcd"[..], b"ef"] {
            rustix::io::write(&writer, chunk).unwrap();
            nap();
        }
    });
    let mut total = complete(&mut ring, 2).iter().map(|(_, result, _)| *result).sum::<i32>();
    other.join().unwrap();
    // The writer is gone: the last read sees the end.
    total += complete(&mut ring, 1)[0].1;
    assert_eq!(total, 6);
}

fn spinning() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let mut byte = [0_u8];
    push(&mut ring, &read(&reader, &mut byte));
    ring.submit().unwrap();
    let other = thread::spawn(move || {
        nap();
        rustix::io::write(&writer, b"x").unwrap();
        writer
    });
    let begin = Instant::now();
    let result = loop {
        if let Some(cqe) = ring.completion().next() {
            break cqe.result();
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::hint::spin_loop();
    };
    assert_eq!((result, byte), (1, *b"x"));
    other.join().unwrap();
}

fn poll() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let once = opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).build().user_data(1);
    let again = opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).multi(true).build().user_data(2);
    push(&mut ring, &once);
    push(&mut ring, &again);
    ring.submit().unwrap();
    rustix::io::write(&writer, b"x").unwrap();
    let mut seen = complete(&mut ring, 2);
    seen.sort_unstable();
    assert_eq!((seen[0].0, seen[0].1 & 1, cqueue::more(seen[0].2)), (1, 1, false));
    assert_eq!((seen[1].0, seen[1].1 & 1, cqueue::more(seen[1].2)), (2, 1, true));
    rustix::io::write(&writer, b"y").unwrap();
    assert_eq!(complete(&mut ring, 1)[0].0, 2);
    push(&mut ring, &opcode::PollRemove::new(2).build().user_data(3));
    assert_eq!(results(&mut ring, 2), [(2, ECANCELED), (3, 0)]);
    push(&mut ring, &opcode::PollRemove::new(2).build());
    assert_eq!(complete(&mut ring, 1)[0].1, -libc::ENOENT);
}

fn links() {
    let mut ring = ring(16);
    let (reader, writer) = pipe();
    let mut buffer = [0_u8; 5];
    // In this order, though the read would have to wait if it came first.
    push(&mut ring, &write(&writer, b"hello").flags(squeue::Flags::IO_LINK).user_data(1));
    push(&mut ring, &read(&reader, &mut buffer).flags(squeue::Flags::IO_LINK).user_data(2));
    push(&mut ring, &opcode::Nop::new().build().user_data(3));
    assert_eq!(results(&mut ring, 3), [(1, 5), (2, 5), (3, 0)]);
    assert_eq!(&buffer, b"hello");
    // A failure ends the chain, unless its link is a hard one.
    let bad = opcode::Close::new(Fd(999)).build();
    push(&mut ring, &bad.clone().flags(squeue::Flags::IO_LINK).user_data(1));
    push(&mut ring, &opcode::Nop::new().build().flags(squeue::Flags::IO_LINK).user_data(2));
    push(&mut ring, &opcode::Nop::new().build().user_data(3));
    push(&mut ring, &bad.flags(squeue::Flags::IO_HARDLINK).user_data(4));
    push(&mut ring, &opcode::Nop::new().build().user_data(5));
    let expected = [(1, -libc::EBADF), (2, ECANCELED), (3, ECANCELED), (4, -libc::EBADF), (5, 0)];
    assert_eq!(results(&mut ring, 5), expected);
    // A chain goes on when its first part had to wait.
    push(&mut ring, &read(&reader, &mut buffer).flags(squeue::Flags::IO_LINK).user_data(1));
    push(&mut ring, &write(&writer, b"!").user_data(2));
    ring.submit().unwrap();
    rustix::io::write(&writer, b"world").unwrap();
    assert_eq!(results(&mut ring, 2), [(1, 5), (2, 1)]);
}

fn drain() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let mut byte = [0_u8];
    push(&mut ring, &read(&reader, &mut byte).user_data(1));
    push(&mut ring, &opcode::Nop::new().build().flags(squeue::Flags::IO_DRAIN).user_data(2));
    push(&mut ring, &opcode::Nop::new().build().user_data(3));
    ring.submit().unwrap();
    nap();
    assert_eq!(ring.completion().len(), 0);
    rustix::io::write(&writer, b"x").unwrap();
    let order: Vec<u64> = complete(&mut ring, 3).iter().map(|(data, ..)| *data).collect();
    assert_eq!(order, [1, 2, 3]);
}

fn registered() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let files = [reader.as_raw_fd(), -1, writer.as_raw_fd()];
    ring.submitter().register_files(&files).unwrap();
    let mut memory = [0_u8; 64];
    let buffer = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: 64 };
    // SAFETY: the memory outlives the ring's use of it.
    unsafe { ring.submitter().register_buffers(&[buffer]) }.unwrap();
    drop(writer);
    let word = b"fixed";
    assert_eq!(one(&mut ring, &opcode::Write::new(Fixed(2), word.as_ptr(), 5).build()), 5);
    let inside = memory[10..].as_mut_ptr();
    assert_eq!(one(&mut ring, &opcode::ReadFixed::new(Fixed(0), inside, 20, 0).build()), 5);
    assert_eq!(&memory[10..15], word);
    // Half of it lies outside.
    let outside = opcode::ReadFixed::new(Fixed(0), memory[60..].as_mut_ptr(), 20, 0).build();
    assert_eq!(one(&mut ring, &outside), -libc::EFAULT);
    assert_eq!(one(&mut ring, &opcode::Read::new(Fixed(1), inside, 1).build()), -libc::EBADF);
    assert_eq!(ring.submitter().register_files_update(2, &[-1]).unwrap(), 1);
    // That was the last writer.
    assert_eq!(one(&mut ring, &opcode::Read::new(Fixed(0), inside, 1).build()), 0);
    ring.submitter().unregister_files().unwrap();
    ring.submitter().unregister_buffers().unwrap();
    assert_eq!(one(&mut ring, &opcode::Read::new(Fixed(0), inside, 1).build()), -libc::EBADF);
}

/// Sets how many descriptors there may be; answers how many there might before.
fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let before = core::mem::replace(&mut limit.rlim_cur, most);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    before
}

fn without_descriptors() {
    let mut ring = ring(8);
    ring.submitter().register_files(&[-1, -1]).unwrap();
    let path = c"/tmp/uring-registered";
    let open = || {
        opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_RDWR | libc::O_CREAT).mode(0o600)
    };
    let place = |index| Some(DestinationSlot::try_from_slot_target(index).unwrap());
    // All that follows has none to make.
    let before = limit_descriptors(0);
    let refused = one(&mut ring, &open().build());
    let opened = one(&mut ring, &open().file_index(place(0)).build());
    let nowhere = one(&mut ring, &open().file_index(place(7)).build());
    let longer = one(&mut ring, &opcode::Fallocate::new(Fixed(0), 10).build());
    let saved = one(&mut ring, &opcode::Fsync::new(Fixed(0)).build());
    let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).file_index(place(1)).build();
    let made = one(&mut ring, &socket);
    let ended = one(&mut ring, &opcode::Shutdown::new(Fixed(1), libc::SHUT_WR).build());
    limit_descriptors(before);
    assert_eq!((refused, opened, nowhere), (-libc::EMFILE, 0, -libc::EINVAL));
    assert_eq!((longer, saved, made, ended), (0, 0, 0, -libc::ENOTCONN));
    assert_eq!(std::fs::metadata("/tmp/uring-registered").unwrap().len(), 10);
    std::fs::remove_file("/tmp/uring-registered").unwrap();
}

fn overflow() {
    let mut ring: IoUring = IoUring::builder().setup_cqsize(4).build(4).unwrap();
    for data in 0..4 {
        push(&mut ring, &opcode::Nop::new().build().user_data(data));
    }
    ring.submit().unwrap();
    for data in 4..7 {
        push(&mut ring, &opcode::Nop::new().build().user_data(data));
    }
    ring.submit().unwrap();
    assert!(ring.submission().cq_overflow());
    // What moves up into the queue is news, also for who wants to be told of news only.
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let edge = rustix::event::epoll::EventFlags::IN | rustix::event::epoll::EventFlags::ET;
    // SAFETY: the ring's descriptor lives as long as the ring.
    let itself = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    rustix::event::epoll::add(&epoll, itself, rustix::event::epoll::EventData::new_u64(0), edge).unwrap();
    let mut events = Vec::with_capacity(4);
    let some = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut wait = || {
        rustix::event::epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&some)).unwrap()
    };
    assert_eq!(wait(), 1);
    let mut seen: Vec<u64> = ring.completion().map(|cqe| cqe.user_data()).collect();
    assert_eq!(seen, [0, 1, 2, 3]);
    ring.submit().unwrap();
    assert_eq!(wait(), 1);
    seen.extend(complete(&mut ring, 3).iter().map(|(data, ..)| *data));
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
    assert!(!ring.submission().cq_overflow());
}

fn events() {
    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    let mut ring = ring(8);
    let counter = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    ring.submitter().register_eventfd(counter.as_raw_fd()).unwrap();
    let (reader, writer) = pipe();
    let mut byte = [0_u8];
    push(&mut ring, &read(&reader, &mut byte));
    ring.submit().unwrap();
    let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    let some = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
    // SAFETY: the ring's descriptor lives as long as the ring.
    let itself = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    assert_eq!(poll(&mut [PollFd::new(&itself, PollFlags::IN)], Some(&none)).unwrap(), 0);
    let other = thread::spawn(move || {
        nap();
        rustix::io::write(&writer, b"x").unwrap();
    });
    let mut both = [PollFd::new(&itself, PollFlags::IN), PollFd::new(&counter, PollFlags::IN)];
    assert!(poll(&mut both, Some(&some)).unwrap() >= 1);
    other.join().unwrap();
    assert_eq!(poll(&mut both, Some(&some)).unwrap(), 2);
    assert_eq!(complete(&mut ring, 1)[0].1, 1);
    let mut count = [0; 8];
    rustix::io::read(&counter, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
}

fn message() {
    let (mut here, mut there) = (ring(4), ring(4));
    let target = Fd(there.as_raw_fd());
    let message = opcode::MsgRingData::new(target, 42, 77, None).build().user_data(1);
    push(&mut here, &message);
    assert_eq!(complete(&mut here, 1)[0].1, 0);
    assert_eq!(complete(&mut there, 1)[0], (77, 42, 0));
}

fn closing() {
    let (reader, writer) = pipe();
    for _ in 0..20 {
        let mut ring = ring(8);
        let mut byte = [0_u8; 2];
        push(&mut ring, &read(&reader, &mut byte[..]));
        push(&mut ring, &opcode::Nop::new().build().flags(squeue::Flags::IO_DRAIN));
        ring.submit().unwrap();
        drop(ring);
    }
    drop(writer);
    let mut byte = [0_u8];
    assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 0, "no request keeps the pipe");
}

fn refusals() {
    let error = |entries: u32, flags: u32| {
        let mut params = [0_u32; 30];
        params[2] = flags;
        // SAFETY: the parameters are 120 bytes, which the kernel fills.
        let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params.as_mut_ptr()) };
        assert_eq!(result, -1);
        std::io::Error::last_os_error().raw_os_error().unwrap()
    };
    assert_eq!(error(0, 0), libc::EINVAL);
    assert_eq!(error(1 << 20, 0), libc::EINVAL);
    assert_eq!(error(8, 1 << 31), libc::EINVAL);
    let mut ring = ring(4);
    let bad = opcode::Nop::new().build().flags(squeue::Flags::from_bits_retain(1 << 7));
    assert_eq!(one(&mut ring, &bad), -libc::EINVAL);
    let mut byte = [0_u8];
    assert_eq!(one(&mut ring, &opcode::Read::new(Fd(-1), byte.as_mut_ptr(), 1).build()), -libc::EBADF);
    let (_reader, writer) = pipe();
    let nowhere = opcode::Write::new(fd(&writer), 8 as *const u8, 4).build();
    assert_eq!(one(&mut ring, &nowhere), -libc::EFAULT);
    // SAFETY: numbers only.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_enter, writer.as_raw_fd(), 0, 0, 0, 0, 0) };
    assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EOPNOTSUPP)));
}
