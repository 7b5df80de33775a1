//! io_uring(7) over TCP: connecting, accepting and receiving again and again into buffers that the kernel
//! chooses, all or nothing, two threads with a ring each.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use guest_tests::rings::{ECANCELED, ETIME, complete, fd, nap, one, pipe, push, results, ring};
use io_uring::types::{Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("connections", connections),
        ("accepting and receiving again and again", multishot),
        ("all or nothing", wait_all),
        ("messages into buffers of the kernel's choice", messages),
        ("two threads", two_threads),
        ("buffers of the kernel's choice, and none", selection),
        ("a wait that ends early", short_waits),
        ("commands of sockets", commands),
        ("an address without a length", nameless),
        ("addresses of every family, as the calls take them", families),
        ("bytes from pipe to pipe", splices),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn connections() {
    let mut ring = ring(16);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accept = opcode::Accept::new(fd(&listener), std::ptr::null_mut(), std::ptr::null_mut()).build();
    push(&mut ring, &accept.user_data(1));
    let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
    let client = one(&mut ring, &socket);
    assert!(client >= 0);
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let connect = opcode::Connect::new(Fd(client), (&raw const address).cast(), 16).build();
    push(&mut ring, &connect.user_data(2));
    let done = results(&mut ring, 2);
    assert_eq!(done[1], (2, 0));
    let server = done[0].1;
    let mut buffer = [0_u8; 16];
    let receive = opcode::Recv::new(Fd(server), buffer.as_mut_ptr(), 16).build();
    push(&mut ring, &receive.user_data(3));
    ring.submit().unwrap();
    push(&mut ring, &opcode::Send::new(Fd(client), b"ping".as_ptr(), 4).build().user_data(4));
    assert_eq!(results(&mut ring, 2), [(3, 4), (4, 4)]);
    assert_eq!(&buffer[..4], b"ping");
    assert_eq!(one(&mut ring, &opcode::Shutdown::new(Fd(client), libc::SHUT_WR).build()), 0);
    let receive = opcode::Recv::new(Fd(server), buffer.as_mut_ptr(), 16).build();
    assert_eq!(one(&mut ring, &receive), 0);
    // Nobody listens where the listener was.
    drop(listener);
    for number in [client, server] {
        // SAFETY: the numbers came from the kernel above and belong to nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let again = one(&mut ring, &opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build());
    let connect = opcode::Connect::new(Fd(again), (&raw const address).cast(), 16).build();
    assert_eq!(one(&mut ring, &connect), -libc::ECONNREFUSED);
    assert_eq!(one(&mut ring, &opcode::Close::new(Fd(again)).build()), 0);
}

fn multishot() {
    let mut ring = ring(16);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push(&mut ring, &opcode::AcceptMulti::new(fd(&listener)).build().user_data(1));
    ring.submit().unwrap();
    let mut clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    let accepted = complete(&mut ring, 3);
    assert!(accepted.iter().all(|(data, fd, flags)| *data == 1 && *fd >= 0 && cqueue::more(*flags)));
    push(&mut ring, &opcode::AsyncCancel::new(1).build().user_data(2));
    assert_eq!(results(&mut ring, 2), [(1, ECANCELED), (2, 0)]);

    let mut memory = [[0_u8; 8]; 4];
    let provide = opcode::ProvideBuffers::new(memory.as_mut_ptr().cast(), 8, 4, 7, 0).build();
    assert_eq!(one(&mut ring, &provide), 0);
    push(&mut ring, &opcode::RecvMulti::new(Fd(accepted[0].1), 7).build().user_data(3));
    ring.submit().unwrap();
    for word in [&b"one"[..], b"three"] {
        clients[0].write_all(word).unwrap();
        let (_, len, flags) = complete(&mut ring, 1)[0];
        let buffer = cqueue::buffer_select(flags).unwrap();
        assert_eq!((len, cqueue::more(flags)), (word.len() as i32, true));
        assert_eq!(&memory[usize::from(buffer)][..word.len()], word);
    }
    // Two buffers are left; the third piece finds none.
    clients[0].write_all(&[b'x'; 24]).unwrap();
    let seen = complete(&mut ring, 3);
    assert_eq!(seen.iter().map(|(_, result, _)| *result).collect::<Vec<_>>(), [8, 8, -libc::ENOBUFS]);
    assert!(!cqueue::more(seen[2].2));
    for (_, number, _) in accepted {
        // SAFETY: as above.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

fn wait_all() {
    let mut ring = ring(8);
    let (mut client, server) = pair();
    let mut buffer = [0_u8; 10];
    let receive = opcode::Recv::new(fd(&server), buffer.as_mut_ptr(), 10).flags(libc::MSG_WAITALL).build();
    push(&mut ring, &receive);
    ring.submit().unwrap();
    for part in [&b"abc"[..], b"defg", b"hij"] {
        assert_eq!(ring.completion().len(), 0);
        client.write_all(part).unwrap();
        nap();
    }
    assert_eq!(complete(&mut ring, 1)[0].1, 10);
    assert_eq!(&buffer, b"abcdefghij");
    // The other way: more than the buffers of a connection hold.
    let big = vec![7_u8; 4 << 20];
    let send =
        opcode::Send::new(fd(&server), big.as_ptr(), big.len() as u32).flags(libc::MSG_WAITALL).build();
    push(&mut ring, &send);
    ring.submit().unwrap();
    let reader = thread::spawn(move || {
        let mut all = vec![0; 4 << 20];
        client.read_exact(&mut all).unwrap();
        all.iter().all(|byte| *byte == 7)
    });
    assert_eq!(complete(&mut ring, 1)[0].1, 4 << 20);
    assert!(reader.join().unwrap());
}

/// recvmsg(2) with provided buffers: once, with the header where the app has it, and again and again, with all
/// in the buffer (io_uring_recvmsg_out(3)).
fn messages() {
    let mut ring = ring(8);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let mut memory = [[0_u8; 64]; 4];
    let provide = opcode::ProvideBuffers::new(memory.as_mut_ptr().cast(), 64, 4, 1, 0).build();
    assert_eq!(one(&mut ring, &provide), 0);
    // SAFETY: all bits of the three may be zero.
    let (mut header, mut name, mut part) = unsafe {
        (std::mem::zeroed::<libc::msghdr>(), std::mem::zeroed::<libc::sockaddr_in>(), std::mem::zeroed())
    };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = 16;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    let once = opcode::RecvMsg::new(fd(&receiver), &raw mut header).buf_group(1).build();
    push(&mut ring, &once.flags(squeue::Flags::BUFFER_SELECT));
    ring.submit().unwrap();
    sender.send_to(b"once", to).unwrap();
    let (_, len, flags) = complete(&mut ring, 1)[0];
    assert_eq!((len, name.sin_port), (4, sender.local_addr().unwrap().port().to_be()));
    assert_eq!(&memory[usize::from(cqueue::buffer_select(flags).unwrap())][..4], b"once");

    push(&mut ring, &opcode::RecvMsgMulti::new(fd(&receiver), &raw const header, 1).build());
    ring.submit().unwrap();
    for text in [&b"first"[..], b"longer than the room that there is in a buffer"] {
        sender.send_to(text, to).unwrap();
        let (_, len, flags) = complete(&mut ring, 1)[0];
        assert!(cqueue::more(flags));
        let buffer = &memory[usize::from(cqueue::buffer_select(flags).unwrap())];
        let message = RecvMsgOut::parse(&buffer[..len as usize], &header).unwrap();
        let room = 64 - 16 - 16;
        assert_eq!(message.payload_data(), &text[..text.len().min(room)]);
        assert_eq!(message.is_payload_truncated(), text.len() > room);
        assert_eq!(message.name_data()[2..4], sender.local_addr().unwrap().port().to_be_bytes());
    }
}

/// Each thread has a ring, and each sends what the other waits for.
fn two_threads() {
    const ROUNDS: u32 = 500;
    let (left, right) = pair();
    let play = |stream: TcpStream, begins: bool| {
        let mut ring = ring(8);
        let mut buffer = [0_u8; 4];
        for round in 0..ROUNDS {
            let bytes = round.to_ne_bytes();
            if begins {
                assert_eq!(one(&mut ring, &opcode::Send::new(fd(&stream), bytes.as_ptr(), 4).build()), 4);
            }
            assert_eq!(one(&mut ring, &opcode::Recv::new(fd(&stream), buffer.as_mut_ptr(), 4).build()), 4);
            assert_eq!(buffer, bytes);
            if !begins {
                assert_eq!(one(&mut ring, &opcode::Send::new(fd(&stream), bytes.as_ptr(), 4).build()), 4);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| play(left, true));
        scope.spawn(|| play(right, false));
    });
}

fn selection() {
    let mut ring = ring(8);
    let mut memory = [[0_u8; 512]; 2];
    let provide = opcode::ProvideBuffers::new(memory.as_mut_ptr().cast(), 512, 2, 7, 0).build();
    assert_eq!(one(&mut ring, &provide), 0);
    // readv(2) takes as much as its one vector says.
    let (reader, writer) = pipe();
    rustix::io::write(&writer, &[b'x'; 300]).unwrap();
    let select = squeue::Flags::BUFFER_SELECT;
    let vector = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 200 }; 2];
    let read =
        |count| opcode::Readv::new(fd(&reader), vector.as_ptr(), count).offset(u64::MAX).buf_group(7).build();
    assert_eq!(one(&mut ring, &read(2).flags(select)), -libc::EINVAL);
    push(&mut ring, &read(1).flags(select));
    let (_, len, flags) = complete(&mut ring, 1)[0];
    assert_eq!((len, cqueue::buffer_select(flags)), (200, Some(0)));
    let write = opcode::Writev::new(fd(&writer), vector.as_ptr(), 1).build();
    assert_eq!(one(&mut ring, &write.flags(select)), -libc::EOPNOTSUPP);
    // Again and again, until there is no buffer left for more bytes.
    let (sender, receiver) = pair();
    push(&mut ring, &opcode::RecvMulti::new(fd(&receiver), 7).build());
    ring.submit().unwrap();
    (&sender).write_all(b"one").unwrap();
    let (_, len, flags) = complete(&mut ring, 1)[0];
    assert_eq!((len, cqueue::more(flags)), (3, true));
    (&sender).write_all(b"two").unwrap();
    let (_, len, flags) = complete(&mut ring, 1)[0];
    assert_eq!((len, cqueue::more(flags)), (-libc::ENOBUFS, false));
    (&receiver).read_exact(&mut [0; 3]).unwrap();
    // Behind a message it is told at once.
    assert_eq!(one(&mut ring, &provide), 0);
    let (left, right) = std::os::unix::net::UnixDatagram::pair().unwrap();
    push(&mut ring, &opcode::RecvMulti::new(fd(&left), 7).build());
    ring.submit().unwrap();
    right.send(b"a").unwrap();
    right.send(b"bc").unwrap();
    let done: Vec<_> = complete(&mut ring, 3).into_iter().map(|(_, result, _)| result).collect();
    assert_eq!(done, [1, 2, -libc::ENOBUFS]);
    // Who begins is told at once, whether or not there is data.
    for group in [7, 8] {
        let receive = opcode::Recv::new(fd(&receiver), std::ptr::null_mut(), 0).buf_group(group).build();
        assert_eq!(one(&mut ring, &receive.flags(select)), -libc::ENOBUFS);
    }
    let read = opcode::Read::new(fd(&reader), std::ptr::null_mut(), 8).offset(u64::MAX).buf_group(8).build();
    assert_eq!(one(&mut ring, &read.flags(select)), -libc::ENOBUFS);
}

extern "C" fn ignore(_: i32) {}

/// Neither a time-out nor a signal keeps completions from the app.
fn short_waits() {
    let mut ring = ring(8);
    let limit = Timespec::new().nsec(30_000_000);
    let args = SubmitArgs::new().timespec(&limit);
    assert_eq!(ring.submitter().submit_with_args(1, &args).unwrap_err().raw_os_error(), Some(-ETIME));
    let alarm = || unsafe {
        // SAFETY: whole structures; the handler does nothing.
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        let time = |tv_usec| libc::timeval { tv_sec: 0, tv_usec };
        let once = libc::itimerval { it_interval: time(0), it_value: time(30_000) };
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const once, 0);
    };
    alarm();
    assert_eq!(ring.submitter().submit_and_wait(1).unwrap_err().raw_os_error(), Some(libc::EINTR));
    push(&mut ring, &opcode::Nop::new().build());
    assert_eq!(ring.submit().unwrap(), 1);
    assert_eq!(ring.submitter().submit_with_args(2, &args).unwrap(), 0);
    alarm();
    assert_eq!(ring.submitter().submit_and_wait(2).unwrap(), 0);
    assert_eq!(ring.completion().count(), 1);
}

/// A command for a socket, with level and name of an option, and its value (io_uring_prep_cmd_sock(3)).
fn command(socket: &TcpStream, command: u32, option: [i32; 2], value: &mut i32, len: u32) -> squeue::Entry {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&((&raw mut *value).addr() as u64).to_ne_bytes());
    let word = |half: i32| u64::from(half as u32);
    let address = word(option[0]) | word(option[1]) << 32;
    let entry = opcode::UringCmd16::new(fd(socket), command).cmd(bytes).addr(Some(address)).build();
    // SAFETY: an entry is 64 bytes without padding; the length of an option's value lies where `splice_fd_in` does.
    unsafe {
        let mut raw: [u8; 64] = std::mem::transmute(entry);
        raw[44..48].copy_from_slice(&len.to_ne_bytes());
        std::mem::transmute(raw)
    }
}

fn commands() {
    const IN_QUEUE: u32 = 0;
    const OUT_QUEUE: u32 = 1;
    const GET: u32 = 2;
    const SET: u32 = 3;
    let mut ring = ring(8);
    let (one_end, other) = pair();
    let mut value = 0;
    (&other).write_all(b"12345").unwrap();
    nap();
    let mut ask =
        |what, option, value: &mut i32, len| one(&mut ring, &command(&one_end, what, option, value, len));
    assert_eq!(ask(IN_QUEUE, [0; 2], &mut value, 0), 5);
    assert_eq!(ask(OUT_QUEUE, [0; 2], &mut value, 0), 0);
    let keep_alive = [libc::SOL_SOCKET, libc::SO_KEEPALIVE];
    value = 1;
    assert_eq!(ask(SET, keep_alive, &mut value, 4), 0);
    value = 7;
    assert_eq!((ask(GET, keep_alive, &mut value, 4), value), (4, 1));
    assert_eq!(ask(GET, [libc::SOL_SOCKET, libc::SO_TYPE], &mut value, 2), 2);
    let no_delay = [libc::IPPROTO_TCP, libc::TCP_NODELAY];
    assert_eq!(ask(SET, no_delay, &mut value, 4), 0);
    assert!(one_end.nodelay().unwrap());
    assert_eq!(ask(GET, no_delay, &mut value, 4), -libc::EOPNOTSUPP);
    assert_eq!(ask(SET, keep_alive, &mut value, 1), -libc::EINVAL);
    assert_eq!(ask(99, [0; 2], &mut value, 0), -libc::EOPNOTSUPP);
    let (reader, _writer) = pipe();
    let entry = opcode::UringCmd16::new(fd(&reader), IN_QUEUE).build();
    assert_eq!(one(&mut ring, &entry), -libc::EOPNOTSUPP);
}

/// sendmsg(2), by itself and as a request, takes an address of no length as none.
fn nameless() {
    let mut ring = ring(8);
    let (one_end, mut other) = pair();
    let part = libc::iovec { iov_base: b"hi".as_ptr().cast_mut().cast(), iov_len: 2 };
    // SAFETY: all is whole, and nothing is written to.
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    (header.msg_iov, header.msg_iovlen) = ((&raw const part).cast_mut(), 1);
    header.msg_name = std::ptr::without_provenance_mut(8);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::sendmsg(one_end.as_raw_fd(), &header, 0) }, 2);
    assert_eq!(one(&mut ring, &opcode::SendMsg::new(fd(&one_end), &header).build()), 2);
    let mut bytes = [0; 4];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hihi");
}

/// A `sockaddr` of a family with a port, on the loopback of IPv4, or of IPv6 where it is all zeros.
fn address(family: u16, port: u16) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}

fn outcome(result: isize) -> i32 {
    if result < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap() } else { result as i32 }
}

fn families() {
    let mut ring = ring(8);
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port();
    for kind in [libc::AF_INET, libc::AF_INET6] {
        for family in [libc::AF_UNSPEC, libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, 77] {
            for len in [2_u16, 15, 16, 24, 28] {
                // SAFETY: no argument is a pointer.
                let made = unsafe { libc::socket(kind, libc::SOCK_DGRAM, 0) };
                // SAFETY: it was made a moment ago.
                let socket = unsafe { OwnedFd::from_raw_fd(made) };
                let to = address(family as u16, port);
                // SAFETY: the bytes and the address live as long as the call.
                let called = outcome(unsafe {
                    libc::sendto(made, b"x".as_ptr().cast(), 1, 0, to.as_ptr().cast(), len.into())
                });
                let send = opcode::Send::new(fd(&socket), b"x".as_ptr(), 1)
                    .dest_addr(to.as_ptr().cast())
                    .dest_addr_len(len.into());
                assert_eq!(one(&mut ring, &send.build()), called, "send {kind} {family} {len}");
                // SAFETY: the address lives as long as the call.
                let called = outcome(unsafe { libc::connect(made, to.as_ptr().cast(), len.into()) } as isize);
                let connect = opcode::Connect::new(fd(&socket), to.as_ptr().cast(), len.into()).build();
                assert_eq!(one(&mut ring, &connect), called, "connect {kind} {family} {len}");
            }
        }
    }
}

fn splices() {
    let mut ring = ring(8);
    let ((first, fill), (last, other)) = (pipe(), pipe());
    // Whichever end is not ready is waited for.
    let splice = |len| opcode::Splice::new(fd(&first), -1, fd(&other), -1, len).build();
    push(&mut ring, &splice(64).user_data(1));
    ring.submit().unwrap();
    nap();
    assert_eq!(ring.completion().count(), 0);
    rustix::io::write(&fill, b"bytes").unwrap();
    assert_eq!(complete(&mut ring, 1)[0].1, 5);
    rustix::io::write(&fill, b"again").unwrap();
    assert_eq!(one(&mut ring, &opcode::Tee::new(fd(&first), fd(&other), 3).build()), 3);
    let mut buffer = [0; 16];
    assert_eq!(rustix::io::read(&last, &mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"bytesaga");
    rustix::io::write(&other, &[7; 65_536]).unwrap();
    push(&mut ring, &splice(64).user_data(2));
    ring.submit().unwrap();
    nap();
    assert_eq!(ring.completion().count(), 0, "there is no room");
    let mut all = vec![0; 65_536];
    assert_eq!(rustix::io::read(&last, &mut all).unwrap(), 65_536);
    assert_eq!(complete(&mut ring, 1)[0].1, 5);
    // Flags say not to wait; offsets are for files alone; a number that is no file.
    let hasty = opcode::Splice::new(fd(&first), -1, fd(&other), -1, 9).flags(libc::SPLICE_F_NONBLOCK).build();
    assert_eq!(one(&mut ring, &hasty), -libc::EAGAIN);
    let placed = opcode::Splice::new(fd(&first), 3, fd(&other), -1, 9).build();
    assert_eq!(one(&mut ring, &placed), -libc::ESPIPE);
    let nowhere = opcode::Splice::new(Fd(-1), -1, fd(&other), -1, 9).build();
    assert_eq!(one(&mut ring, &nowhere), -libc::EBADF);
}
