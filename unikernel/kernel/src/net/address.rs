//! `sockaddr` between the app and us (ip(7), ipv6(7), unix(7)).
//!
//! Inside, an IPv4 address is an IPv4 address. An IPv6 socket sees it in its mapped form
//! (RFC 4291 section 2.5.5.2).

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use linux_raw_sys::net::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_UNSPEC, AF_VSOCK, sockaddr_in};
use smallvec::SmallVec;
use unikernel_policy::net::NetAction;

use super::endpoint::Name;
use super::socket::{Kind, Socket};
use super::unix::UnixName;
use super::{netlink, vsock};
use crate::abi::Errno;
use crate::mem::user::{UserPtr, UserSlice};
use crate::policy;

/// Bytes of a `sockaddr_in`.
const V4_BYTES: usize = size_of::<sockaddr_in>();
/// Bytes of a `sockaddr_in6` with its scope.
const V6_BYTES: usize = 28;
/// The same as older programs give it (`SIN6_LEN_RFC2133`).
const V6_LEAST_BYTES: usize = 24;
/// More than any address has; longer ones are refused, as Linux does (`sockaddr_storage`).
const LARGEST_BYTES: usize = 128;

/// The protocol family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
    /// `AF_UNIX`.
    Unix,
    /// `AF_NETLINK`.
    Netlink,
    /// `AF_VSOCK`.
    Vsock,
}

impl Family {
    /// Linux's number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
            Self::Unix => AF_UNIX,
            Self::Netlink => AF_NETLINK,
            Self::Vsock => AF_VSOCK,
        }
    }

    /// The address that stands for "any" in this family.
    pub(crate) fn unspecified(self) -> SocketAddr {
        match self {
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
            _ => (core::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// The name of a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// Of TCP and UDP.
    Internet(SocketAddr),
    /// Within the machine.
    Unix(UnixName),
    /// Of another kind.
    Other(Name),
}

/// Bytes of the shortest address of a family of the internet.
fn least_bytes(family: Family) -> usize {
    if family == Family::V4 { V4_BYTES } else { V6_LEAST_BYTES }
}

/// The bytes of an address, which are fetched before anybody asks what socket they are for.
#[derive(Clone, Debug)]
pub(crate) struct Raw(SmallVec<[u8; V6_BYTES]>);

impl Raw {
    /// Fetches an address, whatever it is: it has no impossible length, and its bytes are there.
    pub(crate) fn read(address: u64, len: u32) -> Result<Self, Errno> {
        let len = len as usize;
        if len > LARGEST_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut bytes = SmallVec::from_elem(0, len);
        UserSlice::new(address, len).read(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// `AF_*`, if it is long enough to have a family.
    fn family(&self) -> Option<u32> {
        self.0.first_chunk().map(|&number| u32::from(u16::from_ne_bytes(number)))
    }
}

/// A socket address, as the app named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum UserAddress {
    /// An internet address.
    Internet(SocketAddr),
    /// A name within the machine.
    Unix(UnixName),
    /// An address of another kind.
    Other(Name),
    /// `AF_UNSPEC`, which takes a connection of a datagram socket back.
    Unspecified,
}

impl UserAddress {
    /// Takes an address for a socket of `family` apart.
    fn parse(raw: &Raw, family: Family) -> Result<Self, Errno> {
        let given = raw.family().ok_or(Errno::EINVAL)?;
        let (bytes, len) = (&raw.0[..], raw.0.len());
        match (given, family) {
            (AF_UNSPEC, _) => Ok(Self::Unspecified),
            (AF_UNIX, Family::Unix) => Ok(Self::Unix(UnixName::parse(&bytes[2..])?)),
            (AF_NETLINK, Family::Netlink) => other(bytes, netlink::NAME_BYTES),
            (AF_VSOCK, Family::Vsock) => other(bytes, vsock::NAME_BYTES),
            (_, Family::Unix | Family::Netlink | Family::Vsock) => Err(Errno::EINVAL),
            // The length is looked at first.
            _ if len < least_bytes(family) => Err(Errno::EINVAL),
            (AF_INET, Family::V4) => Ok(Self::Internet(parse_v4(bytes))),
            (AF_INET6, Family::V6) => Ok(Self::Internet(parse_v6(bytes))),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Reads an address to bind to. For IPv4, Linux has always taken "no family" with "any address" for
    /// that address.
    pub(crate) fn read_own(address: u64, len: u32, family: Family) -> Result<Self, Errno> {
        let raw = Raw::read(address, len)?;
        let given = Self::parse(&raw, family)?;
        if given != Self::Unspecified || !matches!(family, Family::V4 | Family::V6) {
            return Ok(given);
        }
        match Self::v4_of_no_family(&raw, family) {
            Some(own) if own.ip().is_unspecified() => Ok(Self::Internet(own)),
            _ if raw.0.len() < least_bytes(family) => Err(Errno::EINVAL),
            _ => Ok(given),
        }
    }

    /// What an address without a family would be as one of IPv4, for a socket of IPv4.
    fn v4_of_no_family(raw: &Raw, family: Family) -> Option<SocketAddr> {
        let is_v4 = family == Family::V4 && raw.0.len() >= V4_BYTES;
        is_v4.then(|| parse_v4(&raw.0))
    }

    /// The internet address.
    pub(crate) fn internet(self) -> Result<SocketAddr, Errno> {
        match self {
            Self::Internet(address) => Ok(address),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// The address of another kind.
    pub(crate) fn other(self) -> Result<Name, Errno> {
        match self {
            Self::Other(name) => Ok(name),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The name within the machine.
    pub(crate) fn unix(self) -> Result<UnixName, Errno> {
        match self {
            Self::Unix(name) => Ok(name),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Socket {
    /// The address to connect or to send to. A datagram socket of IPv6 takes one of IPv4 as it is (glibc's `getaddrinfo`
    /// asks for the way to it like that), unless it is for IPv6 alone: that is `refused`.
    pub(crate) fn peer_of(&self, raw: &Raw, refused: Errno) -> Result<UserAddress, Errno> {
        let peer = self.named_peer(raw, refused)?;
        self.check_policy(NetAction::Connect, &peer)?;
        Ok(peer)
    }

    /// Whether the app may use the address so ([`policy::net`]).
    pub(crate) fn check_policy(&self, action: NetAction, address: &UserAddress) -> Result<(), Errno> {
        match address {
            UserAddress::Internet(address) => {
                policy::net::check(action, *address, matches!(self.kind, Kind::Stream(_)))
            }
            UserAddress::Other(_) if self.family == Family::Vsock => policy::net::check_vsock(),
            _ => Ok(()),
        }
    }

    fn named_peer(&self, raw: &Raw, refused: Errno) -> Result<UserAddress, Errno> {
        let is_v4 = raw.family() == Some(AF_INET);
        if !matches!(self.kind, Kind::Datagram(_)) || self.family != Family::V6 || !is_v4 {
            return UserAddress::parse(raw, self.family);
        }
        if self.options.lock().is_v6_only {
            return Err(refused);
        }
        UserAddress::parse(raw, Family::V4)
    }

    /// Where a message goes; none if it goes to the peer. Datagrams take what has no family for an address of IPv4,
    /// and for none with IPv6, which knows no others but those of the two.
    pub(crate) fn destination_of(&self, raw: &Raw) -> Result<Option<UserAddress>, Errno> {
        let is_datagram = matches!(self.kind, Kind::Datagram(_));
        let destination = self.named_destination(raw, is_datagram)?;
        // A stream sends to its peer, whatever is named.
        if let Some(address) = destination.as_ref().filter(|_| is_datagram) {
            self.check_policy(NetAction::Connect, address)?;
        }
        Ok(destination)
    }

    fn named_destination(&self, raw: &Raw, is_datagram: bool) -> Result<Option<UserAddress>, Errno> {
        match self.named_peer(raw, Errno::ENETUNREACH) {
            Ok(UserAddress::Unspecified) if is_datagram && self.family == Family::V6 => Ok(None),
            Ok(UserAddress::Unspecified) if is_datagram => {
                let to = UserAddress::v4_of_no_family(raw, self.family);
                to.map(|to| Some(UserAddress::Internet(to))).ok_or(Errno::EINVAL)
            }
            Err(Errno::EAFNOSUPPORT) if is_datagram && self.family == Family::V6 => Err(Errno::EINVAL),
            given => given.map(Some),
        }
    }

    /// Whether a peer's address can be reached from here at all: not one of IPv4 in its mapped form by a socket for IPv6 alone.
    pub(super) fn check_reachable(&self, given: &UserAddress) -> Result<(), Errno> {
        let is_v4 = matches!(given, UserAddress::Internet(address) if address.is_ipv4());
        let is_out_of_reach = is_v4 && self.family == Family::V6 && self.options.lock().is_v6_only;
        if is_out_of_reach { Err(Errno::ENETUNREACH) } else { Ok(()) }
    }

    /// Whether a datagram can be addressed like that.
    pub(super) fn check_destination(&self, to: SocketAddr) -> Result<(), Errno> {
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        self.check_reachable(&UserAddress::Internet(to))
    }
}

/// An address as it is, of which the first `len` bytes count.
fn other(bytes: &[u8], len: usize) -> Result<UserAddress, Errno> {
    Ok(UserAddress::Other(bytes.get(..len).ok_or(Errno::EINVAL)?.iter().copied().collect()))
}

fn parse_v4(bytes: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    SocketAddr::new([bytes[4], bytes[5], bytes[6], bytes[7]].into(), port)
}

fn parse_v6(bytes: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[8..24]);
    let scope =
        bytes.get(24..28).map_or(0, |scope| u32::from_ne_bytes([scope[0], scope[1], scope[2], scope[3]]));
    match Ipv6Addr::from(octets).to_canonical() {
        // Only these have a scope.
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast() => {
            SocketAddrV6::new(v6, port, 0, scope).into()
        }
        address => SocketAddr::new(address, port),
    }
}

/// An address as bytes for a socket of `family`, and how many of them count.
pub(crate) fn encode(address: SocketAddr, family: Family) -> ([u8; V6_BYTES], usize) {
    let mut bytes = [0; V6_BYTES];
    bytes[..2].copy_from_slice(&(family.number() as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    if let SocketAddr::V6(v6) = address {
        bytes[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
    }
    match (address.ip(), family) {
        (IpAddr::V4(v4), Family::V4) => {
            bytes[4..8].copy_from_slice(&v4.octets());
            (bytes, V4_BYTES)
        }
        (IpAddr::V4(v4), _) => {
            bytes[8..24].copy_from_slice(&v4.to_ipv6_mapped().octets());
            (bytes, V6_BYTES)
        }
        (IpAddr::V6(v6), _) => {
            bytes[8..24].copy_from_slice(&v6.octets());
            (bytes, V6_BYTES)
        }
    }
}

/// An address as IPv6 has it, or in its mapped form.
pub(crate) fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Writes an address as `getsockname` does: cut to the room given, with its true length. Both
/// pointers may be null where the call allows that.
pub(crate) fn write(address: &Address, family: Family, place: u64, len: UserPtr<u32>) -> Result<(), Errno> {
    match address {
        Address::Internet(address) => {
            let (bytes, count) = encode(*address, family);
            write_bytes(&bytes[..count], place, len)
        }
        Address::Unix(name) => write_bytes(&name.encode(), place, len),
        Address::Other(name) => write_bytes(name, place, len),
    }
}

fn write_bytes(bytes: &[u8], place: u64, len: UserPtr<u32>) -> Result<(), Errno> {
    if place == 0 || len.is_null() {
        return Ok(());
    }
    let room = len.read()?;
    if room > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let shown = &bytes[..bytes.len().min(room as usize)];
    UserSlice::new(place, shown.len()).write(shown)?;
    len.write(bytes.len() as u32)?;
    Ok(())
}
