//! Socket options (getsockopt(2), setsockopt(2)). An unknown one is `ENOPROTOOPT`, so that a
//! program can tell; a known one that has no meaning here is accepted.

use arrayvec::ArrayVec;
use linux_raw_sys::general::__kernel_old_timeval;
use linux_raw_sys::net::*;
use linux_raw_sys::netlink::{
    NETLINK_ADD_MEMBERSHIP, NETLINK_BROADCAST_ERROR, NETLINK_CAP_ACK, NETLINK_DROP_MEMBERSHIP,
    NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK, NETLINK_NO_ENOBUFS, NETLINK_PKTINFO,
};

use super::sockopt_ip::{get_ip, get_ipv6, set_ip, set_ipv6};
use super::{sockopt_tcp, sockopt_udp};
use crate::abi::{Errno, SysResult};
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::net::address::Family;
use crate::net::cards::InterfaceId;
use crate::net::options::{Linger, SocketOptions};
use crate::net::socket::{Kind, Socket, kind_number};
use crate::net::unix;
use crate::task::credentials::{self, Capability};
use crate::task::process::PROCESS_ID;

const SOL_TCP: u32 = IPPROTO_TCP as u32;
const SOL_IPV6: u32 = IPPROTO_IPV6 as u32;
const SOL_UDP: u32 = IPPROTO_UDP as u32;
/// Room for an interface's name (`IFNAMSIZ`), and for a congestion control's (`TCP_CA_NAME_MAX`).
pub(super) const NAME_BYTES: usize = 16;

/// Bounds of buffer sizes (Linux: `SOCK_MIN_RCVBUF`, `SOCK_MIN_SNDBUF`, `net.core.rmem_max`).
const LEAST_RECEIVE_BUFFER: i32 = 2304;
const LEAST_SEND_BUFFER: i32 = 4608;
const MAX_BUFFER: i32 = 212_992;

/// Sets an option to the value at an address, which has so many bytes.
pub(crate) fn set(socket: &Socket, level: u32, name: u32, (address, len): (u64, u32)) -> SysResult {
    // The length is an `int`, whatever the option (setsockopt(2)).
    let len = i32::try_from(len).map_err(|_| Errno::EINVAL)? as usize;
    let value = Value { address, len };
    match level {
        SOL_SOCKET => set_socket(socket, name, value)?,
        SOL_TCP => sockopt_tcp::set(socket, name, value)?,
        SOL_IP => set_ip(socket, name, value)?,
        SOL_IPV6 => set_ipv6(socket, name, value)?,
        SOL_UDP => sockopt_udp::set(socket, name, value)?,
        SOL_NETLINK if socket.family == Family::Netlink => set_netlink(name, value)?,
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(0)
}

/// Writes an option's value to an address, where there is so much room; answers how many bytes.
pub(crate) fn get(socket: &Socket, level: u32, name: u32, (address, room): (u64, usize)) -> SysResult {
    let place = Place { address, room };
    match level {
        SOL_SOCKET => get_socket(socket, name, place),
        SOL_TCP => sockopt_tcp::get(socket, name, place),
        SOL_IP => get_ip(socket, name, place),
        SOL_IPV6 => get_ipv6(socket, name, place),
        SOL_UDP => sockopt_udp::get(socket, name, place),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// An option's value in the app's memory.
#[derive(Clone, Copy)]
pub(super) struct Value {
    address: u64,
    len: usize,
}

impl Value {
    /// Bytes of the value, as the app says.
    pub(super) fn len(self) -> usize {
        self.len
    }

    pub(super) fn read<T: UserAbi>(self) -> Result<T, Errno> {
        if self.len < size_of::<T>() {
            return Err(Errno::EINVAL);
        }
        Ok(UserPtr::new(self.address).read()?)
    }

    pub(super) fn int(self) -> Result<i32, Errno> {
        self.read()
    }

    /// A small number, which may be given as one byte (ip(7)).
    pub(super) fn byte(self) -> Result<u8, Errno> {
        if self.len < 4 { self.read::<u8>() } else { u8::try_from(self.int()?).map_err(|_| Errno::EINVAL) }
    }

    /// A switch, which may be given as one byte.
    pub(super) fn byte_is_on(self) -> Result<bool, Errno> {
        if self.len < 4 { Ok(self.read::<u8>()? != 0) } else { self.is_on() }
    }

    /// A name, which ends at a zero or with the value; what is too long is cut off.
    pub(super) fn name(self) -> Result<ArrayVec<u8, NAME_BYTES>, Errno> {
        let mut name = [0; NAME_BYTES];
        let len = self.len.min(NAME_BYTES - 1);
        UserSlice::new(self.address, len).read(&mut name[..len])?;
        Ok(name.into_iter().take_while(|byte| *byte != 0).collect())
    }

    pub(super) fn is_on(self) -> Result<bool, Errno> {
        Ok(self.int()? != 0)
    }

    /// A time-out; zero means none, and a negative one that nothing is waited for.
    fn timeout_ns(self) -> Result<Option<u64>, Errno> {
        let time: __kernel_old_timeval = self.read()?;
        let micros =
            u64::try_from(time.tv_usec).ok().filter(|&micros| micros < 1_000_000).ok_or(Errno::EDOM)?;
        let Ok(seconds) = u64::try_from(time.tv_sec) else { return Ok(Some(0)) };
        let nanoseconds = seconds.saturating_mul(1_000_000_000).saturating_add(micros * 1000);
        Ok((nanoseconds > 0).then_some(nanoseconds))
    }
}

/// Where `getsockopt` wants the value.
#[derive(Clone, Copy)]
pub(super) struct Place {
    address: u64,
    room: usize,
}

impl Place {
    /// Writes as much of a value as there is room for; answers how much.
    pub(super) fn write(self, bytes: &[u8]) -> SysResult {
        let bytes = &bytes[..bytes.len().min(self.room)];
        UserSlice::new(self.address, bytes.len()).write(bytes)?;
        Ok(bytes.len())
    }

    pub(super) fn int(self, value: i32) -> SysResult {
        self.write(&value.to_ne_bytes())
    }

    pub(super) fn flag(self, is_on: bool) -> SysResult {
        self.int(is_on.into())
    }

    fn timeout(self, timeout_ns: Option<u64>) -> SysResult {
        let micros = timeout_ns.unwrap_or(0) / 1000;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&((micros / 1_000_000) as i64).to_ne_bytes());
        bytes[8..].copy_from_slice(&((micros % 1_000_000) as i64).to_ne_bytes());
        self.write(&bytes)
    }
}

/// Whether the running thread may set an option (socket(7), capabilities(7)).
fn check_socket(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    let administers = || credentials::has(Capability::NetAdmin);
    let may = match name {
        SO_RCVBUFFORCE | SO_SNDBUFFORCE => administers(),
        SO_MARK => administers() || credentials::has(Capability::NetRaw),
        SO_PRIORITY => {
            (0..=6).contains(&value.int()?) || administers() || credentials::has(Capability::NetRaw)
        }
        SO_BUSY_POLL => {
            i64::from(value.int()?) <= i64::from(socket.options.lock().busy_poll_us) || administers()
        }
        SO_BINDTODEVICE => socket.options.lock().card.is_none() || credentials::has(Capability::NetRaw),
        _ => true,
    };
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_socket(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    if credentials::may_be_restricted() {
        check_socket(socket, name, value)?;
    }
    let set = |field: fn(&mut SocketOptions) -> &mut bool| {
        let is_on = value.is_on()?;
        socket.set_options(|options| *field(options) = is_on);
        Ok(())
    };
    match name {
        SO_REUSEADDR => set(|options| &mut options.reuses_address),
        SO_REUSEPORT => set(|options| &mut options.reuses_port),
        SO_BROADCAST => set(|options| &mut options.may_broadcast),
        SO_KEEPALIVE => set(|options| &mut options.keep_alive.is_on),
        SO_LINGER => set_linger(socket, value.read()?),
        SO_RCVTIMEO | SO_RCVTIMEO_NEW => {
            let timeout_ns = value.timeout_ns()?;
            socket.set_options(|options| options.receive_timeout_ns = timeout_ns);
            Ok(())
        }
        SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            let timeout_ns = value.timeout_ns()?;
            socket.set_options(|options| options.send_timeout_ns = timeout_ns);
            Ok(())
        }
        SO_BINDTODEVICE => bind_to_device(socket, value),
        SO_RCVBUF | SO_RCVBUFFORCE => {
            let bytes = buffer_bytes(value.int()?, LEAST_RECEIVE_BUFFER);
            socket.set_options(|options| options.tcp.receive_buffer = Some(bytes));
            Ok(())
        }
        SO_SNDBUF | SO_SNDBUFFORCE => {
            let bytes = buffer_bytes(value.int()?, LEAST_SEND_BUFFER);
            socket.set_options(|options| options.tcp.send_buffer = Some(bytes));
            Ok(())
        }
        SO_PASSCRED => {
            let is_on = value.is_on()?;
            if !matches!(socket.family, Family::Unix | Family::Netlink) {
                return Err(Errno::EOPNOTSUPP);
            }
            socket.set_options(|options| options.passes_credentials = is_on);
            Ok(())
        }
        SO_MARK => {
            let mark = value.int()? as u32;
            socket.set_options(|options| options.hints.mark = mark);
            Ok(())
        }
        SO_RXQ_OVFL | SO_PEEK_OFF | SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD
        | SO_TIMESTAMPNS_NEW | SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            sockopt_udp::set_socket(socket, name, value)
        }
        SO_RCVLOWAT => {
            let bytes = value.int()?;
            // Where nothing would look at it, there is no other mark than the usual.
            if !matches!(socket.kind, Kind::Stream(_) | Kind::Datagram(_)) {
                return if bytes == 1 { Ok(()) } else { Err(Errno::ENOPROTOOPT) };
            }
            // Less than nothing is as much as can be (Linux: `sock_set_rcvlowat`).
            let bytes = if bytes < 0 { i32::MAX } else { bytes.max(1) };
            socket.set_options(|options| options.tcp.receive_low = bytes as u32);
            Ok(())
        }
        SO_PRIORITY => {
            let priority = value.int()?;
            socket.set_options(|options| options.hints.priority = priority);
            Ok(())
        }
        SO_BUSY_POLL => {
            let microseconds = u32::try_from(value.int()?).map_err(|_| Errno::EINVAL)?;
            socket.set_options(|options| options.busy_poll_us = microseconds);
            Ok(())
        }
        SO_INCOMING_CPU => {
            let core = value.int()?;
            socket.set_options(|options| options.hints.incoming_core = Some(core));
            Ok(())
        }
        SO_OOBINLINE => set(|options| &mut options.hints.is_urgent_inline),
        SO_DONTROUTE => set(|options| &mut options.is_direct),
        SO_TYPE | SO_ERROR | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN => Err(Errno::ENOPROTOOPT),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Binds to a card by its name, or with an empty one to none (socket(7)). Loopback alone cannot be had.
fn bind_to_device(socket: &Socket, value: Value) -> Result<(), Errno> {
    let name = value.name()?;
    let card = match InterfaceId::by_name(&name) {
        _ if name.is_empty() => None,
        Some(InterfaceId::Card(card)) => Some(card),
        Some(InterfaceId::Loopback) => return Err(Errno::ENOPROTOOPT),
        None => return Err(Errno::ENODEV),
    };
    socket.set_options(|options| options.card = card);
    Ok(())
}

/// What can be wished of answers that are all given anyway, and of news that never come (netlink(7)).
fn set_netlink(name: u32, value: Value) -> Result<(), Errno> {
    match name {
        NETLINK_ADD_MEMBERSHIP
        | NETLINK_DROP_MEMBERSHIP
        | NETLINK_PKTINFO
        | NETLINK_BROADCAST_ERROR
        | NETLINK_NO_ENOBUFS
        | NETLINK_CAP_ACK
        | NETLINK_EXT_ACK
        | NETLINK_GET_STRICT_CHK => value.int().map(drop),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// What Linux makes of a wished size: it doubles it for its bookkeeping, within bounds.
fn buffer_bytes(wished: i32, least: i32) -> i32 {
    wished.clamp(0, MAX_BUFFER).saturating_mul(2).max(least)
}

/// What may wait to be received and to be sent, until the app says otherwise.
fn default_buffers(socket: &Socket) -> (usize, usize) {
    match socket.unix() {
        Some(_) => (unix::CAPACITY_BYTES, unix::CAPACITY_BYTES),
        None => crate::net::buffer_sizes(),
    }
}

fn set_linger(socket: &Socket, linger: linger) -> Result<(), Errno> {
    let is_on = linger.l_onoff != 0;
    socket.set_options(|options| {
        options.linger_seconds = is_on.then_some(linger.l_linger.max(0) as u32);
        options.linger = match options.linger_seconds {
            None => Linger::Background,
            Some(0) => Linger::Abort,
            Some(seconds) => Linger::Wait(seconds),
        };
    });
    Ok(())
}

fn get_socket(socket: &Socket, name: u32, place: Place) -> SysResult {
    let options = *socket.options.lock();
    match name {
        SO_REUSEADDR => place.flag(options.reuses_address),
        SO_REUSEPORT => place.flag(options.reuses_port),
        SO_BROADCAST => place.flag(options.may_broadcast),
        SO_KEEPALIVE => place.flag(options.keep_alive.is_on),
        SO_ERROR => place.int(socket.take_error().map_or(0, Errno::number)),
        SO_TYPE => place.int(kind_number(socket) as i32),
        SO_DOMAIN => place.int(socket.family.number() as i32),
        SO_PROTOCOL => place.int(protocol_number(socket) as i32),
        SO_ACCEPTCONN => place.flag(is_listening(socket)),
        SO_LINGER => {
            let seconds = options.linger_seconds;
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&i32::from(seconds.is_some()).to_ne_bytes());
            bytes[4..].copy_from_slice(&seconds.unwrap_or(0).to_ne_bytes());
            place.write(&bytes)
        }
        SO_RCVTIMEO | SO_RCVTIMEO_NEW => place.timeout(options.receive_timeout_ns),
        SO_SNDTIMEO | SO_SNDTIMEO_NEW => place.timeout(options.send_timeout_ns),
        SO_RCVBUF => place.int(options.tcp.receive_buffer.unwrap_or(default_buffers(socket).0 as i32)),
        SO_SNDBUF => place.int(options.tcp.send_buffer.unwrap_or(default_buffers(socket).1 as i32)),
        SO_BINDTODEVICE => match options.card.map(|card| InterfaceId::Card(card).name()) {
            Some(_) if place.room < NAME_BYTES => Err(Errno::EINVAL),
            Some(name) => place.write(&[name.as_bytes(), &[0]].concat()),
            None => place.write(&[]),
        },
        SO_PEERCRED if socket.unix().is_some() => {
            // There is one process.
            let who = credentials::mine();
            let ids = [PROCESS_ID as u32, who.user.effective, who.group.effective];
            place.write(&ids.map(u32::to_ne_bytes).concat())
        }
        SO_PASSCRED => place.flag(options.passes_credentials),
        SO_MARK => place.int(options.hints.mark as i32),
        // The number of a socket is given once.
        SO_COOKIE if place.room < size_of::<u64>() => Err(Errno::EINVAL),
        SO_COOKIE => place.write(&socket.inode().to_ne_bytes()),
        SO_RXQ_OVFL | SO_PEEK_OFF | SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD
        | SO_TIMESTAMPNS_NEW | SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            sockopt_udp::get_socket(socket, name, place)
        }
        SO_RCVLOWAT => place.int(options.tcp.receive_low.max(1) as i32),
        SO_SNDLOWAT => place.int(1),
        SO_INCOMING_CPU => place.int(options.hints.incoming_core.unwrap_or_else(|| core_of(socket))),
        SO_OOBINLINE => place.flag(options.hints.is_urgent_inline),
        SO_DONTROUTE => place.flag(options.is_direct),
        SO_PRIORITY => place.int(options.hints.priority),
        SO_BUSY_POLL => place.int(options.busy_poll_us as i32),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn protocol_number(socket: &Socket) -> u32 {
    match socket.kind {
        Kind::Stream(_) => SOL_TCP,
        Kind::Datagram(_) => SOL_UDP,
        Kind::Unix(_) => 0,
        Kind::Other(ref endpoint) => endpoint.kind().1,
    }
}

pub(super) fn is_listening(socket: &Socket) -> bool {
    match &socket.kind {
        Kind::Stream(stream) => stream.is_listening(),
        Kind::Unix(unix) => unix.is_listening(),
        Kind::Datagram(_) => false,
        Kind::Other(endpoint) => endpoint.is_listening(),
    }
}

/// The core whose shard serves the socket.
fn core_of(socket: &Socket) -> i32 {
    match &socket.kind {
        Kind::Stream(stream) => stream.shard() as i32,
        _ => 0,
    }
}
