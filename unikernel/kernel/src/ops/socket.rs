//! Sockets: making, naming, connecting, ending (socket(2), bind(2), listen(2), accept(2), ...).

use alloc::sync::Arc;

use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK};
use linux_raw_sys::net::*;
use linux_raw_sys::netlink::NETLINK_ROUTE;
use unikernel_policy::net::NetAction;

use crate::abi::{Errno, SysResult};
use crate::file::table::on_exec_of;
use crate::file::{self, File, FileFlags, OpenFile, WaitMode};
use crate::net::address::{Address, Family, UserAddress};
use crate::net::datagram::Datagram;
use crate::net::options::SocketOptions;
use crate::net::socket::{Kind, Shutdown, Socket};
use crate::net::stream::Stream;
use crate::net::unix::{self, SocketType};
use crate::net::{netlink, vsock};
use crate::policy;

/// `SOCK_NONBLOCK` and `SOCK_CLOEXEC` are the flags of `open` (socket(2)).
pub(crate) const SOCK_FLAGS: u32 = O_NONBLOCK | O_CLOEXEC;

/// Types of sockets end before this number (Linux: `include/linux/net.h`).
const SOCK_MAX: u32 = 11;
/// Protocols end before this number (Linux: `IPPROTO_MAX`).
const IPPROTO_END: u32 = 263;

/// The open file behind a descriptor, which must be a socket.
pub(crate) struct SocketRef(Arc<OpenFile>);

impl SocketRef {
    /// The socket behind a descriptor.
    pub(crate) fn get(descriptor: i32) -> Result<Self, Errno> {
        Self::of(file::get(descriptor)?)
    }

    /// The socket that an open file is.
    #[inline]
    pub(crate) fn of(opened: Arc<OpenFile>) -> Result<Self, Errno> {
        opened.downcast::<Socket>().ok_or(Errno::ENOTSOCK)?;
        Ok(Self(opened))
    }

    /// The open file.
    pub(crate) fn opened(&self) -> &OpenFile {
        &self.0
    }

    /// Whether calls on the descriptor may sleep.
    pub(crate) fn wait_mode(&self) -> WaitMode {
        self.0.wait_mode()
    }
}

impl core::ops::Deref for SocketRef {
    type Target = Socket;
    #[inline]
    fn deref(&self) -> &Socket {
        self.0.downcast().expect("checked by `get`")
    }
}

/// A socket as an open file, with the flags of `socket` and `accept4`.
pub(crate) fn open(socket: Arc<Socket>, flags: u32) -> Arc<OpenFile> {
    let mut status = FileFlags::READ_WRITE;
    status.set(FileFlags::NONBLOCK, flags & O_NONBLOCK != 0);
    let socket: Arc<dyn File> = socket;
    file::open(socket, status)
}

/// Gives a socket a descriptor, with these flags.
pub(crate) fn install(socket: Arc<Socket>, flags: u32) -> SysResult {
    file::install(open(socket, flags), on_exec_of(flags))
}

/// socket(2): the socket, which has no descriptor yet.
pub(crate) fn socket(domain: u32, kind: u32, protocol: u32) -> Result<Arc<Socket>, Errno> {
    let family = match domain {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        AF_NETLINK => return Ok(netlink::socket(netlink_kind(kind, protocol)?)),
        AF_UNIX => return Ok(unix::socket(unix_socket_type(kind, protocol)?)),
        // Without a device there is no such family, as on a Linux without one.
        AF_VSOCK if vsock::is_present() => {
            check_vsock(kind, protocol)?;
            return Ok(vsock::socket());
        }
        AF_PACKET => {
            log::warn!("AF_PACKET is not supported: `pcap=` records packets");
            return Err(Errno::EAFNOSUPPORT);
        }
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let kind = match (kind & !SOCK_FLAGS, protocol) {
        (SOCK_STREAM, 0) => Kind::Stream(Stream::default()),
        (SOCK_STREAM, tcp) if tcp == IPPROTO_TCP as u32 => Kind::Stream(Stream::default()),
        (SOCK_DGRAM, 0) => Kind::Datagram(Datagram::default()),
        (SOCK_DGRAM, udp) if udp == IPPROTO_UDP as u32 => Kind::Datagram(Datagram::default()),
        (kind, protocol) if kind >= SOCK_MAX || protocol >= IPPROTO_END => return Err(Errno::EINVAL),
        // Frames are the kernel's: there is no protocol for a raw socket (Linux has none of number 0, either).
        (SOCK_STREAM | SOCK_DGRAM | SOCK_RAW, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok(Socket::new(family, kind, SocketOptions::default()))
}

/// The type of a netlink socket, of the one family that there is (netlink(7)).
fn netlink_kind(kind: u32, protocol: u32) -> Result<u32, Errno> {
    match kind & !SOCK_FLAGS {
        kind @ (SOCK_RAW | SOCK_DGRAM) if protocol == NETLINK_ROUTE => Ok(kind),
        SOCK_RAW | SOCK_DGRAM => Err(Errno::EPROTONOSUPPORT),
        kind if kind >= SOCK_MAX => Err(Errno::EINVAL),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Streams are what there is of `AF_VSOCK` (vsock(7)).
fn check_vsock(kind: u32, protocol: u32) -> Result<(), Errno> {
    match kind & !SOCK_FLAGS {
        _ if protocol != 0 && protocol != AF_VSOCK => Err(Errno::EPROTONOSUPPORT),
        SOCK_STREAM => Ok(()),
        kind if kind >= SOCK_MAX => Err(Errno::EINVAL),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// The type of a socket of this machine's (unix(7)).
pub(crate) fn unix_socket_type(kind: u32, protocol: u32) -> Result<SocketType, Errno> {
    if protocol != 0 && protocol != AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind & !SOCK_FLAGS {
        SOCK_STREAM => Ok(SocketType::Stream),
        // "Raw" has always meant datagrams here (unix(7)).
        SOCK_DGRAM | SOCK_RAW => Ok(SocketType::Datagram),
        SOCK_SEQPACKET => Ok(SocketType::SeqPacket),
        kind if kind >= SOCK_MAX => Err(Errno::EINVAL),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// bind(2).
pub(crate) fn bind(socket: &Socket, address: u64, len: u32) -> SysResult {
    let address = UserAddress::read_own(address, len, socket.family)?;
    socket.check_policy(NetAction::Bind, &address)?;
    socket.bind(address)?;
    Ok(0)
}

/// listen(2). A negative backlog is a large one, as in Linux.
pub(crate) fn listen(socket: &Socket, backlog: i32) -> SysResult {
    // Who listens without a name gets a port of the kernel's choice, on all addresses. Landlock does not ask about that.
    if matches!(socket.kind, Kind::Stream(_))
        && matches!(socket.local(), Address::Internet(own) if own.port() == 0)
    {
        policy::net::check(NetAction::Bind, socket.family.unspecified(), false)?;
    }
    socket.listen(backlog as u32 as usize)?;
    Ok(0)
}

/// shutdown(2).
pub(crate) fn shutdown(socket: &Socket, how: u32) -> SysResult {
    let how = match how {
        SHUT_RD => Shutdown::Receive,
        SHUT_WR => Shutdown::Send,
        SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket.shutdown(how)?;
    Ok(0)
}
