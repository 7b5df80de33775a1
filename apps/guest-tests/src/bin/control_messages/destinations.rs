//! Where a datagram was sent to, and what the way there carries.

use std::mem::size_of;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::from_mut;

use guest_tests::{check_eq, errno};

use super::message::{get, pair, receive, send, set, sockaddr};

/// `linux/netfilter_ipv4.h`, and the same number for IPv6.
const SO_ORIGINAL_DST: i32 = 80;
const V4: (i32, i32) = (libc::SOL_IP, libc::IP_RECVORIGDSTADDR);
const V6: (i32, i32) = (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR);

/// The destination comes with its port, in the form of the protocol that carried it.
pub(crate) fn are_told() {
    for (name, told, other) in
        [("127.0.0.1:0", V4, None), ("[::1]:0", V6, Some(V4)), ("[::]:0", V4, Some(V6))]
    {
        let (receiver, sender, to) = pair(name);
        for (level, option) in [Some(told), other].into_iter().flatten() {
            check_eq!(get(&receiver, level, option), 0);
            check_eq!(set(&receiver, level, option, 1), 0);
            check_eq!(get(&receiver, level, option), 1);
        }
        check_eq!(send(&sender, to, b"there", &[]), Ok(5));
        let message = receive(&receiver, 64, 256, 0).unwrap();
        let sent_to = match told {
            V4 => format!("127.0.0.1:{}", to.port()).parse().unwrap(),
            _ => to,
        };
        check_eq!(message.find(told.0, told.1), Some(&sockaddr(sent_to)[..]));
        check_eq!(message.control.len(), 1);
        check_eq!(set(&receiver, told.0, told.1, 0), 0);
        check_eq!(send(&sender, to, b"there", &[]), Ok(5));
        check_eq!(receive(&receiver, 64, 256, 0).unwrap().control.len(), 0);
    }
    let (v4, ..) = pair("127.0.0.1:0");
    check_eq!(set(&v4, V6.0, V6.1, 1), libc::ENOPROTOOPT);
}

/// The largest packet is told of a way that there is (`IP_MTU`), whatever is carried by it.
pub(crate) fn ways_are_measured() {
    for (address, level, option, mtu) in [
        ("127.0.0.1:0", libc::SOL_IP, libc::IP_MTU, 65_535),
        ("[::1]:0", libc::SOL_IPV6, libc::IPV6_MTU, 65_536),
    ] {
        let socket = UdpSocket::bind(address).unwrap();
        check_eq!(error_of(&socket, level, option), libc::ENOTCONN);
        socket.connect(socket.local_addr().unwrap()).unwrap();
        check_eq!(get(&socket, level, option), mtu);
        let listener = TcpListener::bind(address).unwrap();
        check_eq!(error_of(&listener, level, option), libc::ENOTCONN);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        check_eq!((get(&client, level, option), get(&server, level, option)), (mtu, mtu));
        // Nothing was redirected, and an address of IPv6 is none of a socket of IPv4.
        check_eq!(error_of(&server, libc::SOL_IP, SO_ORIGINAL_DST), libc::ENOENT);
        let expected = if level == libc::SOL_IP { libc::EOPNOTSUPP } else { libc::ENOENT };
        check_eq!(error_of(&server, libc::SOL_IPV6, SO_ORIGINAL_DST), expected);
        check_eq!(error_of(&socket, libc::SOL_IP, SO_ORIGINAL_DST), libc::ENOPROTOOPT);
    }
}

fn error_of(socket: &impl AsRawFd, level: i32, option: i32) -> i32 {
    let (mut value, mut len) = ([0_u8; 32], size_of::<[u8; 32]>() as libc::socklen_t);
    // SAFETY: the value is as long as it is said to be.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, from_mut(&mut value).cast(), &mut len) };
    if outcome == 0 { 0 } else { errno() }
}
