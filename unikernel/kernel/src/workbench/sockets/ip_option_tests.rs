//! Options of ip(7) and ipv6(7): what they are at first, what they take and what they refuse.

use linux_raw_sys::errno::*;
use linux_raw_sys::net::{self, SOL_IP, SOL_IPV6};

use crate::workbench::app::net::{
    DGRAM, LOCALHOST, STREAM, bind, bound, connect, option, option_int, set, set_int, socket, tcp_pair, v4,
    v6_localhost,
};
use crate::workbench::app::run::run;

/// Not in `linux_raw_sys`: `linux/in.h`, `linux/in6.h`.
const IP_MULTICAST_ALL: u32 = 49;
const IPV6_MULTICAST_ALL: u32 = 29;
const SO_ORIGINAL_DST: u32 = 80;

#[test]
fn switches_of_ipv4_are_kept() {
    run(|| {
        let fd = socket(net::AF_INET, DGRAM);
        let names = [
            (net::IP_RECVERR, 0),
            (net::IP_PKTINFO, 0),
            (net::IP_RECVTTL, 0),
            (net::IP_RECVTOS, 0),
            (net::IP_RECVORIGDSTADDR, 0),
            (net::IP_FREEBIND, 0),
            (net::IP_TRANSPARENT, 0),
            (net::IP_BIND_ADDRESS_NO_PORT, 0),
            (net::IP_MULTICAST_LOOP, 1),
            (IP_MULTICAST_ALL, 1),
        ];
        for (name, at_first) in names {
            assert_eq!(option_int(fd, SOL_IP, name), Ok(at_first), "option {name}");
            for value in [1 - at_first, at_first] {
                assert_eq!(set_int(fd, SOL_IP, name, value), Ok(0), "option {name}");
                assert_eq!(option_int(fd, SOL_IP, name), Ok(value), "option {name}");
            }
            assert_eq!(set(fd, SOL_IP, name, &[]), Err(EINVAL), "option {name}");
        }
        assert_eq!(set_int(fd, SOL_IP, 9999, 1), Err(ENOPROTOOPT));
        assert_eq!(option_int(fd, SOL_IP, 9999), Err(ENOPROTOOPT));
    });
}

#[test]
fn switches_of_ipv6_are_kept() {
    run(|| {
        let fd = socket(net::AF_INET6, DGRAM);
        let names = [
            (net::IPV6_V6ONLY, 0),
            (net::IPV6_RECVERR, 0),
            (net::IPV6_RECVPKTINFO, 0),
            (net::IPV6_RECVHOPLIMIT, 0),
            (net::IPV6_RECVTCLASS, 0),
            (net::IPV6_RECVORIGDSTADDR, 0),
            (net::IPV6_DONTFRAG, 0),
            (net::IPV6_FREEBIND, 0),
            (net::IPV6_TRANSPARENT, 0),
            (net::IPV6_MULTICAST_LOOP, 1),
            (IPV6_MULTICAST_ALL, 1),
        ];
        for (name, at_first) in names {
            assert_eq!(option_int(fd, SOL_IPV6, name), Ok(at_first), "option {name}");
            for value in [1 - at_first, at_first] {
                assert_eq!(set_int(fd, SOL_IPV6, name, value), Ok(0), "option {name}");
                assert_eq!(option_int(fd, SOL_IPV6, name), Ok(value), "option {name}");
            }
            assert_eq!(set(fd, SOL_IPV6, name, &[]), Err(EINVAL), "option {name}");
        }
        let other = socket(net::AF_INET, DGRAM);
        assert_eq!(set_int(other, SOL_IPV6, net::IPV6_V6ONLY, 1), Err(ENOPROTOOPT));
        assert_eq!(option_int(other, SOL_IPV6, net::IPV6_V6ONLY), Err(EOPNOTSUPP));
        assert_eq!(set_int(fd, SOL_IPV6, 9999, 1), Err(ENOPROTOOPT));
        assert_eq!(option_int(fd, SOL_IPV6, 9999), Err(ENOPROTOOPT));
    });
}

#[test]
fn hops_and_classes_have_bounds() {
    run(|| {
        let (four, six) = (socket(net::AF_INET, DGRAM), socket(net::AF_INET6, DGRAM));
        assert_eq!(option_int(four, SOL_IP, net::IP_TTL), Ok(64));
        for (value, answer) in [(1, Ok(0)), (255, Ok(0)), (-1, Ok(0)), (0, Err(EINVAL)), (256, Err(EINVAL))] {
            assert_eq!(set_int(four, SOL_IP, net::IP_TTL, value), answer, "{value}");
        }
        assert_eq!(option_int(four, SOL_IP, net::IP_TTL), Ok(64));
        let multicast = [(SOL_IP, net::IP_MULTICAST_TTL), (SOL_IPV6, net::IPV6_MULTICAST_HOPS)];
        for ((level, name), fd) in multicast.into_iter().zip([four, six]) {
            assert_eq!(option_int(fd, level, name), Ok(1));
            for (value, kept) in [(0, 0), (255, 255), (7, 7), (-1, 1)] {
                assert_eq!(set_int(fd, level, name, value), Ok(0), "{value}");
                assert_eq!(option_int(fd, level, name), Ok(kept), "{value}");
            }
            assert_eq!(set_int(fd, level, name, 256), Err(EINVAL));
            assert_eq!(set_int(fd, level, name, -2), Err(EINVAL));
        }
        // IPv4 takes a byte, too; IPv6 does not.
        assert_eq!(set(four, SOL_IP, net::IP_MULTICAST_TTL, &[9]), Ok(0));
        assert_eq!(option_int(four, SOL_IP, net::IP_MULTICAST_TTL), Ok(9));
        assert_eq!(set(six, SOL_IPV6, net::IPV6_MULTICAST_HOPS, &[9]), Err(EINVAL));
        for (value, kept) in [(0xb8, 0xb8), (-1, 0)] {
            assert_eq!(set_int(six, SOL_IPV6, net::IPV6_TCLASS, value), Ok(0));
            assert_eq!(option_int(six, SOL_IPV6, net::IPV6_TCLASS), Ok(kept));
        }
        assert_eq!(set_int(six, SOL_IPV6, net::IPV6_TCLASS, 256), Err(EINVAL));
        assert_eq!(set_int(four, SOL_IP, net::IP_TOS, 0x10), Ok(0));
        assert_eq!(option_int(four, SOL_IP, net::IP_TOS), Ok(0x10));
        for how in 0..6 {
            assert_eq!(set_int(six, SOL_IPV6, net::IPV6_MTU_DISCOVER, how), Ok(0));
            assert_eq!(option_int(six, SOL_IPV6, net::IPV6_MTU_DISCOVER), Ok(how));
        }
        assert_eq!(set_int(six, SOL_IPV6, net::IPV6_MTU_DISCOVER, 6), Err(EINVAL));
    });
}

#[test]
fn answers_are_cut_to_the_room_there_is() {
    run(|| {
        let fd = socket(net::AF_INET, DGRAM);
        set_int(fd, SOL_IP, net::IP_TTL, 33).unwrap();
        assert_eq!(option(fd, SOL_IP, net::IP_TTL, 1), Ok([33].into()));
        assert_eq!(option(fd, SOL_IP, net::IP_TTL, 16), Ok([33, 0, 0, 0].into()));
    });
}

#[test]
fn path_is_known_once_there_is_a_peer() {
    run(|| {
        let six = socket(net::AF_INET6, DGRAM);
        assert_eq!(option_int(six, SOL_IPV6, net::IPV6_MTU), Err(ENOTCONN));
        connect(six, &v6_localhost(9)).unwrap();
        assert!(option_int(six, SOL_IPV6, net::IPV6_MTU).unwrap() >= 1280);
        let (client, server) = tcp_pair();
        assert!(option_int(client, SOL_IP, net::IP_MTU).unwrap() >= 576);
        // No connection here was led elsewhere.
        assert_eq!(option_int(server, SOL_IP, SO_ORIGINAL_DST), Err(ENOENT));
        assert_eq!(option_int(six, SOL_IPV6, SO_ORIGINAL_DST), Err(ENOPROTOOPT));
    });
}

#[test]
fn groups_of_ipv6_are_joined_by_the_number_of_the_link() {
    run(|| {
        const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
        let request = |group: [u8; 16], link: i32| [&group[..], &link.to_ne_bytes()].concat();
        let fd = socket(net::AF_INET6, DGRAM);
        let join = |value: &[u8]| set(fd, SOL_IPV6, net::IPV6_ADD_MEMBERSHIP, value);
        let leave = |value: &[u8]| set(fd, SOL_IPV6, net::IPV6_DROP_MEMBERSHIP, value);
        assert_eq!(join(&request(GROUP, 1)), Ok(0));
        assert_eq!(join(&request(GROUP, 1)), Err(EADDRINUSE));
        assert_eq!(join(&request(GROUP, 77)), Err(ENODEV));
        assert_eq!(join(&request(GROUP, -1)), Err(ENODEV));
        assert_eq!(join(&request([0; 16], 1)), Err(EINVAL));
        assert_eq!(join(&GROUP), Err(EINVAL));
        assert_eq!(leave(&request(GROUP, 1)), Ok(0));
        assert_eq!(leave(&request(GROUP, 1)), Err(EADDRNOTAVAIL));
        let stream = socket(net::AF_INET6, STREAM);
        assert!(set(stream, SOL_IPV6, net::IPV6_ADD_MEMBERSHIP, &request(GROUP, 1)).is_err());
        assert_eq!(set_int(fd, SOL_IPV6, net::IPV6_MULTICAST_IF, 1), Ok(0));
        assert_eq!(set_int(fd, SOL_IPV6, net::IPV6_MULTICAST_IF, 0), Ok(0));
        assert_eq!(set_int(fd, SOL_IPV6, net::IPV6_MULTICAST_IF, 77), Err(ENODEV));
    });
}

#[test]
fn address_of_somebody_else_needs_leave() {
    run(|| {
        const FOREIGN: [u8; 4] = [192, 0, 2, 1];
        let fd = socket(net::AF_INET, DGRAM);
        assert_eq!(bind(fd, &v4(FOREIGN, 5000)), Err(EADDRNOTAVAIL));
        set_int(fd, SOL_IP, net::IP_FREEBIND, 1).unwrap();
        assert_eq!(bind(fd, &v4(FOREIGN, 5000)), Ok(0));
        let transparent = socket(net::AF_INET, DGRAM);
        set_int(transparent, SOL_IP, net::IP_TRANSPARENT, 1).unwrap();
        assert_eq!(bind(transparent, &v4(FOREIGN, 5001)), Ok(0));
        let (_, address) = bound(DGRAM);
        assert_eq!(bind(socket(net::AF_INET, DGRAM), &address), Err(EADDRINUSE));
        assert_eq!(bind(socket(net::AF_INET, DGRAM), &v4(LOCALHOST, 0)), Ok(0));
    });
}
