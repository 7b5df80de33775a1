//! UDP (udp(7), ip(7), ipv6(7)): datagrams, their errors, and what comes beside them.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, ioctl, net};

use crate::workbench::app::files::{Buffer, close, int, read, sleep_ms, write};
use crate::workbench::app::net::{
    DGRAM, LOCALHOST, bind, bound, connect, ioctl_int, name, option_int, peer, recv, recv_from, recv_message,
    send, send_message, send_to, set_int, socket, v4, v6_localhost,
};
use crate::workbench::app::run::{run, sys};
use crate::workbench::app::wait::poll;

const IP: u32 = net::SOL_IP;
const IPV6: u32 = net::SOL_IPV6;
const UDP: u32 = net::SOL_UDP;
/// `linux/udp.h`
const UDP_CORK: u32 = 1;
const UDP_SEGMENT: u32 = 103;
const UDP_GRO: u32 = 104;

fn unconnected() -> Vec<u8> {
    alloc::vec![0; 16]
}

#[test]
fn datagrams_keep_their_borders() {
    run(|| {
        let ((receiver, to), (sender, from)) = (bound(DGRAM), bound(DGRAM));
        for message in [&b"one"[..], b"", b"three"] {
            assert_eq!(send_to(sender, message, 0, &to), Ok(message.len()));
        }
        for message in [&b"one"[..], b"", b"three"] {
            assert_eq!(recv_from(receiver, 100, 0), Ok((message.to_vec(), from.clone())));
        }
    });
}

#[test]
fn what_does_not_fit_is_lost() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        send_to(sender, b"long one", 0, &to).unwrap();
        send_to(sender, b"next", 0, &to).unwrap();
        let message = recv_message(receiver, 4, 0, 0).unwrap();
        assert_eq!((&message.data[..], message.flags), (&b"long"[..], net::MSG_TRUNC));
        assert_eq!(read(receiver, 9), Ok(b"next".to_vec()));
    });
}

#[test]
fn whole_length_is_told_on_demand() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        send_to(sender, b"long one", 0, &to).unwrap();
        let room = Buffer::zeroed(4);
        let flags = (net::MSG_TRUNC | net::MSG_PEEK).into();
        assert_eq!(sys(linux::__NR_recvfrom, &[receiver, room.address, 4, flags, 0, 0]), Ok(8));
        assert_eq!(ioctl_int(receiver, ioctl::FIONREAD), Ok(8));
        assert_eq!(read(receiver, 9), Ok(b"long one".to_vec()));
    });
}

#[test]
fn connected_socket_hears_its_peer_alone() {
    run(|| {
        let ((receiver, to), (friend, friend_name), (stranger, _)) =
            (bound(DGRAM), bound(DGRAM), bound(DGRAM));
        assert_eq!(connect(receiver, &friend_name), Ok(0));
        assert_eq!(peer(receiver), Ok(friend_name));
        send_to(stranger, b"no", 0, &to).unwrap();
        send_to(friend, b"yes", 0, &to).unwrap();
        assert_eq!(read(receiver, 9), Ok(b"yes".to_vec()));
        assert_eq!(recv(receiver, 9, net::MSG_DONTWAIT), Err(errno::EAGAIN));
        assert_eq!(write(receiver, b"back"), Ok(4));
        assert_eq!(read(friend, 9), Ok(b"back".to_vec()));
    });
}

#[test]
fn connection_is_dissolved() {
    run(|| {
        let (_receiver, to) = bound(DGRAM);
        let sender = socket(net::AF_INET, DGRAM);
        assert_eq!(write(sender, b"x"), Err(errno::EDESTADDRREQ));
        connect(sender, &to).unwrap();
        assert_eq!(name(sender)[4..8], LOCALHOST);
        assert_eq!(connect(sender, &unconnected()), Ok(0));
        assert_eq!(peer(sender), Err(errno::ENOTCONN));
        assert_eq!(write(sender, b"x"), Err(errno::EDESTADDRREQ));
    });
}

#[test]
fn nobody_at_a_port_is_an_error_of_the_connected() {
    run(|| {
        let ((gone, to), sender) = (bound(DGRAM), socket(net::AF_INET, DGRAM));
        close(gone);
        connect(sender, &to).unwrap();
        assert_eq!(write(sender, b"x"), Ok(1));
        assert_eq!(poll(sender, linux::POLLIN, 1000) & linux::POLLERR, linux::POLLERR);
        assert_eq!(read(sender, 1), Err(errno::ECONNREFUSED));
        assert_eq!(recv(sender, 1, net::MSG_DONTWAIT), Err(errno::EAGAIN));
    });
}

#[test]
fn nobody_at_a_port_is_no_error_of_the_unconnected() {
    run(|| {
        let ((gone, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        close(gone);
        assert_eq!(send_to(sender, b"x", 0, &to), Ok(1));
        sleep_ms(10);
        assert_eq!(option_int(sender, net::SOL_SOCKET, net::SO_ERROR), Ok(0));
    });
}

#[test]
fn errors_wait_in_a_queue() {
    run(|| {
        for (family, address, level, name, origin, kind, code) in [
            (net::AF_INET, v4(LOCALHOST, 0), IP, net::IP_RECVERR, 2, 3, 3),
            (net::AF_INET6, v6_localhost(0), IPV6, net::IPV6_RECVERR, 3, 1, 4),
        ] {
            let (gone, sender) = (socket(family, DGRAM), socket(family, DGRAM));
            bind(gone, &address).unwrap();
            let to = crate::workbench::app::net::name(gone);
            close(gone);
            assert_eq!(recv_message(sender, 9, 256, net::MSG_ERRQUEUE), Err(errno::EAGAIN));
            set_int(sender, level, name, 1).unwrap();
            send_to(sender, b"anyone?", 0, &to).unwrap();
            assert_eq!(poll(sender, 0, 1000), linux::POLLERR);
            let message = recv_message(sender, 64, 256, net::MSG_ERRQUEUE).unwrap();
            assert_eq!((&message.data[..], &message.from), (&b"anyone?"[..], &to));
            assert_eq!(message.flags, net::MSG_ERRQUEUE);
            let error = message.find(level, name).unwrap();
            assert_eq!(int(error), errno::ECONNREFUSED as i32);
            assert_eq!(error[4..7], [origin, kind, code]);
            assert_eq!(recv_message(sender, 9, 256, net::MSG_ERRQUEUE), Err(errno::EAGAIN));
            assert_eq!(option_int(sender, net::SOL_SOCKET, net::SO_ERROR), Ok(0));
        }
    });
}

#[test]
fn broadcast_needs_leave() {
    run(|| {
        let sender = socket(net::AF_INET, DGRAM);
        assert_eq!(send_to(sender, b"x", 0, &v4([255; 4], 9)), Err(errno::EACCES));
    });
}

#[test]
fn address_of_a_datagram_is_minded() {
    run(|| {
        let (sender, _) = bound(DGRAM);
        assert_eq!(send_to(sender, b"x", 0, &v4(LOCALHOST, 0)), Err(errno::EINVAL));
        assert_eq!(send_to(sender, b"x", 0, &v4(LOCALHOST, 9)[..15]), Err(errno::EINVAL));
        assert_eq!(send_to(sender, b"x", 0, &v6_localhost(9)), Err(errno::EAFNOSUPPORT));
    });
}

#[test]
fn largest_datagram_arrives_and_a_larger_does_not() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let data: Vec<u8> = (0..65_507).map(|index| (index % 251) as u8).collect();
        assert_eq!(send_to(sender, &data, 0, &to), Ok(65_507));
        assert!(read(receiver, 65_536).unwrap() == data);
        assert_eq!(send_to(sender, &[0; 65_508], 0, &to), Err(errno::EMSGSIZE));
    });
}

#[test]
fn full_receiver_drops() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        for _ in 0..1000 {
            assert_eq!(send_to(sender, &[1; 8000], 0, &to), Ok(8000));
        }
        let got = core::iter::from_fn(|| recv(receiver, 8000, net::MSG_DONTWAIT).ok()).count();
        assert!((1..1000).contains(&got), "{got}");
    });
}

#[test]
fn corked_writes_are_one_datagram() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        connect(sender, &to).unwrap();
        assert_eq!(set_int(sender, UDP, UDP_CORK, 1), Ok(0));
        assert_eq!(option_int(sender, UDP, UDP_CORK), Ok(1));
        write(sender, b"one").unwrap();
        write(sender, b"two").unwrap();
        assert_eq!(recv(receiver, 9, net::MSG_DONTWAIT), Err(errno::EAGAIN));
        assert_eq!(set_int(sender, UDP, UDP_CORK, 0), Ok(0));
        assert_eq!(read(receiver, 9), Ok(b"onetwo".to_vec()));
    });
}

#[test]
fn more_is_a_cork_for_one_datagram() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        connect(sender, &to).unwrap();
        send(sender, b"one", net::MSG_MORE).unwrap();
        send(sender, b"two", 0).unwrap();
        send(sender, b"three", 0).unwrap();
        assert_eq!(read(receiver, 9), Ok(b"onetwo".to_vec()));
        assert_eq!(read(receiver, 9), Ok(b"three".to_vec()));
    });
}

#[test]
fn long_buffer_is_cut_in_segments() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let data: Vec<u8> = (0..250).collect();
        assert_eq!(set_int(sender, UDP, UDP_SEGMENT, 100), Ok(0));
        assert_eq!(send_to(sender, &data, 0, &to), Ok(250));
        for piece in data.chunks(100) {
            assert_eq!(read(receiver, 300), Ok(piece.to_vec()));
        }
        assert_eq!(set_int(sender, UDP, UDP_SEGMENT, 65_536), Err(errno::EINVAL));
        assert_eq!(set_int(sender, UDP, UDP_SEGMENT, -1), Err(errno::EINVAL));
    });
}

#[test]
fn segment_of_a_message_is_its_own() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let segment = (UDP, UDP_SEGMENT, 4_u16.to_ne_bytes().to_vec());
        assert_eq!(send_message(sender, &[b"abcdef"], &[segment], &to), Ok(6));
        assert_eq!(read(receiver, 9), Ok(b"abcd".to_vec()));
        assert_eq!(read(receiver, 9), Ok(b"ef".to_vec()));
    });
}

#[test]
fn segments_are_joined_for_who_asks() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        set_int(receiver, UDP, UDP_GRO, 1).unwrap();
        set_int(sender, UDP, UDP_SEGMENT, 1200).unwrap();
        let data: Vec<u8> = (0..5000_u32).map(|byte| byte as u8).collect();
        send_to(sender, &data, 0, &to).unwrap();
        let mut got = Vec::new();
        while got.len() < 5000 {
            let message = recv_message(receiver, 65_536, 256, 0).unwrap();
            if message.data.len() > 1200 {
                assert_eq!(message.find(UDP, UDP_GRO).map(int), Some(1200));
            }
            got.extend(message.data);
        }
        assert_eq!(got, data);
    });
}
