//! io_uring(7) over TCP: connecting, accepting and receiving again and again into buffers that the kernel
//! chooses, all or nothing, two threads with a ring each.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::thread;

use guest_tests::rings::{ECANCELED, complete, fd, nap, one, push, results, ring};
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("connections", connections),
        ("accepting and receiving again and again", multishot),
        ("all or nothing", wait_all),
        ("messages into buffers of the kernel's choice", messages),
        ("two threads", two_threads),
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
