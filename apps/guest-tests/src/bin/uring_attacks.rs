//! io_uring(7) used as nobody should: what holds a lock, a slot, a worker or another ring is let go of, the stack is not as
//! deep as what an app nests, and what never ends is refused room.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::held_up::Other;
use guest_tests::rings::{ECANCELED, ETIME, complete, fd, nap, one, pipe, push, read, results, ring};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("a file that finds no place", no_place),
        ("rings that wait for each other in a row", rings_in_a_row),
        ("opening a pipe that nobody has", nobody_at_the_other_end),
        ("closing what lingers", lingering),
        ("a time-out that comes all the time", never_ending),
        ("time-outs that count and are cancelled", forgotten_counts),
        ("long chains", long_chains),
        ("long chains that are cut", cut_chains),
        ("rings that fill each other", full_of_messages),
        ("buffers that change meanwhile", changing_buffers),
        ("closed by another, and by itself", closing),
        ("others get on while a batch is done", long_batches),
    ];
    let only = std::env::args().nth(1);
    // The last is about time, which a host that is busy has none of: only where it is asked for.
    let tests = if only.is_some() { tests } else { &tests[..tests.len() - 1] };
    for (name, test) in
        tests.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str())))
    {
        let start = Instant::now();
        println!("{name}");
        test();
        println!("{name}: {:?}", start.elapsed());
    }
}

fn slot(index: u32) -> Option<DestinationSlot> {
    Some(DestinationSlot::try_from_slot_target(index).unwrap())
}

/// What is linked to this is done when all threads sleep, by a core that has nothing else to do.
fn soon() -> squeue::Entry {
    static TIME: Timespec = Timespec::new().nsec(20_000_000);
    let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
    opcode::Timeout::new(&TIME).flags(TimeoutFlags::ETIME_SUCCESS).build().flags(flags)
}

/// Submits all that is in the queue, and forgets the completions.
fn drain(ring: &mut IoUring, count: usize) {
    let mut left = count;
    let start = Instant::now();
    while left > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{left} completions are missing");
        ring.submit_and_wait(1).unwrap();
        left -= ring.completion().count().min(left);
    }
}

/// What was opened for the registered files, and cannot be put there, is closed again: a file without a name goes from its
/// disk, a connection ends.
fn no_place() {
    let folder = std::env::var("DATA").unwrap_or_else(|_| "/tmp".into());
    let folder = std::ffi::CString::new(folder).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for has_table in [false, true] {
        let mut ring = ring(8);
        if has_table {
            ring.submitter().register_files_sparse(4).unwrap();
        }
        let expected = if has_table { -libc::EINVAL } else { -libc::ENXIO };
        for _ in 0..20 {
            let flags = libc::O_TMPFILE | libc::O_RDWR;
            let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), folder.as_ptr()).flags(flags).mode(0o600);
            assert_eq!(one(&mut ring, &open.file_index(slot(1000)).build()), expected);
            let client = TcpStream::connect(address).unwrap();
            let accept = opcode::Accept::new(fd(&listener), std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(one(&mut ring, &accept.file_index(slot(1000)).build()), expected);
            let mut byte = [0];
            let end = std::io::Read::read(&mut &client, &mut byte);
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0);
            assert_eq!(one(&mut ring, &socket.file_index(slot(1000)).build()), expected);
        }
    }
}

/// Each ring is kept by the request that waits for it in the next; closing the last closes them all.
fn rings_in_a_row() {
    const RINGS: usize = 3000;
    let mut before = ring(1);
    for _ in 0..RINGS {
        let mut next = ring(1);
        push(&mut next, &opcode::PollAdd::new(fd(&before), libc::POLLIN as u32).build());
        assert_eq!(next.submit().unwrap(), 1);
        before = next;
    }
    drop(before);
    assert_eq!(one(&mut ring(1), &opcode::Nop::new().build()), 0);
}

/// open(2) of a named pipe waits for the other end; a request does not (Linux asks with `O_NONBLOCK`), whoever does it for
/// the ring, and the pipe waits like any other then.
fn nobody_at_the_other_end() {
    // More than there are workers.
    const OPENERS: usize = 100;
    let name = c"/tmp/uring-fifo";
    let _ = fs::remove_file("/tmp/uring-fifo");
    // SAFETY: the name is a string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let open = |flags| opcode::OpenAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).flags(flags).build();
    for (is_later, flags) in
        [(false, libc::O_RDONLY), (true, libc::O_RDONLY), (false, libc::O_WRONLY), (true, libc::O_WRONLY)]
    {
        let mut ring = ring(256);
        for _ in 0..OPENERS {
            if is_later {
                push(&mut ring, &soon());
            }
            push(&mut ring, &open(flags));
        }
        for (_, result) in results(&mut ring, OPENERS) {
            if flags == libc::O_WRONLY {
                assert_eq!(result, -libc::ENXIO);
                continue;
            }
            assert!(result >= 0, "{result}");
            // SAFETY: nobody else has it.
            let opened = unsafe { OwnedFd::from_raw_fd(result) };
            // SAFETY: a plain call.
            let flags = unsafe { libc::fcntl(opened.as_raw_fd(), libc::F_GETFL) };
            assert_eq!(flags & libc::O_NONBLOCK, 0);
        }
    }
    fs::remove_file("/tmp/uring-fifo").unwrap();
}

/// close(2) waits for what lingers; here nobody waits but the request.
fn lingering() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for is_later in [false, true] {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 2 };
        let size = size_of::<libc::linger>() as u32;
        let place = (&raw const linger).cast();
        // SAFETY: the value is of the option's type.
        let set =
            unsafe { libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, place, size) };
        assert_eq!(set, 0);
        // More than the peer takes.
        client.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut &client, &[1; 65536]).is_ok() {}
        let mut ring = ring(8);
        if is_later {
            push(&mut ring, &soon());
        }
        let descriptor = std::os::fd::IntoRawFd::into_raw_fd(client);
        push(&mut ring, &opcode::Close::new(Fd(descriptor)).build());
        assert_eq!(complete(&mut ring, 1)[0].1, 0);
        drop(server);
    }
}

/// A time-out of no time at all that repeats for ever: it ends when the queue is full.
fn never_ending() {
    const TIMEOUTS: usize = 4;
    let time = Timespec::new();
    let mut ring = ring(8);
    for _ in 0..TIMEOUTS {
        push(&mut ring, &opcode::Timeout::new(&time).flags(TimeoutFlags::MULTISHOT).build());
    }
    ring.submit().unwrap();
    nap();
    let room = ring.completion().capacity();
    let (mut seen, mut ended) = (0, 0);
    while ended < TIMEOUTS {
        ring.submit_and_wait(1).unwrap();
        for cqe in ring.completion() {
            assert_eq!(cqe.result(), ETIME);
            seen += 1;
            ended += usize::from(!cqueue::more(cqe.flags()));
        }
        assert!(seen <= room + 2 * TIMEOUTS, "{seen} completions, {ended} have ended");
    }
}

/// A time-out that waits for completions as well, and is cancelled, leaves nothing behind.
fn forgotten_counts() {
    const ROUNDS: usize = 100;
    const BATCH: usize = 128;
    let time = Timespec::new().sec(1000);
    let mut ring = ring(256);
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..BATCH {
            push(&mut ring, &opcode::Timeout::new(&time).count(1 << 30).build().user_data(7));
            push(&mut ring, &opcode::TimeoutRemove::new(7).build().user_data(8));
        }
        drain(&mut ring, 2 * BATCH);
        took.push(start.elapsed());
    }
    let least = |part: &[Duration]| *part.iter().min().unwrap();
    let (first, last) = (least(&took[..20]), least(&took[ROUNDS - 20..]));
    println!("{first:?} at first, {last:?} at last");
    assert!(last < first * 4 + Duration::from_millis(1), "{first:?} at first, {last:?} at last");
}

const LONG: u32 = 32_768;

/// A ring of the largest size, with a chain in its whole queue.
fn chained(entry: impl Fn(u32) -> squeue::Entry, flags: squeue::Flags) -> IoUring {
    let mut ring = ring(LONG);
    for index in 0..LONG {
        let last = index == LONG - 1;
        let entry = entry(index);
        push(&mut ring, &if last { entry } else { entry.flags(flags) });
    }
    ring
}

fn long_chains() {
    let nop = |_| opcode::Nop::new().build();
    for flags in [
        squeue::Flags::IO_LINK,
        squeue::Flags::IO_HARDLINK,
        squeue::Flags::IO_DRAIN,
        squeue::Flags::SKIP_SUCCESS,
    ] {
        let mut ring = chained(nop, flags);
        ring.submit().unwrap();
        let expected = if flags == squeue::Flags::SKIP_SUCCESS { 1 } else { LONG as usize };
        drain(&mut ring, expected);
    }
    // All fail, and the next is started all the same.
    let bad = |_| opcode::Close::new(Fd(-1)).build();
    let mut ring = chained(bad, squeue::Flags::IO_HARDLINK);
    ring.submit().unwrap();
    drain(&mut ring, LONG as usize);
    // Each other one guards the one before it.
    let time = Timespec::new().sec(1000);
    let guarded = |index: u32| match index % 2 {
        0 => opcode::Nop::new().build(),
        _ => opcode::LinkTimeout::new(&time).build(),
    };
    let mut ring = chained(guarded, squeue::Flags::IO_LINK);
    ring.submit().unwrap();
    drain(&mut ring, LONG as usize);
}

/// Chains whose first request waits, and is cancelled, or whose ring is closed, before and after those behind them.
fn cut_chains() {
    let (reader, _writer) = pipe();
    let poll = opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).build();
    let behind = |index: u32| if index == 0 { poll.clone().user_data(1) } else { opcode::Nop::new().build() };
    for is_closed in [false, true] {
        let start = Instant::now();
        let mut ring = chained(behind, squeue::Flags::IO_LINK);
        ring.submit().unwrap();
        for flags in [squeue::Flags::IO_DRAIN, squeue::Flags::IO_DRAIN | squeue::Flags::IO_LINK] {
            for index in 0..LONG {
                let last = index == LONG - 1;
                let flags = if last { squeue::Flags::empty() } else { flags };
                push(&mut ring, &opcode::Nop::new().build().flags(flags));
            }
            ring.submit().unwrap();
        }
        if !is_closed {
            ring.submitter().register_sync_cancel(None, CancelBuilder::any()).unwrap();
            drain(&mut ring, 3 * LONG as usize);
        }
        drop(ring);
        println!("cut in {:?}", start.elapsed());
    }
    // All wait, and each is cancelled by one that is behind it; then all at once.
    let mut ring = ring(LONG);
    for is_one_by_one in [true, false] {
        let start = Instant::now();
        let count = if is_one_by_one { LONG / 8 } else { LONG };
        for index in 0..count {
            push(&mut ring, &poll.clone().user_data(index.into()));
        }
        ring.submit().unwrap();
        if is_one_by_one {
            for index in (0..count).rev() {
                push(&mut ring, &opcode::AsyncCancel::new(index.into()).build());
            }
            ring.submit().unwrap();
            drain(&mut ring, 2 * count as usize);
        } else {
            ring.submitter().register_sync_cancel(None, CancelBuilder::any()).unwrap();
            drain(&mut ring, count as usize);
        }
        println!("{count} cancelled in {:?}", start.elapsed());
    }
}

/// Two threads fill each other's queue, and nobody takes anything out.
fn full_of_messages() {
    const BATCHES: usize = 40;
    const BATCH: u32 = 4096;
    let rings = [ring(BATCH), ring(BATCH)];
    let descriptors = [rings[0].as_raw_fd(), rings[1].as_raw_fd()];
    let threads = rings.into_iter().enumerate().map(|(index, mut ring)| {
        thread::spawn(move || {
            for _ in 0..BATCHES {
                for to in 0..BATCH {
                    let target = Fd(descriptors[if to % 8 == 0 { index } else { 1 - index }]);
                    let entry = opcode::MsgRingData::new(target, 1, 2, None).build();
                    push(&mut ring, &entry.flags(squeue::Flags::SKIP_SUCCESS));
                }
                // The other may fill it again before this one has made room.
                while let Err(error) = ring.submit() {
                    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
                    ring.completion().for_each(drop);
                }
            }
            ring
        })
    });
    let threads: Vec<_> = threads.collect();
    let rings: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    drop(rings);
    assert_eq!(one(&mut ring(1), &opcode::Nop::new().build()), 0);
}

/// A ring of buffers whose entries and tail another thread changes without end: what comes goes to memory of the app's, or
/// is refused.
fn changing_buffers() {
    const ENTRIES: u16 = 64;
    const ROUNDS: usize = 1000;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel picks the place.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4 * 4096, both, flags, -1, 0) };
    assert!(page != libc::MAP_FAILED);
    let start = page.addr();
    let mut ring = ring(64);
    // SAFETY: the mapping stays until the ring is gone.
    unsafe { ring.submitter().register_buf_ring_with_flags(start as u64, ENTRIES, 3, 0) }.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let other = thread::spawn(move || {
        // SAFETY: the mapping stays, and its words are only used like this.
        let ring = unsafe { &*(start as *const [[AtomicU64; 2]; ENTRIES as usize]) };
        let addresses = [start + 8192, 0, 0xffff_ffff_8000_0000, 1 << 63, 0x7fff_ffff_f000];
        let mut state = 1_u64;
        while !over.load(Ordering::Relaxed) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (state >> 33) as usize;
            let entry = &ring[index % usize::from(ENTRIES)];
            entry[0].store(
                *addresses.get((index >> 8) % 10).unwrap_or(&(start + 8192)) as u64,
                Ordering::Relaxed,
            );
            // Length and number; with the first entry's, the tail.
            entry[1].store(state >> 13 & !0xffff_e000, Ordering::Relaxed);
        }
    });
    let (mut good, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        push(&mut ring, &opcode::RecvMulti::new(fd(&left), 3).build().user_data(1));
        ring.submit().unwrap();
        std::io::Write::write_all(&mut &right, &[7; 200]).unwrap();
        right.shutdown(Shutdown::Both).unwrap();
        let begun = Instant::now();
        let mut has_ended = false;
        while !has_ended {
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
            ring.submit_and_wait(1).unwrap();
            for cqe in ring.completion() {
                has_ended |= !cqueue::more(cqe.flags());
                if cqe.result() >= 0 { good += 1 } else { refused += 1 }
            }
        }
    }
    is_over.store(true, Ordering::Relaxed);
    other.join().unwrap();
    println!("{good} good, {refused} refused");
}

/// Rings are closed while another thread is in them, and by requests of their own and of each other's.
fn closing() {
    for round in 0..60 {
        let (reader, writer) = pipe();
        let (mut first, mut second) = (ring(64), ring(64));
        let time = Timespec::new().nsec(10_000_000);
        // What is closed is cancelled later.
        let bytes: &'static mut [u8; 4] = Box::leak(Box::default());
        for _ in 0..8 {
            push(&mut first, &opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).multi(true).build());
            push(&mut first, &opcode::Timeout::new(&time).flags(TimeoutFlags::MULTISHOT).build());
            let guarded = read(&reader, bytes).flags(squeue::Flags::IO_LINK);
            push(&mut second, &guarded);
            push(&mut second, &opcode::LinkTimeout::new(&time).build());
        }
        first.submit().unwrap();
        second.submit().unwrap();
        let waker = thread::spawn(move || {
            for _ in 0..50 {
                rustix::io::write(&writer, b"x").unwrap();
            }
            writer
        });
        // A copy is closed by the other's request; then both by their owner.
        // SAFETY: plain calls.
        let copies = [unsafe { libc::dup(first.as_raw_fd()) }, unsafe { libc::dup(second.as_raw_fd()) }];
        push(&mut first, &opcode::Close::new(Fd(copies[1])).build());
        push(&mut second, &opcode::Close::new(Fd(copies[0])).build());
        first.submit().unwrap();
        if round % 2 == 0 {
            // What waits for the other ring keeps it open.
            push(&mut first, &opcode::PollAdd::new(fd(&second), libc::POLLIN as u32).build());
            first.submit().unwrap();
            drop(second);
            drop(first);
        } else {
            let closer = thread::spawn(move || drop(first));
            let _ = second.submit();
            drop(second);
            closer.join().unwrap();
        }
        drop(waker.join().unwrap());
    }
    // Files that are registered in many places at once.
    let (reader, _writer) = pipe();
    let table = vec![reader.as_raw_fd(); 20_000];
    let mut ring = ring(8);
    if let Err(error) = ring.submitter().register_files(&table) {
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        return;
    }
    assert!(ring.submitter().register_files(&table).is_err());
    drop(reader);
    let mut byte = [0];
    push(&mut ring, &opcode::Read::new(Fixed(19_999), byte.as_mut_ptr(), 1).build());
    ring.submit().unwrap();
    ring.submitter().unregister_files().unwrap();
    ring.submitter().register_sync_cancel(None, CancelBuilder::any()).unwrap();
    assert!(matches!(complete(&mut ring, 1)[0].1, ECANCELED | ETIME));
}

/// Batches of the largest size hold up nobody: another thread wakes up in time meanwhile.
fn long_batches() {
    let other = Other::start(|| || ());
    let nop = |_| opcode::Nop::new().build();
    for flags in [squeue::Flags::empty(), squeue::Flags::IO_LINK, squeue::Flags::IO_DRAIN] {
        other.is_not_held_up(
            &format!("a batch with {flags:?}"),
            || chained(nop, flags),
            |mut ring| {
                ring.submit().unwrap();
                drain(&mut ring, LONG as usize);
            },
        );
    }
    let (reader, _writer) = pipe();
    let poll = opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).build();
    let waiting = || {
        let ring = chained(|_| poll.clone(), squeue::Flags::empty());
        ring.submit().unwrap();
        ring
    };
    other.is_not_held_up("cancelling all", waiting, |mut ring| {
        ring.submitter().register_sync_cancel(None, CancelBuilder::any()).unwrap();
        drain(&mut ring, LONG as usize);
    });
    other.is_not_held_up("closing a ring in which all waits", waiting, drop);
    let behind = |index: u32| if index == 0 { poll.clone() } else { opcode::Nop::new().build() };
    let cut = || {
        let ring = chained(behind, squeue::Flags::IO_LINK);
        ring.submit().unwrap();
        ring
    };
    other.is_not_held_up("closing a ring with a long chain", cut, drop);
    let (reader, writer) = pipe();
    let ready = || {
        let poll = opcode::PollAdd::new(fd(&reader), libc::POLLIN as u32).build();
        let mut ring = chained(|_| poll.clone(), squeue::Flags::empty());
        ring.submit().unwrap();
        for index in 0..LONG {
            push(&mut ring, &opcode::Nop::new().build().user_data(index.into()));
        }
        ring
    };
    other.is_not_held_up("an event that all wait for", ready, |mut ring| {
        rustix::io::write(&writer, b"x").unwrap();
        drain(&mut ring, 2 * LONG as usize);
        rustix::io::read(&reader, &mut [0; 1]).unwrap();
    });
}
