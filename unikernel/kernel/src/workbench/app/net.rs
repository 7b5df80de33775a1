//! Sockets: addresses, pairs, messages, options.

use alloc::vec::Vec;

use linux_raw_sys::{general as linux, net};

use super::files::{Buffer, int, two, words};
use super::run::{Answer, sys};

pub(crate) const STREAM: u32 = net::SOCK_STREAM;
pub(crate) const DGRAM: u32 = net::SOCK_DGRAM;
pub(crate) const SEQPACKET: u32 = net::SOCK_SEQPACKET;
pub(crate) const NONBLOCK: u32 = linux::O_NONBLOCK;
pub(crate) const LOCALHOST: [u8; 4] = [127, 0, 0, 1];

/// An address of IPv4.
pub(crate) fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
    [&(net::AF_INET as u16).to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
}

/// An address of IPv6.
pub(crate) fn v6(ip: [u8; 16], port: u16) -> Vec<u8> {
    let mut bytes = [&(net::AF_INET6 as u16).to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &ip].concat();
    bytes.extend([0; 4]);
    bytes
}

/// `::1`.
pub(crate) fn v6_localhost(port: u16) -> Vec<u8> {
    let mut ip = [0; 16];
    ip[15] = 1;
    v6(ip, port)
}

/// A name of a Unix socket: a path, or an abstract one, which begins with a zero.
pub(crate) fn unix(name: &[u8]) -> Vec<u8> {
    [&(net::AF_UNIX as u16).to_ne_bytes()[..], name].concat()
}

/// socket(2).
pub(crate) fn try_socket(family: u32, kind: u32, protocol: u32) -> Answer {
    sys(linux::__NR_socket, &[family.into(), kind.into(), protocol.into()])
}

/// socket(2), which succeeds.
pub(crate) fn socket(family: u32, kind: u32) -> u64 {
    try_socket(family, kind, 0).expect("a socket")
}

/// socketpair(2) of Unix sockets.
pub(crate) fn unix_pair(kind: u32) -> (u64, u64) {
    let ends = Buffer::zeroed(8);
    assert_eq!(sys(linux::__NR_socketpair, &[net::AF_UNIX.into(), kind.into(), 0, ends.address]), Ok(0));
    two(&ends)
}

/// bind(2).
pub(crate) fn bind(fd: u64, address: &[u8]) -> Answer {
    let buffer = Buffer::new(address);
    sys(linux::__NR_bind, &[fd, buffer.address, address.len() as u64])
}

/// connect(2).
pub(crate) fn connect(fd: u64, address: &[u8]) -> Answer {
    let buffer = Buffer::new(address);
    sys(linux::__NR_connect, &[fd, buffer.address, address.len() as u64])
}

/// listen(2).
pub(crate) fn listen(fd: u64, backlog: u64) -> Answer {
    sys(linux::__NR_listen, &[fd, backlog])
}

/// accept(2) without an address.
pub(crate) fn accept(fd: u64) -> Answer {
    sys(linux::__NR_accept, &[fd, 0, 0])
}

/// shutdown(2).
pub(crate) fn shutdown(fd: u64, how: u32) -> Answer {
    sys(linux::__NR_shutdown, &[fd, how.into()])
}

/// A call that leaves an address, such as getsockname(2).
pub(crate) fn address_by(number: u32, fd: u64) -> Answer<Vec<u8>> {
    let (address, len) = (Buffer::zeroed(128), Buffer::new(&128_u32.to_ne_bytes()));
    sys(number, &[fd, address.address, len.address])?;
    let len = int(&len.bytes(4)) as usize;
    Ok(address.bytes(len))
}

/// getsockname(2).
pub(crate) fn name(fd: u64) -> Vec<u8> {
    address_by(linux::__NR_getsockname, fd).expect("a name")
}

/// getpeername(2).
pub(crate) fn peer(fd: u64) -> Answer<Vec<u8>> {
    address_by(linux::__NR_getpeername, fd)
}

/// The port of an address of the internet.
pub(crate) fn port_of(address: &[u8]) -> u16 {
    u16::from_be_bytes([address[2], address[3]])
}

/// A socket that is bound to a port of the kernel's choice on 127.0.0.1, and its address.
pub(crate) fn bound(kind: u32) -> (u64, Vec<u8>) {
    let fd = socket(net::AF_INET, kind);
    assert_eq!(bind(fd, &v4(LOCALHOST, 0)), Ok(0));
    (fd, name(fd))
}

/// A listener on 127.0.0.1, and its address.
pub(crate) fn listener() -> (u64, Vec<u8>) {
    let (fd, address) = bound(STREAM);
    assert_eq!(listen(fd, 16), Ok(0));
    (fd, address)
}

/// Both ends of a TCP connection.
pub(crate) fn tcp_pair() -> (u64, u64) {
    let (listener, address) = listener();
    let client = socket(net::AF_INET, STREAM);
    assert_eq!(connect(client, &address), Ok(0));
    let server = accept(listener).expect("a connection");
    super::files::close(listener);
    (client, server)
}

/// send(2).
pub(crate) fn send(fd: u64, bytes: &[u8], flags: u32) -> Answer<usize> {
    send_to(fd, bytes, flags, &[])
}

/// sendto(2); to nobody if the address is empty.
pub(crate) fn send_to(fd: u64, bytes: &[u8], flags: u32, to: &[u8]) -> Answer<usize> {
    let (data, address) = (Buffer::new(bytes), Buffer::new(to));
    let pointer = if to.is_empty() { 0 } else { address.address };
    let arguments = [fd, data.address, bytes.len() as u64, flags.into(), pointer, to.len() as u64];
    sys(linux::__NR_sendto, &arguments).map(|count| count as usize)
}

/// recv(2).
pub(crate) fn recv(fd: u64, most: usize, flags: u32) -> Answer<Vec<u8>> {
    recv_from(fd, most, flags).map(|(bytes, _)| bytes)
}

/// recvfrom(2): the bytes, and who sent them.
pub(crate) fn recv_from(fd: u64, most: usize, flags: u32) -> Answer<(Vec<u8>, Vec<u8>)> {
    let (data, address, len) =
        (Buffer::zeroed(most), Buffer::zeroed(128), Buffer::new(&128_u32.to_ne_bytes()));
    let arguments = [fd, data.address, most as u64, flags.into(), address.address, len.address];
    let count = sys(linux::__NR_recvfrom, &arguments)? as usize;
    Ok((data.bytes(count.min(most)), address.bytes(int(&len.bytes(4)) as usize)))
}

/// setsockopt(2).
pub(crate) fn set(fd: u64, level: u32, name: u32, value: &[u8]) -> Answer {
    let buffer = Buffer::new(value);
    sys(linux::__NR_setsockopt, &[fd, level.into(), name.into(), buffer.address, value.len() as u64])
}

/// setsockopt(2) of an `int`.
pub(crate) fn set_int(fd: u64, level: u32, name: u32, value: i32) -> Answer {
    set(fd, level, name, &value.to_ne_bytes())
}

/// getsockopt(2).
pub(crate) fn option(fd: u64, level: u32, name: u32, room: usize) -> Answer<Vec<u8>> {
    let (value, len) = (Buffer::zeroed(room), Buffer::new(&(room as u32).to_ne_bytes()));
    sys(linux::__NR_getsockopt, &[fd, level.into(), name.into(), value.address, len.address])?;
    Ok(value.bytes(int(&len.bytes(4)) as usize))
}

/// getsockopt(2) of an `int`.
pub(crate) fn option_int(fd: u64, level: u32, name: u32) -> Answer<i32> {
    option(fd, level, name, 4).map(|bytes| int(&bytes))
}

/// A control message: level, kind, bytes.
pub(crate) type Control = (u32, u32, Vec<u8>);

const HEADER_BYTES: usize = 16;
const MSGHDR_BYTES: usize = 56;

/// Control messages as they lie in memory.
fn pack(control: &[Control]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (level, kind, data) in control {
        bytes.extend((HEADER_BYTES + data.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

fn unpack(mut bytes: &[u8]) -> Vec<Control> {
    let mut all = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let len = u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        all.push((int(&bytes[8..]) as u32, int(&bytes[12..]) as u32, bytes[HEADER_BYTES..len].to_vec()));
        bytes = &bytes[len.next_multiple_of(8).min(bytes.len())..];
    }
    all
}

/// What a message is read from or written to: the header, and all it points to.
pub(crate) struct Header {
    pub(crate) header: Buffer,
    name: Buffer,
    vector: Buffer,
    control: Buffer,
    parts: Vec<Buffer>,
}

impl Header {
    /// One to send.
    pub(crate) fn to_send(parts: &[&[u8]], control: &[Control], to: &[u8]) -> Self {
        let parts = parts.iter().map(|part| (Buffer::new(part), part.len())).collect();
        Self::new(parts, (Buffer::new(to), to.len()), {
            let packed = pack(control);
            (Buffer::new(&packed), packed.len())
        })
    }

    /// One to receive, with so much room in one part and for control messages.
    pub(crate) fn to_receive(room: usize, control_room: usize) -> Self {
        let parts = [(Buffer::zeroed(room), room)].into_iter().collect();
        Self::new(parts, (Buffer::zeroed(128), 128), (Buffer::zeroed(control_room), control_room))
    }

    fn new(parts: Vec<(Buffer, usize)>, name: (Buffer, usize), control: (Buffer, usize)) -> Self {
        let pairs: Vec<u64> = parts.iter().flat_map(|(part, len)| [part.address, *len as u64]).collect();
        let pointer = |(buffer, len): &(Buffer, usize)| if *len == 0 { 0 } else { buffer.address };
        let vector = Buffer::new(&words(&pairs));
        let header = words(&[
            pointer(&name),
            name.1 as u64,
            vector.address,
            parts.len() as u64,
            pointer(&control),
            control.1 as u64,
            0,
        ]);
        let parts = parts.into_iter().map(|(part, _)| part).collect();
        Self { header: Buffer::new(&header), name: name.0, vector, control: control.0, parts }
    }

    /// The header's bytes, as an entry of recvmmsg(2) begins.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.header.bytes(MSGHDR_BYTES)
    }

    /// What was received, with a header that the kernel has changed.
    pub(crate) fn received(&self, header: &[u8], count: usize) -> Message {
        assert!(self.vector.address != 0);
        Message {
            data: self.parts[0].bytes(count),
            from: self.name.bytes(int(&header[8..]) as usize),
            control: unpack(&self.control.bytes(int(&header[40..]) as usize)),
            flags: int(&header[48..]) as u32,
        }
    }
}

/// What recvmsg(2) leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) data: Vec<u8>,
    pub(crate) from: Vec<u8>,
    pub(crate) control: Vec<Control>,
    pub(crate) flags: u32,
}

impl Message {
    /// The control message of a kind.
    pub(crate) fn find(&self, level: u32, kind: u32) -> Option<&[u8]> {
        let found =
            self.control.iter().find(|(own_level, own_kind, _)| (*own_level, *own_kind) == (level, kind));
        found.map(|(_, _, data)| &data[..])
    }
}

/// sendmsg(2).
pub(crate) fn send_message(fd: u64, parts: &[&[u8]], control: &[Control], to: &[u8]) -> Answer<usize> {
    let header = Header::to_send(parts, control, to);
    sys(linux::__NR_sendmsg, &[fd, header.header.address, 0]).map(|count| count as usize)
}

/// recvmsg(2).
pub(crate) fn recv_message(fd: u64, room: usize, control_room: usize, flags: u32) -> Answer<Message> {
    let header = Header::to_receive(room, control_room);
    let count = sys(linux::__NR_recvmsg, &[fd, header.header.address, flags.into()])? as usize;
    Ok(header.received(&header.bytes(), count.min(room)))
}

/// ioctl(2) that leaves an `int`.
pub(crate) fn ioctl_int(fd: u64, request: u32) -> Answer<i32> {
    let value = Buffer::zeroed(4);
    sys(linux::__NR_ioctl, &[fd, request.into(), value.address])?;
    Ok(int(&value.bytes(4)))
}
