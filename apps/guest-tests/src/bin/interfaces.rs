//! What programs ask about interfaces: `getifaddrs` and `if_nameindex`, which speak netlink(7), requests of their own to it, and `ioctl`
//! (netdevice(7)). All must tell the same.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use guest_tests::{check, check_eq, errno};

/// What is said of an interface.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    flags: u32,
    addresses: Vec<(IpAddr, IpAddr)>,
}

/// The address in a `sockaddr`, if it is one of IP.
fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: `getifaddrs` made it, as long as its family says.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let bits = (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                Some(Ipv4Addr::from(bits.to_ne_bytes()).into())
            }
            libc::AF_INET6 => {
                Some(Ipv6Addr::from((*address.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Everything that `getifaddrs` tells.
fn listed() -> BTreeMap<String, Interface> {
    let mut interfaces = BTreeMap::<String, Interface>::new();
    let mut first = std::ptr::null_mut();
    // SAFETY: the list is valid until it is freed, and its parts are read before.
    unsafe {
        check_eq!(libc::getifaddrs(&raw mut first), 0);
        let mut next = first;
        while let Some(entry) = next.as_ref() {
            let name = CStr::from_ptr(entry.ifa_name).to_str().unwrap().to_owned();
            let interface = interfaces.entry(name).or_default();
            interface.flags = entry.ifa_flags;
            let pair = address_of(entry.ifa_addr).zip(address_of(entry.ifa_netmask));
            interface.addresses.extend(pair);
            next = entry.ifa_next;
        }
        libc::freeifaddrs(first);
    }
    interfaces
}

/// Asks a question about an interface; answers the value's bytes.
fn ask(request: i32, name: &str) -> Result<[u8; 24], i32> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut bytes = [0u8; 40];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: a `struct ifreq` has so many bytes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, bytes.as_mut_ptr()) };
    if result == 0 { Ok(bytes[16..].try_into().unwrap()) } else { Err(errno()) }
}

const SIOCGIFCONF: i32 = 0x8912;
const SIOCGIFFLAGS: i32 = 0x8913;
const SIOCGIFADDR: i32 = 0x8915;
const SIOCGIFNETMASK: i32 = 0x891b;
const SIOCGIFMTU: i32 = 0x8921;
const SIOCGIFINDEX: i32 = 0x8933;

fn v4(value: [u8; 24]) -> IpAddr {
    check_eq!(i32::from(u16::from_ne_bytes([value[0], value[1]])), libc::AF_INET);
    Ipv4Addr::new(value[4], value[5], value[6], value[7]).into()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes[..4].try_into().unwrap())
}

fn ioctls_tell_the_same(interfaces: &BTreeMap<String, Interface>) {
    for (name, interface) in interfaces {
        let flags = ask(SIOCGIFFLAGS, name).unwrap();
        check_eq!(u32::from(u16::from_ne_bytes([flags[0], flags[1]])), interface.flags & 0xffff);
        check!(word(&ask(SIOCGIFMTU, name).unwrap()) >= 1280);
        let index = word(&ask(SIOCGIFINDEX, name).unwrap());
        let c_name = std::ffi::CString::new(name.as_str()).unwrap();
        // SAFETY: the name ends with a NUL.
        check_eq!(index, unsafe { libc::if_nametoindex(c_name.as_ptr()) });
        let first = interface.addresses.iter().find(|(address, _)| address.is_ipv4());
        match first {
            Some((address, mask)) => {
                check_eq!(v4(ask(SIOCGIFADDR, name).unwrap()), *address);
                check_eq!(v4(ask(SIOCGIFNETMASK, name).unwrap()), *mask);
            }
            None => check_eq!(ask(SIOCGIFADDR, name), Err(libc::EADDRNOTAVAIL)),
        }
    }
    check_eq!(ask(SIOCGIFMTU, "none7"), Err(libc::ENODEV));
}

/// `SIOCGIFCONF`: every interface with an address of IPv4.
fn conf_lists_addresses(interfaces: &BTreeMap<String, Interface>) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut room = [0u8; 40 * 64];
    let mut conf = [room.len() as u64, room.as_mut_ptr() as u64];
    // SAFETY: a `struct ifconf` is a length, padding and a pointer to room of that length.
    check_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFCONF as _, conf.as_mut_ptr()) }, 0);
    let listed = room[..conf[0] as u32 as usize].chunks(40);
    check!(listed.len() > 0);
    for request in listed {
        let name = str::from_utf8(&request[..16]).unwrap().trim_end_matches('\0');
        let name = name.split(':').next().unwrap();
        let address = v4(request[16..].try_into().unwrap());
        check!(interfaces[name].addresses.iter().any(|(known, _)| *known == address));
    }
    conf = [0, 0];
    // SAFETY: as above; without room it tells how much is needed.
    check_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFCONF as _, conf.as_mut_ptr()) }, 0);
    check!((conf[0] as u32).is_multiple_of(40) && conf[0] as u32 > 0);
}

/// Sends a request with a fixed part to netlink; answers the first message of the answer: its type, and what is behind its header.
fn request(kind: u16, flags: u16, fixed: &[u8]) -> (u16, Vec<u8>) {
    // SAFETY: nothing is asked of the arguments; the descriptor is ours.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check!(socket >= 0);
    // SAFETY: it was opened a moment ago, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut bytes = (16 + fixed.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(77u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(fixed);
    check_eq!(rustix::io::write(&socket, &bytes), Ok(bytes.len()));
    let mut answer = [0; 8192];
    let len = rustix::io::read(&socket, &mut answer).unwrap();
    check!(len >= 16);
    check_eq!(word(&answer[8..]), 77);
    let message = &answer[16..word(&answer) as usize];
    (u16::from_ne_bytes([answer[4], answer[5]]), message.to_vec())
}

fn requests_are_answered() {
    // Interface 1, by its number.
    let mut fixed = [0; 16];
    fixed[4] = 1;
    let (kind, message) = request(libc::RTM_GETLINK, 0, &fixed);
    check_eq!(kind, libc::RTM_NEWLINK);
    check!(message.windows(3).any(|bytes| bytes == b"lo\0"));
    fixed[4..8].copy_from_slice(&1_000_000u32.to_ne_bytes());
    let error = |errno: i32| (-errno).to_ne_bytes().to_vec();
    let (kind, message) = request(libc::RTM_GETLINK, 0, &fixed);
    check_eq!((kind, message[..4].to_vec()), (libc::NLMSG_ERROR as u16, error(libc::ENODEV)));
    let (kind, message) = request(4000, libc::NLM_F_ACK as u16, &[0; 4]);
    check_eq!((kind, message[..4].to_vec()), (libc::NLMSG_ERROR as u16, error(libc::EOPNOTSUPP)));
}

fn refusals() {
    // SAFETY: nothing is asked of the arguments.
    let socket = |family, kind, protocol| unsafe { libc::socket(family, kind, protocol) };
    check_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, 31), -1);
    check_eq!(errno(), libc::EPROTONOSUPPORT);
    check_eq!(socket(libc::AF_NETLINK, libc::SOCK_STREAM, 0), -1);
    check_eq!(errno(), libc::ESOCKTNOSUPPORT);
    // Who may not, or where there is none, is refused; nothing else happens.
    let packet = socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
    check!(packet >= 0 || matches!(errno(), libc::EPERM | libc::EAFNOSUPPORT));
}

fn main() {
    let interfaces = listed();
    let loopback = &interfaces["lo"];
    check!(loopback.flags & libc::IFF_LOOPBACK as u32 != 0);
    check!(loopback.addresses.contains(&("127.0.0.1".parse().unwrap(), "255.0.0.0".parse().unwrap())));
    ioctls_tell_the_same(&interfaces);
    conf_lists_addresses(&interfaces);
    requests_are_answered();
    refusals();
    if let Some(card) = interfaces.get("eth0") {
        println!("eth0 has {:?}", card.addresses);
    }
}
