//! Families, kinds and protocols that there are and that there are not; netlink; groups of multicast; addresses of IPv4 in IPv6.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, ioctl, net};

use crate::workbench::app::files::{Buffer, int, read, write};
use crate::workbench::app::net::{
    DGRAM, LOCALHOST, SEQPACKET, STREAM, bind, bound, connect, name, option_int, peer, port_of, recv,
    send_to, set, set_int, socket, try_socket, v4, v6,
};
use crate::workbench::app::run::{run, sys};

const GROUP: [u8; 4] = [239, 1, 2, 3];
const RAW: u32 = net::SOCK_RAW;
/// `linux/rtnetlink.h`
const RTM_GETLINK: u16 = 18;
const RTM_NEWLINK: u16 = 16;
const RTM_GETADDR: u16 = 22;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const IP_MULTICAST_ALL: u32 = 49;

#[test]
fn unknown_families_are_refused() {
    run(|| {
        assert_eq!(try_socket(77, STREAM, 0), Err(errno::EAFNOSUPPORT));
        assert_eq!(try_socket(net::AF_INET, 77, 0), Err(errno::EINVAL));
        assert_eq!(try_socket(net::AF_INET, STREAM, 17), Err(errno::EPROTONOSUPPORT));
        assert_eq!(try_socket(net::AF_INET, SEQPACKET, 0), Err(errno::ESOCKTNOSUPPORT));
        assert!(try_socket(net::AF_INET, STREAM, 6).is_ok());
    });
}

#[test]
fn vsock_needs_a_device() {
    run(|| assert_eq!(try_socket(net::AF_VSOCK, STREAM, 0), Err(errno::EAFNOSUPPORT)));
}

#[test]
fn packet_sockets_are_refused() {
    run(|| {
        let outcome = try_socket(net::AF_PACKET, RAW, 0);
        assert!(matches!(outcome, Err(errno::EPERM | errno::EAFNOSUPPORT)), "{outcome:?}");
    });
}

#[test]
fn pairs_are_of_unix_alone() {
    run(|| {
        let ends = Buffer::zeroed(8);
        let pair = |family: u32, kind: u32| {
            sys(linux::__NR_socketpair, &[family.into(), kind.into(), 0, ends.address])
        };
        assert_eq!(pair(net::AF_INET, STREAM), Err(errno::EOPNOTSUPP));
        assert_eq!(pair(net::AF_UNIX, 77), Err(errno::EINVAL));
        let bad = sys(linux::__NR_socketpair, &[net::AF_UNIX.into(), STREAM.into(), 0, 8]);
        assert_eq!(bad, Err(errno::EFAULT));
    });
}

#[test]
fn sockets_cannot_be_sought() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        assert_eq!(sys(linux::__NR_lseek, &[fd, 0, 0]), Err(errno::ESPIPE));
        assert_eq!(sys(linux::__NR_pread64, &[fd, Buffer::zeroed(1).address, 1, 0]), Err(errno::ESPIPE));
    });
}

/// Asks rtnetlink(7); answers kinds and bodies of what comes.
fn netlink(kind: u16, flags: u16, body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let fd = socket(net::AF_NETLINK, RAW);
    let len = 16 + body.len() as u32;
    let request = [
        &len.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &(flags | NLM_F_REQUEST).to_ne_bytes(),
        &77_u32.to_ne_bytes(),
        &[0; 4],
        body,
    ]
    .concat();
    assert_eq!(write(fd, &request), Ok(request.len()));
    let mut all = Vec::new();
    loop {
        let answer = recv(fd, 32 << 10, 0).unwrap();
        let mut rest = &answer[..];
        while rest.len() >= 16 {
            let len = int(rest) as usize;
            assert_eq!(int(&rest[8..]), 77);
            all.push((u16::from_ne_bytes([rest[4], rest[5]]), rest[16..len].to_vec()));
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
        let is_done = all.last().is_some_and(|(kind, _)| *kind == NLMSG_DONE);
        if flags & NLM_F_DUMP == 0 || is_done {
            return all;
        }
    }
}

#[test]
fn netlink_lists_the_loopback_interface() {
    run(|| {
        let links = netlink(RTM_GETLINK, NLM_F_DUMP, &[0; 16]);
        let (kind, link) = &links[0];
        assert_eq!((*kind, int(&link[4..])), (RTM_NEWLINK, 1));
        assert!(link.windows(3).any(|bytes| bytes == b"lo\0"));
    });
}

#[test]
fn netlink_lists_addresses() {
    run(|| {
        let addresses = netlink(RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
        let of_lo = |(kind, address): &(u16, Vec<u8>)| {
            *kind == RTM_NEWADDR && address[1] == 8 && address.windows(4).any(|bytes| bytes == LOCALHOST)
        };
        assert!(addresses.iter().any(of_lo), "{addresses:?}");
    });
}

#[test]
fn netlink_says_what_it_does_not_know() {
    run(|| {
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&1_000_000_u32.to_ne_bytes());
        let answer = netlink(RTM_GETLINK, 0, &body);
        assert_eq!((answer[0].0, int(&answer[0].1)), (NLMSG_ERROR, -(errno::ENODEV as i32)));
        let answer = netlink(4000, 4, &[0; 4]);
        assert_eq!((answer[0].0, int(&answer[0].1)), (NLMSG_ERROR, -(errno::EOPNOTSUPP as i32)));
    });
}

#[test]
fn netlink_has_one_protocol() {
    run(|| {
        assert_eq!(try_socket(net::AF_NETLINK, RAW, 31), Err(errno::EPROTONOSUPPORT));
        assert_eq!(try_socket(net::AF_NETLINK, STREAM, 0), Err(errno::ESOCKTNOSUPPORT));
    });
}

#[test]
fn interfaces_have_names_and_flags() {
    run(|| {
        let fd = socket(net::AF_INET, DGRAM);
        let mut request = [0; 40];
        request[..2].copy_from_slice(b"lo");
        let place = Buffer::new(&request);
        assert_eq!(sys(linux::__NR_ioctl, &[fd, ioctl::SIOCGIFINDEX.into(), place.address]), Ok(0));
        assert_eq!(int(&place.bytes(40)[16..]), 1);
        assert_eq!(sys(linux::__NR_ioctl, &[fd, ioctl::SIOCGIFFLAGS.into(), place.address]), Ok(0));
        // IFF_UP and IFF_LOOPBACK.
        assert_eq!(int(&place.bytes(40)[16..]) & 9, 9);
        let nothing = Buffer::new(&[b"nothing\0".as_slice(), &[0; 32]].concat());
        let outcome = sys(linux::__NR_ioctl, &[fd, ioctl::SIOCGIFINDEX.into(), nothing.address]);
        assert_eq!(outcome, Err(errno::ENODEV));
    });
}

fn member() -> (u64, u16) {
    let member = socket(net::AF_INET, DGRAM);
    bind(member, &v4([0; 4], 0)).unwrap();
    (member, port_of(&name(member)))
}

fn multicast_sender() -> u64 {
    let (sender, _) = bound(DGRAM);
    assert_eq!(set(sender, net::SOL_IP, net::IP_MULTICAST_IF, &LOCALHOST), Ok(0));
    sender
}

fn change(fd: u64, name: u32, group: [u8; 4], interface: [u8; 4]) -> Result<u64, u32> {
    set(fd, net::SOL_IP, name, &[group, interface].concat())
}

#[test]
fn members_hear_their_group_until_they_leave() {
    run(|| {
        let ((member, port), sender) = (member(), multicast_sender());
        assert_eq!(change(member, net::IP_ADD_MEMBERSHIP, GROUP, LOCALHOST), Ok(0));
        assert_eq!(send_to(sender, b"all", 0, &v4(GROUP, port)), Ok(3));
        assert_eq!(recv(member, 9, net::MSG_DONTWAIT), Ok(b"all".to_vec()));
        assert_eq!(change(member, net::IP_DROP_MEMBERSHIP, GROUP, LOCALHOST), Ok(0));
        let _ = send_to(sender, b"gone", 0, &v4(GROUP, port));
        assert_eq!(recv(member, 9, net::MSG_DONTWAIT), Err(errno::EAGAIN));
    });
}

#[test]
fn joining_has_rules() {
    run(|| {
        let (fd, _) = member();
        let join = |group, interface| change(fd, net::IP_ADD_MEMBERSHIP, group, interface);
        assert_eq!(join(LOCALHOST, LOCALHOST), Err(errno::EINVAL));
        assert_eq!(join(GROUP, [203, 0, 113, 77]), Err(errno::ENODEV));
        assert_eq!(join(GROUP, LOCALHOST), Ok(0));
        assert_eq!(join(GROUP, LOCALHOST), Err(errno::EADDRINUSE));
        assert_eq!(change(fd, net::IP_DROP_MEMBERSHIP, GROUP, LOCALHOST), Ok(0));
        assert_eq!(change(fd, net::IP_DROP_MEMBERSHIP, GROUP, LOCALHOST), Err(errno::EADDRNOTAVAIL));
    });
}

#[test]
fn groups_of_others_can_be_left_out() {
    run(|| {
        let ((first, port), (second, _), sender) = (member(), member(), multicast_sender());
        change(second, net::IP_ADD_MEMBERSHIP, GROUP, LOCALHOST).unwrap();
        send_to(sender, b"heard", 0, &v4(GROUP, port)).unwrap();
        assert_eq!(recv(first, 9, net::MSG_DONTWAIT), Ok(b"heard".to_vec()));
        assert_eq!(set_int(first, net::SOL_IP, IP_MULTICAST_ALL, 2), Err(errno::EINVAL));
        assert_eq!(set_int(first, net::SOL_IP, IP_MULTICAST_ALL, 0), Ok(0));
        send_to(sender, b"not", 0, &v4(GROUP, port)).unwrap();
        assert_eq!(recv(first, 9, net::MSG_DONTWAIT), Err(errno::EAGAIN));
    });
}

#[test]
fn one_sender_of_a_group_can_be_chosen() {
    run(|| {
        let ((fd, port), sender) = (member(), multicast_sender());
        let add = |from: [u8; 4]| {
            let value = [GROUP, LOCALHOST, from].concat();
            set(fd, net::SOL_IP, net::IP_ADD_SOURCE_MEMBERSHIP, &value)
        };
        assert_eq!(add([127, 0, 0, 2]), Ok(0));
        assert_eq!(add([127, 0, 0, 2]), Err(errno::EADDRNOTAVAIL));
        send_to(sender, b"not", 0, &v4(GROUP, port)).unwrap();
        assert_eq!(recv(fd, 9, net::MSG_DONTWAIT), Err(errno::EAGAIN));
        assert_eq!(add(LOCALHOST), Ok(0));
        send_to(sender, b"chosen", 0, &v4(GROUP, port)).unwrap();
        assert_eq!(recv(fd, 9, net::MSG_DONTWAIT), Ok(b"chosen".to_vec()));
    });
}

#[test]
fn multicast_options_read_back() {
    run(|| {
        let (fd, _) = bound(DGRAM);
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MULTICAST_TTL), Ok(1));
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MULTICAST_LOOP), Ok(1));
        assert_eq!(set_int(fd, net::SOL_IP, net::IP_MULTICAST_TTL, 7), Ok(0));
        assert_eq!(set_int(fd, net::SOL_IP, net::IP_MULTICAST_LOOP, 0), Ok(0));
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MULTICAST_TTL), Ok(7));
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MULTICAST_LOOP), Ok(0));
        assert_eq!(set_int(fd, net::SOL_IP, net::IP_MULTICAST_TTL, 256), Err(errno::EINVAL));
    });
}

#[test]
fn ipv6_datagram_socket_takes_a_peer_of_ipv4() {
    run(|| {
        let ((receiver, to), sender) = (bound(DGRAM), socket(net::AF_INET6, DGRAM));
        assert_eq!(connect(sender, &to), Ok(0));
        let mut mapped = [0; 16];
        mapped[10..12].copy_from_slice(&[0xff; 2]);
        mapped[12..].copy_from_slice(&LOCALHOST);
        assert_eq!(peer(sender), Ok(v6(mapped, port_of(&to))));
        assert_eq!(write(sender, b"hello"), Ok(5));
        assert_eq!(read(receiver, 9), Ok(b"hello".to_vec()));
        set_int(socket(net::AF_INET6, DGRAM), net::SOL_IPV6, net::IPV6_V6ONLY, 1).unwrap();
    });
}

#[test]
fn v6_only_datagram_socket_takes_none_of_ipv4() {
    run(|| {
        let fd = socket(net::AF_INET6, DGRAM);
        assert_eq!(set_int(fd, net::SOL_IPV6, net::IPV6_V6ONLY, 1), Ok(0));
        assert_eq!(option_int(fd, net::SOL_IPV6, net::IPV6_V6ONLY), Ok(1));
        assert_eq!(connect(fd, &v4(LOCALHOST, 9)), Err(errno::EAFNOSUPPORT));
    });
}

#[test]
fn v6_only_is_settled_by_binding() {
    run(|| {
        for kind in [DGRAM, STREAM] {
            let fd = socket(net::AF_INET6, kind);
            assert_eq!(set_int(fd, net::SOL_IPV6, net::IPV6_V6ONLY, 1), Ok(0));
            bind(fd, &v6([0; 16], 0)).unwrap();
            assert_eq!(set_int(fd, net::SOL_IPV6, net::IPV6_V6ONLY, 0), Err(errno::EINVAL));
            assert_eq!(option_int(fd, net::SOL_IPV6, net::IPV6_V6ONLY), Ok(1));
        }
    });
}

#[test]
fn path_mtu_is_told_of_a_peer() {
    run(|| {
        let (fd, address) = bound(DGRAM);
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MTU), Err(errno::ENOTCONN));
        connect(fd, &address).unwrap();
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MTU), Ok(65_535));
        assert_eq!(set_int(fd, net::SOL_IP, net::IP_MTU_DISCOVER, 2), Ok(0));
        assert_eq!(option_int(fd, net::SOL_IP, net::IP_MTU_DISCOVER), Ok(2));
        assert_eq!(set_int(fd, net::SOL_IP, net::IP_MTU_DISCOVER, 6), Err(errno::EINVAL));
    });
}
