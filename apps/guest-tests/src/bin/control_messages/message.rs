//! Messages with their control messages, sent and received.

use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::{from_mut, from_ref};

use guest_tests::{check_eq, errno};

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) data: Vec<u8>,
    pub(crate) from: libc::sockaddr_storage,
    pub(crate) control: Vec<(i32, i32, Vec<u8>)>,
    pub(crate) flags: i32,
}

impl Message {
    pub(crate) fn find(&self, level: i32, kind: i32) -> Option<&[u8]> {
        let found = self.control.iter().find(|message| (message.0, message.1) == (level, kind));
        found.map(|message| &message.2[..])
    }

    pub(crate) fn int(&self, level: i32, kind: i32) -> Option<i32> {
        self.find(level, kind)?.try_into().ok().map(i32::from_ne_bytes)
    }

    pub(crate) fn port(&self) -> u16 {
        // SAFETY: addresses of both kinds are as large as the storage and have the port at the same place.
        u16::from_be(unsafe { (*from_ref(&self.from).cast::<libc::sockaddr_in>()).sin_port })
    }
}

pub(crate) fn set(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> i32 {
    // SAFETY: the value is as long as it is said to be.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, from_ref(&value).cast(), 4) };
    if outcome == 0 { 0 } else { errno() }
}

pub(crate) fn get(socket: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let (mut value, mut len) = (-77, 4);
    // SAFETY: the value is as long as it is said to be.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, from_mut(&mut value).cast(), &mut len) };
    check_eq!(outcome, 0);
    value
}

pub(crate) fn receive(
    socket: &impl AsRawFd,
    room: usize,
    control_room: usize,
    flags: i32,
) -> Result<Message, i32> {
    let (mut data, mut control) = (vec![0u8; room], vec![0u64; control_room / 8]);
    let mut buffer = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: zeros are valid for these structures; the header's pointers lead to what lives longer than the call.
    let (from, header, len) = unsafe {
        let mut from: libc::sockaddr_storage = zeroed();
        let mut header: libc::msghdr = zeroed();
        header.msg_name = from_mut(&mut from).cast();
        header.msg_namelen = size_of_val(&from) as u32;
        (header.msg_iov, header.msg_iovlen) = (&mut buffer, 1 as _);
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), control_room as _);
        let len = libc::recvmsg(socket.as_raw_fd(), &mut header, flags);
        (from, header, len)
    };
    if len < 0 {
        return Err(errno());
    }
    data.truncate(len as usize);
    Ok(Message { data, from, control: list(&header), flags: header.msg_flags })
}

pub(crate) fn list(header: &libc::msghdr) -> Vec<(i32, i32, Vec<u8>)> {
    let mut messages = Vec::new();
    // SAFETY: the macros walk over the messages that the kernel has put into the header's buffer.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let len = message.cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(next), len).to_vec();
            messages.push((message.cmsg_level, message.cmsg_type, data));
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    messages
}

pub(crate) fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    data: &[u8],
    control: &[(i32, i32, &[u8])],
) -> Result<usize, i32> {
    let (mut bytes, to) = (Vec::new(), sockaddr(to));
    for (level, kind, value) in control {
        bytes.extend((16 + value.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let mut buffer = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: zeros are a valid header; its pointers lead to what lives longer than the call, which writes to none of it.
    let len = unsafe {
        let mut header: libc::msghdr = zeroed();
        (header.msg_name, header.msg_namelen) = (to.as_ptr().cast_mut().cast(), to.len() as u32);
        (header.msg_iov, header.msg_iovlen) = (&mut buffer, 1 as _);
        (header.msg_control, header.msg_controllen) = (bytes.as_mut_ptr().cast(), bytes.len() as _);
        libc::sendmsg(socket.as_raw_fd(), &header, 0)
    };
    if len < 0 { Err(errno()) } else { Ok(len as usize) }
}

/// An address as the kernel has it.
pub(crate) fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.resize(16, 0);
        }
        SocketAddr::V6(v6) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(v6.ip().octets());
            bytes.resize(28, 0);
        }
    }
    bytes
}

pub(crate) fn pair(address: &str) -> (UdpSocket, UdpSocket, SocketAddr) {
    let receiver = UdpSocket::bind(address).unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let sender = UdpSocket::bind(address).unwrap();
    let mut to = receiver.local_addr().unwrap();
    if to.ip().is_unspecified() {
        to.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
    }
    (receiver, sender, to)
}

/// The number that a socket has alone (`SO_COOKIE`).
pub(crate) fn cookie(socket: &UdpSocket) -> u64 {
    let (mut value, mut len) = (0u64, 8);
    // SAFETY: the value is as long as it is said to be.
    let outcome = unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_COOKIE);
        libc::getsockopt(socket.as_raw_fd(), level, name, from_mut(&mut value).cast(), &mut len)
    };
    check_eq!((outcome, len), (0, 8));
    value
}
