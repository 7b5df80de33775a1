//! What becomes of addresses of every family and length, given to sockets of every kind: printed, and compared with Linux.

use std::net::{Ipv4Addr, Ipv6Addr};

use guest_tests::{check, errno};
use libc::{AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM, c_int};

/// A `sockaddr_in` or `sockaddr_in6` of some family.
fn address(family: c_int, v6: Option<Ipv6Addr>, port: u16) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    match v6 {
        Some(ip) => bytes[8..24].copy_from_slice(&ip.octets()),
        None => bytes[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets()),
    }
    bytes
}

/// 0, or the name of what went wrong.
fn outcome(result: isize) -> String {
    match errno() {
        _ if result >= 0 => "ok".into(),
        // Whether the refusal is there already is a matter of time.
        libc::EINPROGRESS | libc::ECONNREFUSED => "begun".into(),
        error => format!("error {error}"),
    }
}

fn main() {
    // Nobody listens here, but datagrams are sent all the same.
    let port = 9;
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let addresses = [
        ("v4", address(AF_INET, None, port)),
        ("v4 any", {
            let mut any = address(AF_INET, None, 0);
            any[4..8].fill(0);
            any
        }),
        ("v6", address(AF_INET6, Some(Ipv6Addr::LOCALHOST), port)),
        ("mapped", address(AF_INET6, Some(mapped), port)),
        ("unspecified", address(AF_UNSPEC, None, port)),
        ("nothing", [0; 28]),
        ("unix", address(AF_UNIX, None, port)),
        ("unknown", address(77, None, port)),
    ];
    for (family, kind) in
        [(AF_INET, SOCK_DGRAM), (AF_INET6, SOCK_DGRAM), (AF_INET, SOCK_STREAM), (AF_INET6, SOCK_STREAM)]
    {
        for (name, address) in &addresses {
            for len in [0, 1, 2, 15, 16, 23, 24, 28] {
                for only_v6 in [0, 1] {
                    if only_v6 == 1 && family == AF_INET {
                        continue;
                    }
                    let answers = ["connect", "bind", "send"].map(|call| {
                        let place = address.as_ptr();
                        // SAFETY: the address lives longer than the calls, and has no less than `len` bytes.
                        unsafe {
                            let socket = libc::socket(family, kind | libc::SOCK_NONBLOCK, 0);
                            check!(socket >= 0);
                            if only_v6 == 1 {
                                let (level, option) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
                                libc::setsockopt(socket, level, option, (&raw const only_v6).cast(), 4);
                            }
                            let result = match call {
                                "connect" => libc::connect(socket, place.cast(), len) as isize,
                                // A port that root alone may have is not what this is about.
                                "bind" => {
                                    let mut own = *address;
                                    own[2..4].fill(0);
                                    libc::bind(socket, own.as_ptr().cast(), len) as isize
                                }
                                _ if kind == SOCK_STREAM => 0,
                                _ => libc::sendto(socket, c"x".as_ptr().cast(), 1, 0, place.cast(), len),
                            };
                            let text = outcome(result);
                            libc::close(socket);
                            format!("{call} {text}")
                        }
                    });
                    println!("| {family} {kind} {only_v6} {name} {len}: {}", answers.join(", "));
                }
            }
        }
    }
}
