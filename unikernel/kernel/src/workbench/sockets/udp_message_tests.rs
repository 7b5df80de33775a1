//! What comes beside the bytes of a datagram (ip(7), ipv6(7), udp(7)), and several datagrams in one call.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, net};

use crate::workbench::app::files::{Buffer, int, now_ms, read, sleep_ms, timespec};
use crate::workbench::app::net::{
    DGRAM, Header, LOCALHOST, bind, bound, connect, name, option_int, recv_message, send_message, send_to,
    set_int, shutdown, socket, v6_localhost,
};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::{join, spawn};

const IP: u32 = net::SOL_IP;
const IPV6: u32 = net::SOL_IPV6;
const UDP: u32 = net::SOL_UDP;
const UDP_SEGMENT: u32 = 103;
const LOOPBACK: i32 = 1;

#[test]
fn headers_of_ipv4_are_told() {
    run(|| {
        let ((receiver, to), (sender, from)) = (bound(DGRAM), bound(DGRAM));
        for name in [net::IP_PKTINFO, net::IP_RECVTOS, net::IP_RECVTTL] {
            assert_eq!(set_int(receiver, IP, name, 1), Ok(0));
            assert_eq!(option_int(receiver, IP, name), Ok(1));
        }
        set_int(sender, IP, net::IP_TOS, 0x2a).unwrap();
        set_int(sender, IP, net::IP_TTL, 33).unwrap();
        send_to(sender, b"told", 0, &to).unwrap();
        let message = recv_message(receiver, 64, 256, 0).unwrap();
        assert_eq!(message.from, from);
        assert_eq!(message.find(IP, net::IP_TOS), Some(&[0x2a][..]));
        assert_eq!(message.find(IP, net::IP_TTL).map(int), Some(33));
        let info = [&LOOPBACK.to_ne_bytes()[..], &LOCALHOST, &LOCALHOST].concat();
        assert_eq!(message.find(IP, net::IP_PKTINFO), Some(&info[..]));
    });
}

#[test]
fn headers_of_ipv6_are_told() {
    run(|| {
        let (receiver, sender) = (socket(net::AF_INET6, DGRAM), socket(net::AF_INET6, DGRAM));
        bind(receiver, &v6_localhost(0)).unwrap();
        for name in [net::IPV6_RECVPKTINFO, net::IPV6_RECVTCLASS, net::IPV6_RECVHOPLIMIT] {
            assert_eq!(set_int(receiver, IPV6, name, 1), Ok(0));
        }
        set_int(sender, IPV6, net::IPV6_TCLASS, 0x51).unwrap();
        set_int(sender, IPV6, net::IPV6_UNICAST_HOPS, 9).unwrap();
        send_to(sender, b"six", 0, &name(receiver)).unwrap();
        let message = recv_message(receiver, 64, 256, 0).unwrap();
        assert_eq!(message.find(IPV6, net::IPV6_TCLASS).map(int), Some(0x51));
        assert_eq!(message.find(IPV6, net::IPV6_HOPLIMIT).map(int), Some(9));
        let info = [&v6_localhost(0)[8..24], &LOOPBACK.to_ne_bytes()].concat();
        assert_eq!(message.find(IPV6, net::IPV6_PKTINFO), Some(&info[..]));
    });
}

#[test]
fn headers_are_set_by_a_message() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        set_int(receiver, IP, net::IP_RECVTOS, 1).unwrap();
        let tos = (IP, net::IP_TOS, 1_i32.to_ne_bytes().to_vec());
        assert_eq!(send_message(sender, &[b"set"], &[tos], &to), Ok(3));
        assert_eq!(send_message(sender, &[b"own"], &[], &to), Ok(3));
        for expected in [1, 0] {
            let message = recv_message(receiver, 64, 256, 0).unwrap();
            assert_eq!(message.find(IP, net::IP_TOS), Some(&[expected][..]));
        }
    });
}

#[test]
fn bad_control_messages_are_refused() {
    run(|| {
        let ((_receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        for control in [
            (IP, net::IP_TTL, 0_i32.to_ne_bytes().to_vec()),
            (IP, net::IP_TTL, 256_i32.to_ne_bytes().to_vec()),
            (IP, net::IP_TOS, alloc::vec![0; 2]),
            (IP, net::IP_PKTINFO, alloc::vec![0; 11]),
            (UDP, UDP_SEGMENT, alloc::vec![0; 4]),
            (IP, 199, Vec::new()),
        ] {
            assert_eq!(
                send_message(sender, &[b"no"], core::slice::from_ref(&control), &to),
                Err(errno::EINVAL),
                "{control:?}"
            );
        }
    });
}

#[test]
fn room_for_control_messages_is_minded() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        set_int(receiver, IP, net::IP_RECVTTL, 1).unwrap();
        for (room, flags) in [(24, 0), (8, net::MSG_CTRUNC), (0, net::MSG_CTRUNC)] {
            send_to(sender, b"room", 0, &to).unwrap();
            let message = recv_message(receiver, 64, room, 0).unwrap();
            assert_eq!((message.flags, message.control.len()), (flags, usize::from(flags == 0)), "{room}");
        }
    });
}

#[test]
fn many_messages_in_one_call() {
    run(|| {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let headers: Vec<Header> =
            [&b"one"[..], b"three"].iter().map(|bytes| Header::to_send(&[bytes], &[], &to)).collect();
        let entries: Vec<u8> =
            headers.iter().flat_map(|header| [header.bytes(), alloc::vec![0; 8]].concat()).collect();
        let vector = Buffer::new(&entries);
        assert_eq!(sys(linux::__NR_sendmmsg, &[sender, vector.address, 2, 0]), Ok(2));
        assert_eq!([56, 64 + 56].map(|at| int(&vector.bytes(128)[at..])), [3, 5]);

        let headers: Vec<Header> = (0..3).map(|_| Header::to_receive(16, 0)).collect();
        let entries: Vec<u8> =
            headers.iter().flat_map(|header| [header.bytes(), alloc::vec![0; 8]].concat()).collect();
        let vector = Buffer::new(&entries);
        // `MSG_WAITFORONE`: what is there is enough.
        assert_eq!(sys(linux::__NR_recvmmsg, &[receiver, vector.address, 3, 0x10000, 0]), Ok(2));
        let bytes = vector.bytes(192);
        for (index, expected) in [&b"one"[..], b"three"].iter().enumerate() {
            let entry = &bytes[index * 64..];
            let message = headers[index].received(entry, int(&entry[56..]) as usize);
            assert_eq!(&message.data[..], *expected);
        }
    });
}

#[test]
fn receiving_many_ends_with_its_time() {
    run_seeds(4, || {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let drip = spawn(move || {
            for _ in 0..10 {
                send_to(sender, b"drop", 0, &to).unwrap();
                sleep_ms(100);
            }
        });
        let headers: Vec<Header> = (0..10).map(|_| Header::to_receive(16, 0)).collect();
        let entries: Vec<u8> =
            headers.iter().flat_map(|header| [header.bytes(), alloc::vec![0; 8]].concat()).collect();
        let (vector, limit) = (Buffer::new(&entries), Buffer::new(&timespec(250_000_000)));
        let begin = now_ms();
        // The time is looked at whenever a datagram has come (recvmmsg(2), BUGS).
        let count = sys(linux::__NR_recvmmsg, &[receiver, vector.address, 10, 0, limit.address]).unwrap();
        assert!((2..=5).contains(&count), "{count}");
        assert!(now_ms() - begin < 500);
        join(drip.unwrap());
    });
}

#[test]
fn sleeping_reader_is_woken_by_another_core() {
    run_seeds(20, || {
        let ((receiver, to), (sender, _)) = (bound(DGRAM), bound(DGRAM));
        let reader = spawn(move || {
            for round in 0..20_u8 {
                assert_eq!(read(receiver, 9), Ok(alloc::vec![round]));
            }
        });
        for round in 0..20_u8 {
            send_to(sender, &[round], 0, &to).unwrap();
        }
        join(reader.unwrap());
    });
}

#[test]
fn shutdown_wakes_a_reader() {
    run_seeds(10, || {
        let ((receiver, _), (_, from)) = (bound(DGRAM), bound(DGRAM));
        connect(receiver, &from).unwrap();
        let reader = spawn(move || assert_eq!(read(receiver, 9), Ok(Vec::new())));
        sleep_ms(10);
        assert_eq!(shutdown(receiver, net::SHUT_RD), Ok(0));
        join(reader.unwrap());
    });
}
