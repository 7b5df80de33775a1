//! Sockets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use linux_raw_sys::general::*;
use linux_raw_sys::net::*;

use super::Fd;
use super::raw::call;
use crate::Error;

/// The flags of socket(2) are those of open(2) by definition (include/linux/net.h).
const SOCK_CLOEXEC: u32 = O_CLOEXEC;
const SOCK_NONBLOCK: u32 = O_NONBLOCK;

/// A socket address as the kernel writes it: the larger of the two families.
#[repr(C, align(8))]
struct RawAddress {
    bytes: [u8; 28],
    len: u32,
}

impl RawAddress {
    const fn empty() -> Self {
        Self { bytes: [0; 28], len: 28 }
    }

    fn new(address: SocketAddr) -> Self {
        let mut raw = Self::empty();
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        raw.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => {
                raw.bytes[4..8].copy_from_slice(&ip.octets());
                raw.len = 16;
            }
            IpAddr::V6(ip) => raw.bytes[8..24].copy_from_slice(&ip.octets()),
        }
        raw
    }

    fn decode(&self) -> Result<SocketAddr, Error> {
        let family = u32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]));
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        let ip = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::new(self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7])),
            AF_INET6 => {
                let octets: [u8; 16] = self.bytes[8..24].try_into().map_err(|_| Error::INVALID)?;
                IpAddr::V6(Ipv6Addr::from(octets))
            }
            _ => return Err(Error::INVALID),
        };
        Ok(SocketAddr::new(ip, port))
    }
}

/// The kinds of socket there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketKind {
    Stream,
    Datagram,
}

/// socket(2), of the family that `address` has.
pub(crate) fn socket(address: &SocketAddr, kind: SocketKind) -> Result<Fd, Error> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let kind = match kind {
        SocketKind::Stream => SOCK_STREAM,
        SocketKind::Datagram => SOCK_DGRAM,
    };
    // SAFETY: no pointers.
    unsafe { call!(__NR_socket, family, kind | SOCK_CLOEXEC, 0) }.map(Fd::new)
}

/// bind(2).
pub(crate) fn bind(fd: &Fd, address: SocketAddr) -> Result<(), Error> {
    let raw = RawAddress::new(address);
    // SAFETY: the kernel reads as many bytes as the address has.
    unsafe { call!(__NR_bind, fd.number(), raw.bytes.as_ptr(), raw.len) }.map(drop)
}

/// connect(2).
pub(crate) fn connect(fd: &Fd, address: SocketAddr) -> Result<(), Error> {
    let raw = RawAddress::new(address);
    // SAFETY: the kernel reads as many bytes as the address has.
    unsafe { call!(__NR_connect, fd.number(), raw.bytes.as_ptr(), raw.len) }.map(drop)
}

/// listen(2).
pub(crate) fn listen(fd: &Fd, backlog: i32) -> Result<(), Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_listen, fd.number(), backlog) }.map(drop)
}

/// accept4(2); the new socket does not block if `nonblocking` is set.
pub(crate) fn accept(fd: &Fd, nonblocking: bool) -> Result<(Fd, SocketAddr), Error> {
    let mut raw = RawAddress::empty();
    let flags = if nonblocking { SOCK_CLOEXEC | SOCK_NONBLOCK } else { SOCK_CLOEXEC };
    // SAFETY: the kernel writes at most `len` bytes of address, and the length.
    let number =
        unsafe { call!(__NR_accept4, fd.number(), raw.bytes.as_mut_ptr(), &raw mut raw.len, flags) }?;
    let fd = Fd::new(number);
    Ok((fd, raw.decode()?))
}

/// sendto(2).
pub(crate) fn send_to(fd: &Fd, bytes: &[u8], address: SocketAddr) -> Result<usize, Error> {
    let raw = RawAddress::new(address);
    // SAFETY: the kernel reads the slice and the address.
    unsafe {
        call!(
            __NR_sendto,
            fd.number(),
            bytes.as_ptr(),
            bytes.len(),
            MSG_NOSIGNAL,
            raw.bytes.as_ptr(),
            raw.len
        )
    }
}

/// send(2) without `SIGPIPE`.
#[inline]
pub(crate) fn send(fd: &Fd, bytes: &[u8]) -> Result<usize, Error> {
    // SAFETY: the kernel reads the slice; there is no address.
    unsafe { call!(__NR_sendto, fd.number(), bytes.as_ptr(), bytes.len(), MSG_NOSIGNAL, 0, 0) }
}

/// recvfrom(2).
pub(crate) fn receive_from(fd: &Fd, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
    let mut raw = RawAddress::empty();
    // SAFETY: the kernel writes at most the buffer's length, `len` bytes of address, and the length.
    let count = unsafe {
        let (address, len) = (raw.bytes.as_mut_ptr(), &raw mut raw.len);
        call!(__NR_recvfrom, fd.number(), buffer.as_mut_ptr(), buffer.len(), 0, address, len)
    }?;
    Ok((count, raw.decode()?))
}

/// shutdown(2).
pub(crate) fn shutdown(fd: &Fd, how: u32) -> Result<(), Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_shutdown, fd.number(), how) }.map(drop)
}

/// setsockopt(2) with an `int`.
pub(crate) fn set_option(fd: &Fd, level: u32, option: u32, value: i32) -> Result<(), Error> {
    // SAFETY: the kernel reads one `int`.
    unsafe { call!(__NR_setsockopt, fd.number(), level, option, &raw const value, size_of::<i32>()) }
        .map(drop)
}

/// fcntl(2): sets or clears `O_NONBLOCK`.
pub(crate) fn set_nonblocking(fd: &Fd, nonblocking: bool) -> Result<(), Error> {
    // SAFETY: no pointers.
    let flags = unsafe { call!(__NR_fcntl, fd.number(), F_GETFL) }? as u32;
    let flags = if nonblocking { flags | O_NONBLOCK } else { flags & !O_NONBLOCK };
    // SAFETY: no pointers.
    unsafe { call!(__NR_fcntl, fd.number(), F_SETFL, flags) }.map(drop)
}

/// getsockname(2).
pub(crate) fn local_address(fd: &Fd) -> Result<SocketAddr, Error> {
    let mut raw = RawAddress::empty();
    // SAFETY: the kernel writes at most `len` bytes of address, and the length.
    unsafe { call!(__NR_getsockname, fd.number(), raw.bytes.as_mut_ptr(), &raw mut raw.len) }?;
    raw.decode()
}
