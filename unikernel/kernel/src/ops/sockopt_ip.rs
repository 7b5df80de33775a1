//! Options of IP and IPv6 (ip(7), ipv6(7)), groups among them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux_raw_sys::net::*;

use super::sockopt::{Place, Value};
use crate::abi::{Errno, SysResult};
use crate::net::address::{Address, Family};
use crate::net::cards::{self, InterfaceId};
use crate::net::datagram::Datagram;
use crate::net::options::{SocketOptions, Told, discovery};
use crate::net::socket::{Kind, Socket};
use crate::task::credentials::{self, Capability};

/// Time to live when nothing was set (ip(7)).
const DEFAULT_HOPS: i32 = 64;
/// Where a connection was going before it was redirected, which is nowhere here (Linux: netfilter's, the same number for both
/// versions of IP).
const SO_ORIGINAL_DST: u32 = 80;
/// Bytes of a `struct ipv6_mreq`: a group and the number of an interface.
const MREQ_V6_BYTES: usize = 20;

/// A group and where it is joined.
type Membership = (IpAddr, Option<InterfaceId>);

/// A time to live: -1 asks for the default.
fn read_hops(value: Value) -> Result<u8, Errno> {
    match value.int()? {
        -1 => Ok(0),
        hops @ 1..=255 => Ok(hops as u8),
        _ => Err(Errno::EINVAL),
    }
}

/// The same for groups, where -1 is one hop, and 0 stays on the machine.
fn multicast_hops(hops: i32) -> Result<u8, Errno> {
    if hops == -1 { Ok(1) } else { u8::try_from(hops).map_err(|_| Errno::EINVAL) }
}

fn hops_of(socket: &Socket) -> i32 {
    match socket.options.lock().hop_limit {
        0 => DEFAULT_HOPS,
        hops => hops.into(),
    }
}

/// Sets an option of level `IPPROTO_IP`.
pub(super) fn set_ip(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    match name {
        IP_TTL => {
            let hops = read_hops(value)?;
            socket.set_options(|options| options.hop_limit = hops);
            Ok(())
        }
        IP_MULTICAST_TTL => {
            let hops =
                if value.len() < size_of::<i32>() { value.byte()? } else { multicast_hops(value.int()?)? };
            socket.set_options(|options| options.hints.multicast_ttl = hops);
            Ok(())
        }
        IP_TOS | IP_MULTICAST_LOOP => {
            let byte = value.byte()?;
            socket.set_options(|SocketOptions { hints, .. }| match name {
                IP_TOS => hints.type_of_service = byte,
                _ => hints.has_multicast_loop = byte != 0,
            });
            Ok(())
        }
        IP_RECVERR => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.receives_errors = is_on);
            Ok(())
        }
        IP_MTU_DISCOVER => {
            let how = read_discovery(value)?;
            socket.set_options(|options| options.hints.path_discovery = how);
            Ok(())
        }
        IP_PKTINFO => tell(socket, Told::INFO_V4, value),
        IP_RECVTTL => tell(socket, Told::HOPS_V4, value),
        IP_RECVTOS => tell(socket, Told::CLASS_V4, value),
        IP_RECVORIGDSTADDR => tell(socket, Told::DESTINATION_V4, value),
        IP_FREEBIND | IP_TRANSPARENT => set_free(socket, name == IP_FREEBIND, value),
        IP_ADD_MEMBERSHIP => join(socket, membership_v4(value)?),
        IP_DROP_MEMBERSHIP => leave(socket, membership_v4(value)?),
        IP_MULTICAST_IF => {
            let link = if value.len() < size_of::<ip_mreq>() {
                link_of(value.read::<[u8; 4]>()?.into(), 0).map_err(|_| Errno::EADDRNOTAVAIL)?
            } else {
                membership_v4(value)?.1
            };
            socket.set_options(|options| options.hints.multicast_link = link);
            Ok(())
        }
        IP_ADD_SOURCE_MEMBERSHIP => with_source(socket, value, Datagram::join_source),
        IP_DROP_SOURCE_MEMBERSHIP => with_source(socket, value, Datagram::leave_source),
        IP_BIND_ADDRESS_NO_PORT => {
            let is_on = value.byte_is_on()?;
            socket.set_options(|options| options.hints.binds_address_only = is_on);
            Ok(())
        }
        IP_MULTICAST_ALL => {
            let is_on = read_switch(value)?;
            socket.set_options(|options| options.hints.hears_all_groups = is_on);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Tells one.
pub(super) fn get_ip(socket: &Socket, name: u32, place: Place) -> SysResult {
    let options = *socket.options.lock();
    let (SocketOptions { hints, receives_errors, .. }, told) = (options, options.datagram.told);
    match name {
        IP_TTL => place.int(hops_of(socket)),
        IP_TOS => place.int(hints.type_of_service.into()),
        IP_RECVERR => place.flag(receives_errors),
        IP_MTU_DISCOVER => place.int(hints.path_discovery.into()),
        IP_MULTICAST_TTL => place.int(hints.multicast_ttl.into()),
        IP_MULTICAST_LOOP => place.flag(hints.has_multicast_loop),
        IP_MULTICAST_ALL => place.flag(hints.hears_all_groups),
        IP_BIND_ADDRESS_NO_PORT => place.flag(hints.binds_address_only),
        SO_ORIGINAL_DST if matches!(socket.kind, Kind::Stream(_)) => Err(Errno::ENOENT),
        IP_MULTICAST_IF => place.write(&[0; 4]),
        IP_MTU => place.int(path_mtu(socket)?),
        IP_PKTINFO => place.flag(told.contains(Told::INFO_V4)),
        IP_RECVTTL => place.flag(told.contains(Told::HOPS_V4)),
        IP_RECVTOS => place.flag(told.contains(Told::CLASS_V4)),
        IP_RECVORIGDSTADDR => place.flag(told.contains(Told::DESTINATION_V4)),
        IP_FREEBIND => place.flag(options.is_free),
        IP_TRANSPARENT => place.flag(options.is_transparent),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Sets an option of level `IPPROTO_IPV6`.
pub(super) fn set_ipv6(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    if socket.family != Family::V6 {
        return Err(Errno::ENOPROTOOPT);
    }
    match name {
        IPV6_V6ONLY => {
            let is_on = value.is_on()?;
            // What a port is taken for is settled by then.
            if matches!(socket.local(), Address::Internet(local) if local.port() != 0) {
                return Err(Errno::EINVAL);
            }
            socket.set_options(|options| options.is_v6_only = is_on);
            Ok(())
        }
        IPV6_UNICAST_HOPS => {
            let hops = read_hops(value)?;
            socket.set_options(|options| options.hop_limit = hops);
            Ok(())
        }
        IPV6_TCLASS => {
            // -1 asks for the default.
            let class = match value.int()? {
                -1 => 0,
                class => u8::try_from(class).map_err(|_| Errno::EINVAL)?,
            };
            socket.set_options(|options| options.hints.traffic_class = class);
            Ok(())
        }
        IPV6_MULTICAST_LOOP => {
            let byte = value.byte()?;
            socket.set_options(|options| options.hints.has_multicast_loop_v6 = byte != 0);
            Ok(())
        }
        IPV6_MULTICAST_HOPS => {
            let hops = multicast_hops(value.int()?)?;
            socket.set_options(|options| options.hints.multicast_ttl = hops);
            Ok(())
        }
        IPV6_RECVERR => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.receives_errors = is_on);
            Ok(())
        }
        IPV6_MTU_DISCOVER => {
            let how = read_discovery(value)?;
            socket.set_options(|options| options.hints.path_discovery_v6 = how);
            Ok(())
        }
        IPV6_RECVPKTINFO => tell(socket, Told::INFO_V6, value),
        IPV6_RECVHOPLIMIT => tell(socket, Told::HOPS_V6, value),
        IPV6_RECVTCLASS => tell(socket, Told::CLASS_V6, value),
        IPV6_RECVORIGDSTADDR => tell(socket, Told::DESTINATION_V6, value),
        IPV6_FREEBIND | IPV6_TRANSPARENT => set_free(socket, name == IPV6_FREEBIND, value),
        IPV6_DONTFRAG => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.datagram.is_unsplit_v6 = is_on);
            Ok(())
        }
        IPV6_ADD_MEMBERSHIP => join(socket, membership_v6(value)?),
        IPV6_DROP_MEMBERSHIP => leave(socket, membership_v6(value)?),
        IPV6_MULTICAST_ALL => {
            let is_on = read_switch(value)?;
            socket.set_options(|options| options.hints.hears_all_groups_v6 = is_on);
            Ok(())
        }
        IPV6_MULTICAST_IF => {
            let link = link_by_number(value.int()?)?;
            socket.set_options(|options| options.hints.multicast_link = link);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Tells one.
pub(super) fn get_ipv6(socket: &Socket, name: u32, place: Place) -> SysResult {
    if socket.family != Family::V6 {
        // Not what setting one answers: Linux's `ip_getsockopt` and `ip_setsockopt` differ.
        return Err(Errno::EOPNOTSUPP);
    }
    let options = *socket.options.lock();
    match name {
        IPV6_V6ONLY => place.flag(options.is_v6_only),
        IPV6_UNICAST_HOPS => place.int(hops_of(socket)),
        IPV6_TCLASS => place.int(options.hints.traffic_class.into()),
        IPV6_MULTICAST_LOOP => place.flag(options.hints.has_multicast_loop_v6),
        IPV6_MULTICAST_ALL => place.flag(options.hints.hears_all_groups_v6),
        SO_ORIGINAL_DST if matches!(socket.kind, Kind::Stream(_)) => Err(Errno::ENOENT),
        IPV6_RECVERR => place.flag(options.receives_errors),
        IPV6_MULTICAST_HOPS => place.int(options.hints.multicast_ttl.into()),
        IPV6_MTU_DISCOVER => place.int(options.hints.path_discovery_v6.into()),
        IPV6_RECVPKTINFO => place.flag(options.datagram.told.contains(Told::INFO_V6)),
        IPV6_RECVHOPLIMIT => place.flag(options.datagram.told.contains(Told::HOPS_V6)),
        IPV6_RECVTCLASS => place.flag(options.datagram.told.contains(Told::CLASS_V6)),
        IPV6_RECVORIGDSTADDR => place.flag(options.datagram.told.contains(Told::DESTINATION_V6)),
        IPV6_DONTFRAG => place.flag(options.datagram.is_unsplit_v6),
        IPV6_FREEBIND => place.flag(options.is_free),
        IPV6_TRANSPARENT => place.flag(options.is_transparent),
        IPV6_MTU => place.int(path_mtu(socket)?),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Whether datagrams that a path does not carry whole are refused.
fn read_discovery(value: Value) -> Result<u8, Errno> {
    let how = value.byte()?;
    if discovery(how).is_some() { Ok(how) } else { Err(Errno::EINVAL) }
}

/// Has something told beside each datagram, or no more.
fn tell(socket: &Socket, what: Told, value: Value) -> Result<(), Errno> {
    let is_on = value.byte_is_on()?;
    socket.set_options(|options| options.datagram.told.set(what, is_on));
    Ok(())
}

/// Lets the socket have an address that is not ours.
fn set_free(socket: &Socket, is_freebind: bool, value: Value) -> Result<(), Errno> {
    let is_on = value.byte_is_on()?;
    if is_on && !is_freebind && !credentials::has(Capability::NetAdmin) {
        credentials::check(Capability::NetRaw)?;
    }
    socket.set_options(|options| match is_freebind {
        true => options.is_free = is_on,
        false => options.is_transparent = is_on,
    });
    Ok(())
}

/// What the path to the peer carries (`IP_MTU`).
fn path_mtu(socket: &Socket) -> Result<i32, Errno> {
    match &socket.kind {
        Kind::Datagram(datagram) => datagram.path_mtu(socket),
        Kind::Stream(stream) => stream.path_mtu(),
        Kind::Unix(_) | Kind::Other(_) => None,
    }
    .map(|bytes| bytes as i32)
    .ok_or(Errno::ENOTCONN)
}

/// A `struct ip_mreq` or `struct ip_mreqn`.
fn membership_v4(value: Value) -> Result<Membership, Errno> {
    let (group, interface, number) = if value.len() < size_of::<ip_mreqn>() {
        let bytes: [u8; 8] = value.read()?;
        (first(&bytes), first(&bytes[4..]), 0)
    } else {
        let bytes: [u8; 12] = value.read()?;
        (first(&bytes), first(&bytes[4..]), i32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]))
    };
    Ok((group.into(), link_of(interface, number)?))
}

fn first(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

/// A `struct ipv6_mreq`.
fn membership_v6(value: Value) -> Result<Membership, Errno> {
    let bytes: [u8; MREQ_V6_BYTES] = value.read()?;
    let (group, number) = bytes.split_at(16);
    let octets: [u8; 16] = group.try_into().map_err(|_| Errno::EINVAL)?;
    let number = i32::from_ne_bytes([number[0], number[1], number[2], number[3]]);
    Ok((Ipv6Addr::from(octets).into(), link_by_number(number)?))
}

/// The link with an address of ours, or with a number if there is one.
fn link_of(address: Ipv4Addr, number: i32) -> Result<Option<InterfaceId>, Errno> {
    match address {
        _ if number != 0 => link_by_number(number),
        Ipv4Addr::UNSPECIFIED => Ok(None),
        address if address.is_loopback() => Ok(Some(InterfaceId::Loopback)),
        address => Ok(Some(InterfaceId::Card(cards::owner_of(address.into()).ok_or(Errno::ENODEV)?))),
    }
}

/// The link with a number; none for 0.
fn link_by_number(number: i32) -> Result<Option<InterfaceId>, Errno> {
    match u32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(InterfaceId::by_number(number).ok_or(Errno::ENODEV)?)),
        Err(_) => Err(Errno::ENODEV),
    }
}

fn join(socket: &Socket, (group, link): Membership) -> Result<(), Errno> {
    match &socket.kind {
        Kind::Datagram(datagram) => datagram.join(group, link),
        _ => Err(Errno::EPROTO),
    }
}

/// Joins or leaves a group for one sender's datagrams, as a `struct ip_mreq_source` says.
fn with_source(
    socket: &Socket,
    value: Value,
    step: fn(&Datagram, IpAddr, IpAddr, Option<InterfaceId>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let bytes: [u8; 12] = value.read()?;
    let (group, interface, source) = (first(&bytes), first(&bytes[4..]), first(&bytes[8..]));
    match &socket.kind {
        Kind::Datagram(datagram) => step(datagram, group.into(), source.into(), link_of(interface, 0)?),
        _ => Err(Errno::EPROTO),
    }
}

/// A switch that is 0 or 1.
fn read_switch(value: Value) -> Result<bool, Errno> {
    match value.byte()? {
        number @ 0..=1 => Ok(number == 1),
        _ => Err(Errno::EINVAL),
    }
}

fn leave(socket: &Socket, (group, link): Membership) -> Result<(), Errno> {
    match &socket.kind {
        Kind::Datagram(datagram) => datagram.leave(group, link),
        _ => Err(Errno::EPROTO),
    }
}
