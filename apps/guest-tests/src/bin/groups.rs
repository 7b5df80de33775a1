//! Multicast groups and large datagrams over loopback (ip(7), udp(7)).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use guest_tests::{check, check_eq};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

fn main() {
    members_hear_the_group();
    joining_has_rules();
    others_groups_can_be_left_out();
    one_sender_can_be_chosen();
    largest_datagrams_arrive();
    discovery_can_be_set();
    packet_sockets_need_a_privilege_or_a_feature();
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: &[u8]) -> Option<i32> {
    // SAFETY: the option's value is as long as it is said to be.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    (outcome != 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
}

fn members_hear_the_group() {
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    member.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap();
    member.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    check_eq!(sender.multicast_ttl_v4().unwrap(), 1);
    check!(sender.multicast_loop_v4().unwrap());
    check_eq!(set_option(&sender, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &[127, 0, 0, 1]), None);
    let to = (GROUP, member.local_addr().unwrap().port());
    sender.send_to(b"all", to).unwrap();
    let mut buffer = [0; 8];
    check_eq!(member.recv_from(&mut buffer).unwrap(), (3, sender.local_addr().unwrap()));

    // What leaves through the loopback interface comes back, whatever the option says.
    sender.set_multicast_loop_v4(false).unwrap();
    check!(!sender.multicast_loop_v4().unwrap());
    sender.send_to(b"again", to).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap(), 5);

    member.leave_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap();
    member.set_nonblocking(true).unwrap();
    sender.send_to(b"gone", to).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// `IP_MULTICAST_ALL`: a socket hears a group that another has joined, unless it does not want to.
fn others_groups_can_be_left_out() {
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = member.local_addr().unwrap().port();
    member.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap();
    check_eq!(
        set_option(&member, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &[2, 0, 0, 0]),
        Some(libc::EINVAL)
    );
    check_eq!(set_option(&member, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &[0; 4]), None);
    member.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    check_eq!(set_option(&sender, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &[127, 0, 0, 1]), None);
    sender.send_to(b"own", (GROUP, port)).unwrap();
    let mut buffer = [0; 8];
    check_eq!(member.recv(&mut buffer).unwrap(), 3);
    // Another joins another group, which the first would hear by default.
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let group = Ipv4Addr::new(239, 1, 2, 4);
    other.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    member.set_nonblocking(true).unwrap();
    sender.send_to(b"other", (group, port)).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    check_eq!(set_option(&member, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &[1, 0, 0, 0]), None);
    sender.send_to(b"other", (group, port)).unwrap();
    member.set_nonblocking(false).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap(), 5);
}

/// `IP_ADD_SOURCE_MEMBERSHIP`: a group for what one sender sends to it (RFC 4607).
fn one_sender_can_be_chosen() {
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = member.local_addr().unwrap().port();
    let change = |name: i32, sender: [u8; 4]| {
        let value = [GROUP.octets(), [127, 0, 0, 1], sender].concat();
        set_option(&member, libc::IPPROTO_IP, name, &value)
    };
    check_eq!(change(libc::IP_DROP_SOURCE_MEMBERSHIP, [127, 0, 0, 2]), Some(libc::EINVAL));
    check_eq!(change(libc::IP_ADD_SOURCE_MEMBERSHIP, [127, 0, 0, 2]), None);
    check_eq!(change(libc::IP_ADD_SOURCE_MEMBERSHIP, [127, 0, 0, 2]), Some(libc::EADDRNOTAVAIL));
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    check_eq!(set_option(&sender, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &[127, 0, 0, 1]), None);
    member.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8];
    sender.send_to(b"not", (GROUP, port)).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    check_eq!(change(libc::IP_ADD_SOURCE_MEMBERSHIP, [127, 0, 0, 1]), None);
    sender.send_to(b"chosen", (GROUP, port)).unwrap();
    member.set_nonblocking(false).unwrap();
    member.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    check_eq!(member.recv(&mut buffer).unwrap(), 6);
    for sender in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        check_eq!(change(libc::IP_DROP_SOURCE_MEMBERSHIP, sender), None);
    }
    // With the last sender the group is left.
    let left = member.leave_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap_err();
    check_eq!(left.raw_os_error(), Some(libc::EADDRNOTAVAIL));
}

fn joining_has_rules() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let join = |group: Ipv4Addr, at: Ipv4Addr| {
        socket.join_multicast_v4(&group, &at).map_err(|e| e.raw_os_error().unwrap())
    };
    check_eq!(join(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), Err(libc::EINVAL));
    check_eq!(join(GROUP, Ipv4Addr::new(203, 0, 113, 77)), Err(libc::ENODEV));
    check_eq!(join(GROUP, Ipv4Addr::LOCALHOST), Ok(()));
    check_eq!(join(GROUP, Ipv4Addr::LOCALHOST), Err(libc::EADDRINUSE));
    check!(socket.leave_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).is_ok());
    let left = socket.leave_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap_err();
    check_eq!(left.raw_os_error(), Some(libc::EADDRNOTAVAIL));
}

fn largest_datagrams_arrive() {
    for (address, len) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_507)] {
        let receiver = UdpSocket::bind(address).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind(address).unwrap();
        let data: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        check_eq!(sender.send_to(&data, receiver.local_addr().unwrap()).unwrap(), len);
        let mut buffer = vec![0; len + 1];
        check_eq!(receiver.recv(&mut buffer).unwrap(), len);
        check!(buffer[..len] == data);
    }
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let too_long = sender.send_to(&vec![0; 65_508], "127.0.0.1:9").unwrap_err();
    check_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
}

fn discovery_can_be_set() {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let dont_fragment = libc::IPV6_PMTUDISC_DO.to_ne_bytes();
    check_eq!(set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &dont_fragment), None);
    let nonsense = 77_i32.to_ne_bytes();
    let refused = set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &nonsense);
    check_eq!(refused, Some(libc::EINVAL));
}

/// packet(7): not for everybody on Linux, for nobody here.
fn packet_sockets_need_a_privilege_or_a_feature() {
    // SAFETY: makes a descriptor or fails.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    if descriptor < 0 {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap();
        check!(error == libc::EPERM || error == libc::EAFNOSUPPORT);
    }
}
