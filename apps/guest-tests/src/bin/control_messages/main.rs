//! What goes beside the bytes of datagrams (ip(7), ipv6(7), udp(7), socket(7)): control messages received and sent, datagrams cut and
//! joined, the queue of errors. It is what QUIC needs.

use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr::from_ref;

use guest_tests::{check, check_eq, errno};
use message::{cookie, get, list, pair, receive, send, set, sockaddr};

mod destinations;
mod message;
mod times;

/// `linux/udp.h`
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;
/// `linux/if.h`: the number of `lo`.
const LOOPBACK: i32 = 1;

fn main() {
    headers_are_told();
    headers_of_ipv6_are_told();
    mapped_addresses_are_told_in_both_ways();
    control_messages_set_headers();
    nonsense_is_refused();
    room_is_minded();
    datagrams_are_cut();
    datagrams_are_joined();
    errors_wait_in_a_queue();
    too_long_is_an_error_in_the_queue();
    times_and_losses_are_told();
    times::are_told();
    destinations::are_told();
    destinations::ways_are_measured();
    peeking_goes_on();
    many_messages_have_theirs();
    credentials_are_passed();
    cookies_differ();
    options_read_back();
}

fn headers_are_told() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    for name in [libc::IP_PKTINFO, libc::IP_RECVTOS, libc::IP_RECVTTL] {
        check_eq!(get(&receiver, libc::SOL_IP, name), 0);
        check_eq!(set(&receiver, libc::SOL_IP, name, 1), 0);
        check_eq!(get(&receiver, libc::SOL_IP, name), 1);
    }
    check_eq!(set(&sender, libc::SOL_IP, libc::IP_TOS, 0x2a), 0);
    check_eq!(set(&sender, libc::SOL_IP, libc::IP_TTL, 33), 0);
    sender.send_to(b"told", to).unwrap();
    let message = receive(&receiver, 64, 256, 0).unwrap();
    check_eq!(message.data, b"told");
    check_eq!(message.port(), sender.local_addr().unwrap().port());
    check_eq!(message.find(libc::SOL_IP, libc::IP_TOS), Some(&[0x2a][..]));
    check_eq!(message.int(libc::SOL_IP, libc::IP_TTL), Some(33));
    let info = message.find(libc::SOL_IP, libc::IP_PKTINFO).unwrap();
    check_eq!(info, &[&LOOPBACK.to_ne_bytes()[..], &[127, 0, 0, 1, 127, 0, 0, 1]].concat()[..]);
    check_eq!(message.control.len(), 3);
    check_eq!(message.flags, 0);

    check_eq!(set(&receiver, libc::SOL_IP, libc::IP_PKTINFO, 0), 0);
    sender.send_to(b"told", to).unwrap();
    check_eq!(receive(&receiver, 64, 256, 0).unwrap().control.len(), 2);
}

fn headers_of_ipv6_are_told() {
    let (receiver, sender, to) = pair("[::1]:0");
    for name in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT] {
        check_eq!(set(&receiver, libc::SOL_IPV6, name, 1), 0);
        check_eq!(get(&receiver, libc::SOL_IPV6, name), 1);
    }
    check_eq!(set(&sender, libc::SOL_IPV6, libc::IPV6_TCLASS, 0x51), 0);
    check_eq!(set(&sender, libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, 9), 0);
    sender.send_to(b"six", to).unwrap();
    let message = receive(&receiver, 64, 256, 0).unwrap();
    check_eq!(message.int(libc::SOL_IPV6, libc::IPV6_TCLASS), Some(0x51));
    check_eq!(message.int(libc::SOL_IPV6, libc::IPV6_HOPLIMIT), Some(9));
    let info = message.find(libc::SOL_IPV6, libc::IPV6_PKTINFO).unwrap();
    let one = std::net::Ipv6Addr::LOCALHOST.octets();
    check_eq!(info, &[&one[..], &LOOPBACK.to_ne_bytes()].concat()[..]);
}

/// A socket of IPv6 hears of datagrams of IPv4 by the messages of both.
fn mapped_addresses_are_told_in_both_ways() {
    let (receiver, sender, to) = pair("[::]:0");
    for (level, name) in [
        (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        (libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
        (libc::SOL_IP, libc::IP_PKTINFO),
        (libc::SOL_IP, libc::IP_RECVTOS),
    ] {
        check_eq!(set(&receiver, level, name, 1), 0);
    }
    check_eq!(set(&sender, libc::SOL_IP, libc::IP_TOS, 2), 0);
    sender.send_to(b"mapped", to).unwrap();
    let message = receive(&receiver, 64, 256, 0).unwrap();
    check_eq!(message.find(libc::SOL_IP, libc::IP_TOS), Some(&[2][..]));
    check_eq!(message.find(libc::SOL_IPV6, libc::IPV6_TCLASS), None);
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
    check_eq!(message.find(libc::SOL_IPV6, libc::IPV6_PKTINFO).unwrap()[..16], mapped);
    check_eq!(message.find(libc::SOL_IP, libc::IP_PKTINFO).unwrap()[8..], [127, 0, 0, 1]);
}

fn control_messages_set_headers() {
    let (receiver, sender, to) = pair("0.0.0.0:0");
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port());
    check_eq!(set(&receiver, libc::SOL_IP, libc::IP_RECVTOS, 1), 0);
    check_eq!(set(&receiver, libc::SOL_IP, libc::IP_RECVTTL, 1), 0);
    let source = [0, 0, 0, 0, 127, 0, 0, 77, 0, 0, 0, 0];
    let control: [(i32, i32, &[u8]); 3] = [
        (libc::SOL_IP, libc::IP_TOS, &1i32.to_ne_bytes()),
        (libc::SOL_IP, libc::IP_TTL, &5i32.to_ne_bytes()),
        (libc::SOL_IP, libc::IP_PKTINFO, &source),
    ];
    check_eq!(send(&sender, to, b"set", &control), Ok(3));
    let message = receive(&receiver, 64, 256, 0).unwrap();
    check_eq!(message.find(libc::SOL_IP, libc::IP_TOS), Some(&[1][..]));
    check_eq!(message.int(libc::SOL_IP, libc::IP_TTL), Some(5));
    // SAFETY: the address is one of IPv4.
    let from = unsafe { (*from_ref(&message.from).cast::<libc::sockaddr_in>()).sin_addr.s_addr };
    check_eq!(from.to_ne_bytes(), [127, 0, 0, 77]);
    // The next one has the socket's own again.
    check_eq!(send(&sender, to, b"own", &[]), Ok(3));
    check_eq!(receive(&receiver, 64, 256, 0).unwrap().find(libc::SOL_IP, libc::IP_TOS), Some(&[0][..]));
}

fn nonsense_is_refused() {
    let (_receiver, sender, to) = pair("127.0.0.1:0");
    let no: [(i32, i32, &[u8]); 6] = [
        (libc::SOL_IP, libc::IP_TTL, &0i32.to_ne_bytes()),
        (libc::SOL_IP, libc::IP_TTL, &256i32.to_ne_bytes()),
        (libc::SOL_IP, libc::IP_TOS, &[0, 0]),
        (libc::SOL_IP, libc::IP_PKTINFO, &[0; 11]),
        (libc::SOL_UDP, UDP_SEGMENT, &[0; 4]),
        (libc::SOL_IP, 199, &[]),
    ];
    for control in no {
        check_eq!(send(&sender, to, b"no", &[control]), Err(libc::EINVAL));
    }
    // An address that is not ours.
    let foreign = [0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0];
    check_eq!(
        send(&sender, to, b"no", &[(libc::SOL_IP, libc::IP_PKTINFO, &foreign)]),
        Err(libc::ENETUNREACH)
    );
    // What is another protocol's does not count.
    let other = (libc::SOL_IPV6, libc::IPV6_TCLASS, &[0; 3][..]);
    check_eq!(send(&sender, to, b"yes", &[other]), Ok(3));
}

fn room_is_minded() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    check_eq!(set(&receiver, libc::SOL_IP, libc::IP_RECVTTL, 1), 0);
    for (room, shown, flags) in [
        (24, Some(4), 0),
        (16, Some(0), libc::MSG_CTRUNC),
        (8, None, libc::MSG_CTRUNC),
        (0, None, libc::MSG_CTRUNC),
    ] {
        sender.send_to(b"room", to).unwrap();
        let message = receive(&receiver, 64, room, 0).unwrap();
        check_eq!(message.find(libc::SOL_IP, libc::IP_TTL).map(<[u8]>::len), shown);
        check_eq!(message.flags, flags);
    }
}

fn datagrams_are_cut() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    let data: Vec<u8> = (0..250).collect();
    let segment = 100u16.to_ne_bytes();
    check_eq!(send(&sender, to, &data, &[(libc::SOL_UDP, UDP_SEGMENT, &segment)]), Ok(250));
    check_eq!(set(&sender, libc::SOL_UDP, UDP_SEGMENT, 100), 0);
    check_eq!(get(&sender, libc::SOL_UDP, UDP_SEGMENT), 100);
    check_eq!(sender.send_to(&data, to).unwrap(), 250);
    for _ in 0..2 {
        for piece in data.chunks(100) {
            check_eq!(receive(&receiver, 300, 0, 0).unwrap().data, piece);
        }
    }
    check_eq!(set(&sender, libc::SOL_UDP, UDP_SEGMENT, 65_536), libc::EINVAL);
    check_eq!(set(&sender, libc::SOL_UDP, UDP_SEGMENT, -1), libc::EINVAL);
    // 0 in a message takes the socket's own back.
    check_eq!(send(&sender, to, &data, &[(libc::SOL_UDP, UDP_SEGMENT, &[0, 0])]), Ok(250));
    check_eq!(receive(&receiver, 300, 0, 0).unwrap().data.len(), 250);
    check_eq!(set(&sender, libc::SOL_UDP, UDP_SEGMENT, 1), 0);
    check!(sender.send_to(&[0; 1000], to).is_err());
}

fn datagrams_are_joined() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    check_eq!(set(&receiver, libc::SOL_UDP, UDP_GRO, 1), 0);
    check_eq!(get(&receiver, libc::SOL_UDP, UDP_GRO), 1);
    check_eq!(set(&sender, libc::SOL_UDP, UDP_SEGMENT, 1200), 0);
    let data: Vec<u8> = (0..5000u32).map(|byte| byte as u8).collect();
    check_eq!(sender.send_to(&data, to).unwrap(), 5000);
    // They come as one, or as several in order: each says of how many bytes its pieces are.
    let mut got = Vec::new();
    while got.len() < 5000 {
        let message = receive(&receiver, 65_536, 256, 0).unwrap();
        if message.data.len() > 1200 {
            check_eq!(message.int(libc::SOL_UDP, UDP_GRO), Some(1200));
        }
        got.extend(message.data);
    }
    check_eq!(got, data);
    for _ in 0..2 {
        check_eq!(sender.send_to(b"alone", to).unwrap(), 5);
    }
    for _ in 0..2 {
        let message = receive(&receiver, 64, 256, 0).unwrap();
        check_eq!((&message.data[..], message.int(libc::SOL_UDP, UDP_GRO)), (&b"alone"[..], None));
    }
}

fn errors_wait_in_a_queue() {
    for (address, level, name, origin, kind, code) in [
        ("127.0.0.1:0", libc::SOL_IP, libc::IP_RECVERR, 2, 3, 3),
        ("[::1]:0", libc::SOL_IPV6, libc::IPV6_RECVERR, 3, 1, 4),
    ] {
        let (receiver, sender, to) = pair(address);
        drop(receiver);
        check_eq!(receive(&sender, 64, 256, libc::MSG_ERRQUEUE).unwrap_err(), libc::EAGAIN);
        check_eq!(set(&sender, level, name, 1), 0);
        check_eq!(sender.send_to(b"anyone?", to).unwrap(), 7);
        let mut poll = libc::pollfd { fd: sender.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: there is one entry.
        check_eq!(unsafe { libc::poll(&mut poll, 1, 5000) }, 1);
        check_eq!(poll.revents, libc::POLLERR);
        let message = receive(&sender, 64, 256, libc::MSG_ERRQUEUE).unwrap();
        check_eq!((&message.data[..], message.port()), (&b"anyone?"[..], to.port()));
        check_eq!(message.flags, libc::MSG_ERRQUEUE);
        let error = message.find(level, name).unwrap();
        check_eq!(error[..4], libc::ECONNREFUSED.to_ne_bytes());
        check_eq!(error[4..7], [origin, kind, code]);
        check_eq!(error.len(), 16 + if level == libc::SOL_IP { 16 } else { 28 });
        // With the last error in the queue the pending one is gone.
        check_eq!(get(&sender, libc::SOL_SOCKET, libc::SO_ERROR), 0);
        check_eq!(receive(&sender, 64, 256, libc::MSG_ERRQUEUE).unwrap_err(), libc::EAGAIN);
    }
}

fn too_long_is_an_error_in_the_queue() {
    let (_receiver, sender, to) = pair("127.0.0.1:0");
    check_eq!(set(&sender, libc::SOL_IP, libc::IP_RECVERR, 1), 0);
    check_eq!(send(&sender, to, &[0; 65_508], &[]), Err(libc::EMSGSIZE));
    for (how, expected) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, libc::EINVAL)] {
        check_eq!(set(&sender, libc::SOL_IP, libc::IP_MTU_DISCOVER, how), expected);
        check_eq!(get(&sender, libc::SOL_IP, libc::IP_MTU_DISCOVER), how.min(5));
    }
}

fn times_and_losses_are_told() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    let before = std::time::SystemTime::now();
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    for (name, unit) in [(libc::SO_TIMESTAMP, 1), (libc::SO_TIMESTAMPNS, 1000)] {
        check_eq!(set(&receiver, libc::SOL_SOCKET, name, 1), 0);
        check_eq!(get(&receiver, libc::SOL_SOCKET, name), 1);
        sender.send_to(b"when", to).unwrap();
        let message = receive(&receiver, 64, 256, 0).unwrap();
        let time = message.find(libc::SOL_SOCKET, name).unwrap();
        let part = |at: usize| i64::from_ne_bytes(time[at..at + 8].try_into().unwrap()) as u128;
        let micros = part(0) * 1_000_000 + part(8) / unit;
        // What was read from another clock may differ by a little.
        check!(micros + 50_000 >= since(before) && micros <= since(std::time::SystemTime::now()) + 50_000);
    }
    check_eq!(set(&receiver, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0), 0);
    check_eq!(set(&receiver, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1), 0);
    check_eq!(get(&receiver, libc::SOL_SOCKET, libc::SO_RXQ_OVFL), 1);
    receiver.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let mut lost = 0;
    for round in 0..3 {
        for _ in 0..40_000 / (1 + 19 * round) {
            sender.send_to(&[0; 1000], to).unwrap();
        }
        while let Ok(message) = receive(&receiver, 1000, 256, libc::MSG_DONTWAIT) {
            lost = message.int(libc::SOL_SOCKET, libc::SO_RXQ_OVFL).unwrap_or(lost);
        }
    }
    check!(lost > 1000);
}

fn peeking_goes_on() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    check_eq!(get(&receiver, libc::SOL_SOCKET, libc::SO_PEEK_OFF), -1);
    check_eq!(set(&receiver, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0), 0);
    sender.send_to(b"abcdef", to).unwrap();
    sender.send_to(b"ghi", to).unwrap();
    let peek = |len| receive(&receiver, len, 0, libc::MSG_PEEK).unwrap().data;
    check_eq!(peek(2), b"ab");
    check_eq!(peek(2), b"cd");
    check_eq!(get(&receiver, libc::SOL_SOCKET, libc::SO_PEEK_OFF), 4);
    check_eq!(peek(9), b"ef");
    check_eq!(peek(9), b"ghi");
    check_eq!(receive(&receiver, 64, 0, 0).unwrap().data, b"abcdef");
    check_eq!(get(&receiver, libc::SOL_SOCKET, libc::SO_PEEK_OFF), 3);
    check_eq!(set(&receiver, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1), 0);
    check_eq!(peek(9), b"ghi");
    check_eq!(peek(9), b"ghi");
}

/// sendmmsg(2) and recvmmsg(2): each message has its own.
fn many_messages_have_theirs() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    check_eq!(set(&receiver, libc::SOL_IP, libc::IP_RECVTOS, 1), 0);
    let name = sockaddr(to);
    sender.connect(to).unwrap();
    let mut controls = [[0u64; 3]; 2];
    let mut buffers: [libc::iovec; 2] = std::array::from_fn(|index| libc::iovec {
        iov_base: name[index..].as_ptr().cast_mut().cast(),
        iov_len: 4,
    });
    // SAFETY: zeros are valid headers; all pointers lead to what lives longer than the calls.
    unsafe {
        let mut messages: [libc::mmsghdr; 2] = zeroed();
        for (index, message) in messages.iter_mut().enumerate() {
            controls[index][0] = 20;
            controls[index][1] = libc::SOL_IP as u64 | (libc::IP_TOS as u64) << 32;
            controls[index][2] = index as u64 + 1;
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&mut buffers[index], 1);
            message.msg_hdr.msg_control = controls[index].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = 24;
        }
        check_eq!(libc::sendmmsg(sender.as_raw_fd(), messages.as_mut_ptr(), 2, 0), 2);
        let (mut data, mut controls) = ([[0u8; 8]; 2], [[0u64; 4]; 2]);
        let mut messages: [libc::mmsghdr; 2] = zeroed();
        let mut buffers: [libc::iovec; 2] = std::array::from_fn(|index| libc::iovec {
            iov_base: data[index].as_mut_ptr().cast(),
            iov_len: 8,
        });
        for (index, message) in messages.iter_mut().enumerate() {
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&mut buffers[index], 1);
            message.msg_hdr.msg_control = controls[index].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = 32;
        }
        let count = libc::recvmmsg(receiver.as_raw_fd(), messages.as_mut_ptr(), 2, 0, std::ptr::null_mut());
        check_eq!(count, 2);
        for (index, message) in messages.iter().enumerate() {
            check_eq!(list(&message.msg_hdr), [(libc::SOL_IP, libc::IP_TOS, vec![index as u8 + 1])]);
        }
    }
}

fn credentials_are_passed() {
    let (receiver, sender) = std::os::unix::net::UnixDatagram::pair().unwrap();
    check_eq!(set(&receiver, libc::SOL_SOCKET, libc::SO_PASSCRED, 1), 0);
    check_eq!(get(&receiver, libc::SOL_SOCKET, libc::SO_PASSCRED), 1);
    sender.send(b"who").unwrap();
    let message = receive(&receiver, 64, 256, 0).unwrap();
    // SAFETY: these calls have no arguments.
    let (pid, uid, gid) = unsafe { (libc::getpid(), libc::getuid(), libc::getgid()) };
    let expected = [pid, uid as i32, gid as i32].map(i32::to_ne_bytes).concat();
    check_eq!(message.find(libc::SOL_SOCKET, libc::SCM_CREDENTIALS), Some(&expected[..]));
}

fn cookies_differ() {
    let (one, other, _) = pair("127.0.0.1:0");
    check!(cookie(&one) != 0 && cookie(&one) != cookie(&other));
    check_eq!(cookie(&one), cookie(&one));
    check_eq!(set(&one, libc::SOL_SOCKET, libc::SO_COOKIE, 1), libc::ENOPROTOOPT);
}

fn options_read_back() {
    let (v4, _, _) = pair("127.0.0.1:0");
    let (v6, _, _) = pair("[::1]:0");
    for (socket, level, name) in [
        (&v4, libc::SOL_IP, libc::IP_FREEBIND),
        (&v6, libc::SOL_IPV6, libc::IPV6_DONTFRAG),
        (&v6, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
        (&v6, libc::SOL_IP, libc::IP_PKTINFO),
    ] {
        for value in [1, 0] {
            check_eq!(set(socket, level, name, value), 0);
            check_eq!(get(socket, level, name), value);
        }
    }
    // Free to have an address that is not ours, before there is one.
    // SAFETY: the call has no memory of ours.
    let free = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    let name = sockaddr("192.0.2.1:0".parse().unwrap());
    // SAFETY: the address is as long as it is said to be; the descriptor is the one above.
    unsafe {
        check_eq!(libc::bind(free, name.as_ptr().cast(), 16), -1);
        check_eq!(errno(), libc::EADDRNOTAVAIL);
        let on = 1i32;
        check_eq!(libc::setsockopt(free, libc::SOL_IP, libc::IP_FREEBIND, from_ref(&on).cast(), 4), 0);
        check_eq!(libc::bind(free, name.as_ptr().cast(), 16), 0);
        libc::close(free);
    }
}
