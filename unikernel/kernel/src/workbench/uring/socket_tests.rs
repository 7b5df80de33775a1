//! Operations on sockets.

use linux_raw_sys::io_uring::{
    IORING_ACCEPT_MULTISHOT, IORING_CQE_F_MORE, IORING_RECV_MULTISHOT, io_uring_op, io_uring_sqe_flags_bit,
};
use linux_raw_sys::{errno, general as linux, net};

use crate::workbench::app::files::{Buffer, close, int, read, write};
use crate::workbench::app::net::{
    DGRAM, Header, LOCALHOST, STREAM, bound, connect, listener, name, option_int, peer, recv_from, socket,
    tcp_pair, unix_pair, v4,
};
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::{run, run_seeds};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{get, join, map, put, spawn};

use io_uring_op::*;

#[test]
fn bytes_are_sent_and_received() {
    run(|| {
        let (ring, (client, server), into) = (Ring::new(4), tcp_pair(), map(64));
        ring.push(Sqe::on(IORING_OP_RECV, server, into, 64).data(1));
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        ring.push(Sqe::on(IORING_OP_SEND, client, put(b"hello"), 5).data(2));
        assert_eq!(ring.results(2), [(1, 5), (2, 5)]);
        assert_eq!(get(into, 5), b"hello");
    });
}

#[test]
fn receiving_can_refuse_to_wait() {
    run(|| {
        let (ring, (_client, server)) = (Ring::new(4), tcp_pair());
        let receive = Sqe::on(IORING_OP_RECV, server, map(64), 64).op_flags(net::MSG_DONTWAIT);
        assert_eq!(ring.one(receive), -(errno::EAGAIN as i32));
        let broken = Sqe::on(IORING_OP_SEND, 99, map(64), 4);
        assert_eq!(ring.one(broken), -(errno::EBADF as i32));
    });
}

#[test]
fn datagram_goes_to_an_address() {
    run(|| {
        let (ring, (receiver, to), (sender, from)) = (Ring::new(4), bound(DGRAM), bound(DGRAM));
        let send = Sqe::on(IORING_OP_SEND, sender, put(b"there"), 5);
        assert_eq!(ring.one(send.off(put(&to)).file_index(16)), 5);
        assert_eq!(recv_from(receiver, 9, 0), Ok((b"there".to_vec(), from)));
        assert_eq!(ring.one(send), -(errno::EDESTADDRREQ as i32));
    });
}

#[test]
fn messages_are_sent_and_received() {
    run(|| {
        let (ring, (receiver, to), (sender, from)) = (Ring::new(4), bound(DGRAM), bound(DGRAM));
        let (out, into) = (Header::to_send(&[b"ab", b"cd"], &[], &to), Header::to_receive(64, 0));
        ring.push(Sqe::on(IORING_OP_RECVMSG, receiver, into.header.address, 1).data(1));
        ring.push(Sqe::on(IORING_OP_SENDMSG, sender, out.header.address, 1).data(2));
        assert_eq!(ring.results(2), [(1, 4), (2, 4)]);
        let message = into.received(&into.bytes(), 4);
        assert_eq!((&message.data[..], message.from), (&b"abcd"[..], from));
    });
}

#[test]
fn connection_is_made_and_accepted() {
    run(|| {
        let (ring, (listener, address)) = (Ring::new(4), listener());
        ring.push(Sqe::on(IORING_OP_ACCEPT, listener, 0, 0).data(1));
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        let client = socket(net::AF_INET, STREAM);
        ring.push(Sqe::on(IORING_OP_CONNECT, client, put(&address), 0).off(16).data(2));
        let done = ring.results(2);
        assert_eq!(done[1], (2, 0));
        assert_eq!(peer(done[0].1 as u64), Ok(name(client)));
    });
}

#[test]
fn connection_to_nobody_fails() {
    run(|| {
        let (ring, (fd, address)) = (Ring::new(4), bound(STREAM));
        close(fd);
        let client = socket(net::AF_INET, STREAM);
        let connect = Sqe::on(IORING_OP_CONNECT, client, put(&address), 0).off(16);
        assert_eq!(ring.one(connect), -(errno::ECONNREFUSED as i32));
    });
}

#[test]
fn accepting_goes_on() {
    run(|| {
        let (ring, (listener, address)) = (Ring::new(8), listener());
        ring.push(Sqe::on(IORING_OP_ACCEPT, listener, 0, 0).ioprio(IORING_ACCEPT_MULTISHOT));
        ring.submit().unwrap();
        for _ in 0..3 {
            let client = socket(net::AF_INET, STREAM);
            connect(client, &address).unwrap();
            let cqe = ring.complete(1)[0];
            assert_eq!(cqe.flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
            assert_eq!(peer(cqe.result as u64), Ok(name(client)));
        }
    });
}

#[test]
fn receiving_goes_on_with_provided_buffers() {
    run(|| {
        let (ring, (client, server), memory) = (Ring::new(8), unix_pair(STREAM), map(1024));
        let provide = Sqe { fd: 2, addr: memory, len: 512, ..Sqe::new(IORING_OP_PROVIDE_BUFFERS) }.group(3);
        assert_eq!(ring.one(provide), 0);
        let receive = Sqe::on(IORING_OP_RECV, server, 0, 0).group(3).ioprio(IORING_RECV_MULTISHOT);
        ring.push(receive.flag(io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT));
        ring.submit().unwrap();
        for bytes in [&b"one"[..], b"three"] {
            write(client, bytes).unwrap();
            let cqe = ring.complete(1)[0];
            assert_eq!(cqe.result as usize, bytes.len());
            let index = u64::from(cqe.flags >> 16);
            assert_eq!(get(memory + index * 512, bytes.len()), bytes);
        }
        write(client, b"more").unwrap();
        let last = ring.complete(1)[0];
        assert_eq!((last.result, last.flags & IORING_CQE_F_MORE), (-(errno::ENOBUFS as i32), 0));
    });
}

#[test]
fn sockets_are_made_bound_and_listened_at() {
    run(|| {
        let ring = Ring::new(4);
        let make = Sqe { fd: net::AF_INET as i32, off: STREAM.into(), ..Sqe::new(IORING_OP_SOCKET) };
        let fd = ring.one(make) as u64;
        assert_eq!(ring.one(Sqe::on(IORING_OP_BIND, fd, put(&v4(LOCALHOST, 0)), 0).off(16)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_LISTEN, fd, 0, 4)), 0);
        assert_eq!(option_int(fd, net::SOL_SOCKET, net::SO_ACCEPTCONN), Ok(1));
        assert_eq!(connect(socket(net::AF_INET, STREAM), &name(fd)), Ok(0));
    });
}

#[test]
fn shutdown_ends_a_direction() {
    run(|| {
        let (ring, (client, server)) = (Ring::new(4), tcp_pair());
        assert_eq!(ring.one(Sqe::on(IORING_OP_SHUTDOWN, client, 0, net::SHUT_WR.into())), 0);
        assert_eq!(read(server, 1), Ok([].to_vec()));
        let fresh = socket(net::AF_INET, STREAM);
        let shutdown = Sqe::on(IORING_OP_SHUTDOWN, fresh, 0, net::SHUT_WR.into());
        assert_eq!(ring.one(shutdown), -(errno::ENOTCONN as i32));
    });
}

#[test]
fn sending_without_a_copy_completes_twice() {
    run(|| {
        let (ring, (client, server)) = (Ring::new(4), tcp_pair());
        ring.push(Sqe::on(IORING_OP_SEND_ZC, client, put(b"hello"), 5));
        let done = ring.complete(2);
        assert_eq!((done[0].result, done[0].flags & IORING_CQE_F_MORE), (5, IORING_CQE_F_MORE));
        // IORING_CQE_F_NOTIF
        assert_eq!((done[1].result, done[1].flags & 8), (0, 8));
        assert_eq!(read(server, 9), Ok(b"hello".to_vec()));
    });
}

#[test]
fn commands_of_a_socket() {
    run(|| {
        let (ring, (client, server)) = (Ring::new(4), tcp_pair());
        write(client, b"12345").unwrap();
        assert_eq!(poll(server, linux::POLLIN, 1000), linux::POLLIN);
        // SOCKET_URING_OP_SIOCINQ
        assert_eq!(ring.one(Sqe::on(IORING_OP_URING_CMD, server, 0, 0)), 5);
        assert_eq!(ring.one(Sqe::on(IORING_OP_URING_CMD, server, 0, 0).off(99)), -(errno::EOPNOTSUPP as i32));
    });
}

#[test]
fn two_threads_with_rings_play_ping_pong() {
    run_seeds(10, || {
        let (left, right) = tcp_pair();
        let play = |fd: u64, begins: bool| {
            let (ring, buffer) = (Ring::new(4), Buffer::zeroed(4));
            for round in 0..15_i32 {
                let send = || {
                    let bytes = Buffer::new(&round.to_ne_bytes());
                    assert_eq!(ring.one(Sqe::on(IORING_OP_SEND, fd, bytes.address, 4)), 4);
                };
                if begins {
                    send();
                }
                assert_eq!(ring.one(Sqe::on(IORING_OP_RECV, fd, buffer.address, 4)), 4);
                assert_eq!(int(&buffer.bytes(4)), round);
                if !begins {
                    send();
                }
            }
        };
        let other = spawn(move || play(right, false)).unwrap();
        play(left, true);
        join(other);
    });
}
