//! As `page_in`, for the calls of sockets and the requests of rings; and with others at work: one that takes the pages away,
//! one that wants all memory (`pressed`).

use std::io::{self, Write};
use std::mem::zeroed;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::cold::{self, PAGE, check, cold, cold_before, owned, read_cold};
use guest_tests::rings;
use io_uring::{opcode, types};

fn nap(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // SAFETY: the places are mapped and large enough.
    unsafe {
        let (name, len) = (cold::<libc::sockaddr_in>(), cold::<u32>());
        len.write(16);
        let server = owned(libc::accept4(listener.as_raw_fd(), name.cast(), len, 0));
        assert_eq!((*name).sin_port, client.local_addr().unwrap().port().to_be());
        client.write_all(&[7; 20_000]).unwrap();
        nap(50);
        // All that is there, in one go, however many pages it takes.
        let place = cold_before::<u8>(100);
        assert_eq!(
            libc::recv(server.as_raw_fd(), place.cast(), 30_000, libc::MSG_PEEK | libc::MSG_DONTWAIT),
            20_000
        );
        let place = cold_before::<u8>(100);
        assert_eq!(libc::recv(server.as_raw_fd(), place.cast(), 30_000, libc::MSG_DONTWAIT), 20_000);
        assert!((0..20_000).all(|at| *place.add(at) == 7));
        // And what is sent comes from such pages.
        let place = cold_before::<u8>(100);
        assert_eq!(libc::send(server.as_raw_fd(), place.cast(), 20_000, libc::MSG_DONTWAIT), 20_000);
        client.set_nonblocking(true).unwrap();
        nap(50);
        let into = cold::<u8>();
        let waits = libc::MSG_WAITALL;
        client.set_nonblocking(false).unwrap();
        assert_eq!(libc::recv(client.as_raw_fd(), into.cast(), 20_000, waits), 20_000);
        client.write_all(b"still there").unwrap();
    }
}

fn datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    socket.send_to(b"first", own).unwrap();
    socket.send_to(b"second", own).unwrap();
    nap(50);
    // SAFETY: the places are mapped and large enough.
    unsafe {
        let (place, name, len) = (cold_before::<u8>(2), cold::<libc::sockaddr_in>(), cold::<u32>());
        len.write(16);
        let fd = socket.as_raw_fd();
        assert_eq!(libc::recvfrom(fd, place.cast(), 16, libc::MSG_DONTWAIT, name.cast(), len), 5);
        assert_eq!(std::slice::from_raw_parts(place, 5), b"first");
        assert_eq!((*name).sin_port, own.port().to_be());
        // Header, array, buffers and name, all of them.
        let (header, buffers) = (cold::<libc::msghdr>(), cold::<[libc::iovec; 2]>());
        let (name, place) = (cold::<libc::sockaddr_in>(), [cold_before::<u8>(1), cold::<u8>()]);
        buffers.write(place.map(|place| libc::iovec { iov_base: place.cast(), iov_len: 3 }));
        let mut filled: libc::msghdr = zeroed();
        (filled.msg_name, filled.msg_namelen) = (name.cast(), 16);
        (filled.msg_iov, filled.msg_iovlen) = (buffers.cast(), 2);
        header.write(filled);
        assert_eq!(libc::recvmsg(fd, header, libc::MSG_DONTWAIT), 6);
        assert_eq!(std::slice::from_raw_parts(place[1], 3), b"ond");
        let mut to: libc::sockaddr_in = zeroed();
        (to.sin_family, to.sin_port) = (libc::AF_INET as u16, own.port().to_be());
        to.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        let sent = libc::sendto(fd, cold_before::<u8>(9).cast(), 20, 0, (&raw const to).cast(), 16);
        assert_eq!(sent, 20);
        nap(50);
        assert_eq!(read_cold(fd, 64), [0; 20]);
    }
}

/// Bytes, messages and the descriptors that travel with them.
fn local_sockets() {
    for kind in [libc::SOCK_DGRAM, libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        let pair = cold::<[i32; 2]>();
        // SAFETY: the places are mapped and large enough; the descriptors are new.
        unsafe {
            assert_eq!(libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK, 0, pair.cast()), 0);
            let [one, other] = (*pair).map(owned);
            assert_eq!(libc::write(one.as_raw_fd(), b"hello".as_ptr().cast(), 5), 5);
            send_descriptor(&one);
            assert_eq!(libc::write(one.as_raw_fd(), cold_before::<u8>(5).cast(), 50), 50);
            if kind == libc::SOCK_STREAM {
                // Up to the byte with which the descriptor comes.
                let (bytes, files) = receive_descriptors(&other);
                assert_eq!((&bytes[..], files), (&b"hellox"[..], 1));
            } else {
                assert_eq!(read_cold(other.as_raw_fd(), 16), b"hello");
                let (bytes, files) = receive_descriptors(&other);
                assert_eq!((&bytes[..], files), (&b"x"[..], 1));
            }
            assert_eq!(read_cold(other.as_raw_fd(), 64), [0; 50]);
        }
    }
}

/// A byte and a descriptor.
unsafe fn send_descriptor(through: &OwnedFd) {
    // SAFETY: the control message is built as cmsg(3) has it, in memory of our own.
    unsafe {
        let mut control = [0_u64; 4];
        let mut buffer = libc::iovec { iov_base: b"x".as_ptr().cast_mut().cast(), iov_len: 1 };
        let mut message: libc::msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut buffer, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(first).cast::<i32>().write(through.as_raw_fd());
        assert_eq!(libc::sendmsg(through.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// The bytes that are there, and how many descriptors came along; everything lies in untouched pages.
unsafe fn receive_descriptors(from: &OwnedFd) -> (Vec<u8>, usize) {
    // SAFETY: the places are mapped and large enough.
    unsafe {
        let (header, place, control) = (cold::<libc::msghdr>(), cold_before::<u8>(4), cold::<[u64; 8]>());
        let buffer = cold::<libc::iovec>();
        buffer.write(libc::iovec { iov_base: place.cast(), iov_len: 64 });
        let mut message: libc::msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (buffer, 1);
        (message.msg_control, message.msg_controllen) = (control.cast(), 64);
        header.write(message);
        let count = check(libc::recvmsg(from.as_raw_fd(), header, 0));
        let first = libc::CMSG_FIRSTHDR(header);
        let files =
            if first.is_null() { 0 } else { ((*first).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4 };
        (0..files).for_each(|index| drop(owned(*libc::CMSG_DATA(first).cast::<i32>().add(index))));
        (std::slice::from_raw_parts(place, count as usize).to_vec(), files)
    }
}

/// Requests that are done at once, and such as are done when their file is ready, by whoever made it so.
fn requests() {
    let mut ring = rings::ring(8);
    // SAFETY: the places are mapped for as long as the requests take.
    unsafe {
        let counter = owned(libc::eventfd(9, libc::EFD_NONBLOCK));
        let place = cold::<u64>();
        let read = opcode::Read::new(types::Fd(counter.as_raw_fd()), place.cast(), 8).build();
        assert_eq!((rings::one(&mut ring, &read), *place), (8, 9));

        let place = cold::<u64>();
        let counter = owned(libc::eventfd(0, 0));
        let read = opcode::Read::new(types::Fd(counter.as_raw_fd()), place.cast(), 8).build();
        rings::push(&mut ring, &read.user_data(1));
        ring.submit().unwrap();
        nap(20);
        assert_eq!(libc::eventfd_write(counter.as_raw_fd(), 4), 0);
        assert_eq!((rings::complete(&mut ring, 1)[0].1, *place), (8, 4));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (name, len) = (cold::<libc::sockaddr>(), cold::<u32>());
        len.write(16);
        let accept = opcode::Accept::new(types::Fd(listener.as_raw_fd()), name, len).build();
        rings::push(&mut ring, &accept.user_data(2));
        ring.submit().unwrap();
        let client = thread::spawn({
            let to = listener.local_addr().unwrap();
            move || {
                nap(20);
                let mut client = TcpStream::connect(to).unwrap();
                nap(50);
                client.write_all(&[3; 9000]).unwrap();
                client
            }
        });
        let server = owned(rings::complete(&mut ring, 1)[0].1);
        let mut received = 0;
        while received < 9000 {
            let place = cold_before::<u8>(7);
            let receive = opcode::Recv::new(types::Fd(server.as_raw_fd()), place, 9000).build();
            let count = rings::one(&mut ring, &receive);
            assert!(count > 0 && (0..count as usize).all(|at| *place.add(at) == 3), "{count}");
            received += count;
        }
        drop(client.join().unwrap());
        udp_requests(&mut ring);
    }
}

unsafe fn udp_requests(ring: &mut io_uring::IoUring) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // SAFETY: the places are mapped for as long as the requests take.
    unsafe {
        let (header, buffer, place) = (cold::<libc::msghdr>(), cold::<libc::iovec>(), cold::<u8>());
        buffer.write(libc::iovec { iov_base: place.cast(), iov_len: 100 });
        let mut message: libc::msghdr = zeroed();
        (message.msg_name, message.msg_namelen) = (cold::<u8>().cast(), 16);
        (message.msg_iov, message.msg_iovlen) = (buffer, 1);
        header.write(message);
        let receive = opcode::RecvMsg::new(types::Fd(socket.as_raw_fd()), header).build();
        rings::push(ring, &receive.user_data(3));
        ring.submit().unwrap();
        nap(20);
        socket.send_to(b"to a ring", socket.local_addr().unwrap()).unwrap();
        assert_eq!(rings::complete(ring, 1)[0].1, 9);
        assert_eq!(std::slice::from_raw_parts(place, 9), b"to a ring");
        assert_eq!((*header).msg_namelen, 16);
    }
}

/// Another thread takes the pages away, by every way there is: a call gets there or answers `EFAULT`, and comes back.
fn taken_away() {
    let cold = cold::mapping();
    let place = cold_before::<u64>(0);
    let page = place.addr() & !(PAGE - 1);
    let (offset, size) = (page - cold.start, cold.len as i64);
    let (is_over, fd) = (AtomicBool::new(false), cold.file.as_raw_fd());
    thread::scope(|scope| {
        scope.spawn(|| {
            let read_write = libc::PROT_READ | libc::PROT_WRITE;
            for round in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                // SAFETY: only the page is unmapped and mapped again; the file gets its old size back.
                unsafe {
                    match round % 3 {
                        0 => {
                            libc::ftruncate(fd, offset as i64);
                            libc::ftruncate(fd, size);
                        }
                        1 => _ = libc::munmap(page as *mut _, PAGE),
                        _ => {
                            let shared = libc::MAP_SHARED | libc::MAP_FIXED;
                            libc::mmap(page as *mut _, PAGE, read_write, shared, fd, offset as i64);
                        }
                    }
                }
            }
        });
        let end = Instant::now() + Duration::from_millis(500);
        let (mut good, mut bad) = (0, 0);
        // SAFETY: the counter is ours; the place may be gone, which is what is tried.
        unsafe {
            let counter = owned(libc::eventfd(0, libc::EFD_NONBLOCK));
            let (mut ends, mut one) = ([0; 2], [1_u8; 8]);
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK), 0);
            let [read, write] = ends.map(owned);
            while Instant::now() < end {
                assert_eq!(libc::eventfd_write(counter.as_raw_fd(), 1), 0);
                let result = libc::read(counter.as_raw_fd(), place.cast(), 8);
                let is_fault = io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
                assert!(result == 8 || result == -1 && is_fault, "{result}");
                // A pipe keeps what could not be copied.
                assert_eq!(libc::write(write.as_raw_fd(), one.as_ptr().cast(), 8), 8);
                match libc::read(read.as_raw_fd(), place.cast(), 8) {
                    8 => good += 1,
                    _ => {
                        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
                        assert_eq!(libc::read(read.as_raw_fd(), one.as_mut_ptr().cast(), 8), 8);
                        assert_eq!(one, [1; 8]);
                        bad += 1;
                    }
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(good + bad > 0);
        println!("  {good} were copied, {bad} could not be");
    });
}

/// Memory is short, and others want it all the time: what is read in for a call may be gone before the copy.
fn pressed() {
    let cold = cold::mapping();
    let is_over = AtomicBool::new(false);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for at in (0..cold.len).step_by(PAGE) {
                    // SAFETY: within the mapping.
                    std::hint::black_box(unsafe { ((cold.start + at) as *const u8).read_volatile() });
                }
            }
        });
        for round in 0..300_usize {
            let bytes = [round as u8 | 1; 9000];
            socket.send_to(&bytes, own).unwrap();
            let place = (cold.start + PAGE + round * 7919 * PAGE % (cold.len - 16 * PAGE) - 100) as *mut u8;
            // SAFETY: within the mapping.
            unsafe {
                let count = libc::recv(socket.as_raw_fd(), place.cast(), 10_000, 0);
                assert_eq!(count, 9000, "{}", io::Error::last_os_error());
                assert_eq!(std::slice::from_raw_parts(place, 9000), bytes);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

fn main() {
    let is_pressed = std::env::args().nth(1).as_deref() == Some("pressed");
    cold::prepare(if is_pressed { 96 << 20 } else { 24 << 20 });
    let tests: &[(&str, fn())] = &[
        ("connections", connections),
        ("datagrams", datagrams),
        ("sockets within the machine", local_sockets),
        ("requests of a ring", requests),
        ("pages that are taken away meanwhile", taken_away),
    ];
    let tests = if is_pressed { &[("memory is short", pressed as fn())] } else { tests };
    for (name, test) in tests {
        println!("{name}");
        test();
    }
    println!("page_in_sockets: all well");
}
