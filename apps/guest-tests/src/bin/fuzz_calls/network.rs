//! Sockets on the loopback interface and of the machine itself.

use crate::worker::Worker;
use crate::world::Sort;

/// Ports and names are few, so that sockets meet.
const PORTS: usize = 4;
const FIRST_PORT: u16 = 7100;

impl Worker {
    pub(crate) fn network(&mut self) {
        match self.random.below(12) {
            0..2 => self.socket(),
            2 => self.server(),
            3 => self.with_address(libc::SYS_bind),
            4..6 => self.with_address(libc::SYS_connect),
            6 => {
                let fd = self.any_socket();
                self.open_call(Sort::Stream, libc::SYS_accept4, [fd, 0, 0, libc::SOCK_NONBLOCK as u64, 0, 0]);
            }
            7..9 => {
                let (fd, message, flags) = (
                    self.any_socket(),
                    self.message(),
                    if self.one_in(2) { 0x40 } else { self.number() & 0x4043 },
                );
                self.call(libc::SYS_sendmsg, [fd, message, flags, 0, 0, 0]);
            }
            9 => {
                let (fd, message, flags) = (
                    self.any_socket(),
                    self.message(),
                    if self.one_in(2) { 0x40 } else { self.number() & 0x2163 },
                );
                self.call(libc::SYS_recvmsg, [fd, message, flags, 0, 0, 0]);
            }
            10 => {
                let (fd, how) = (self.descriptor_of(Sort::Stream), self.random.below(3) as u64);
                self.call(libc::SYS_shutdown, [fd, how, 0, 0, 0, 0]);
            }
            _ => self.option(),
        }
    }

    pub(crate) fn socket(&mut self) {
        let stream = [(2, 1), (2, 1), (10, 1), (1, 1), (1, 5), (40, 1)];
        let datagram = [(2, 2), (2, 2), (10, 2), (1, 2), (16, 3)];
        let is_stream = self.one_in(2);
        let (family, kind) = *self.random.pick(if is_stream { &stream[..] } else { &datagram[..] });
        let sort = if is_stream { Sort::Stream } else { Sort::Datagram };
        let flags = *self.random.pick(&[0, 0, libc::SOCK_NONBLOCK as u64]);
        let socket = self.call(libc::SYS_socket, [family, kind | flags, 0, 0, 0, 0]);
        let (address, len) = self.address_of(family);
        self.call(libc::SYS_bind, [socket as u64, address, len, 0, 0, 0]);
        self.keep(sort, socket);
    }

    fn any_socket(&mut self) -> u64 {
        let sort = *self.random.pick(&[Sort::Stream, Sort::Datagram]);
        self.descriptor_of(sort)
    }

    /// A listener and a connection to it.
    pub(crate) fn server(&mut self) {
        let family = *self.random.pick(&[2, 10, 1]);
        let flags = libc::SOCK_NONBLOCK as u64;
        let listener = self.call(libc::SYS_socket, [family, 1 | flags, 0, 0, 0, 0]) as u64;
        let (address, len) = self.address_of(family);
        self.call(libc::SYS_bind, [listener, address, len, 0, 0, 0]);
        let backlog = self.random.below(4) as u64;
        self.call(libc::SYS_listen, [listener, backlog, 0, 0, 0, 0]);
        let client = self.call(libc::SYS_socket, [family, 1 | flags, 0, 0, 0, 0]) as u64;
        self.call(libc::SYS_connect, [client, address, len, 0, 0, 0]);
        self.open_call(Sort::Stream, libc::SYS_accept4, [listener, 0, 0, 0, 0, 0]);
        self.keep(Sort::Stream, client as i64);
        self.keep(Sort::Stream, listener as i64);
    }

    fn with_address(&mut self, number: i64) {
        let (fd, (address, len)) = (self.any_socket(), self.socket_address());
        self.call(number, [fd, address, len, 0, 0, 0]);
    }

    /// An address and its length.
    pub(crate) fn socket_address(&mut self) -> (u64, u64) {
        let family = *self.random.pick(&[2, 2, 2, 10, 10, 1, 1, 0, 16, 40]);
        self.address_of(family)
    }

    fn address_of(&mut self, family: u64) -> (u64, u64) {
        let port = if self.one_in(8) { 0 } else { FIRST_PORT + self.random.below(PORTS) as u16 };
        let start = family | u64::from(port.to_be()) << 16;
        match family {
            10 => (self.put(&[start, 0, 1 << 56, 0]), 28),
            // An abstract name of one letter.
            1 => {
                let letter = u64::from(b'a') + self.random.below(3) as u64;
                (self.put(&[1 | letter << 24]), 4)
            }
            40 => (self.put(&[40 | u64::from(port) << 32, 1]), 16),
            16 => (self.put(&[16, 0]), 12),
            _ => {
                let host = *self.random.pick(&[
                    [127, 0, 0, 1],
                    [127, 0, 0, 1],
                    [127, 0, 0, 9],
                    [0; 4],
                    [224, 0, 0, 251],
                ]);
                (self.put(&[start | u64::from(u32::from_le_bytes(host)) << 32, 0]), 16)
            }
        }
    }

    /// A `msghdr` with vectors, at times a name, at times descriptors.
    pub(crate) fn message(&mut self) -> u64 {
        let (name, name_len) = if self.one_in(4) { self.socket_address() } else { (0, 0) };
        let count = self.random.below(4);
        let vectors = self.iovecs(count.max(1));
        let (control, control_len) = match self.random.below(4) {
            0 => {
                let pair = u64::from(self.descriptor() as u32) | self.descriptor() << 32;
                // SCM_RIGHTS of SOL_SOCKET.
                (self.put(&[24, 1 | 1 << 32, pair, 0]), 24)
            }
            1 if self.one_in(4) => {
                let words = [self.size(), self.number(), self.number(), self.number()];
                (self.put(&words), 8 * self.random.below(5) as u64)
            }
            2 => (self.scratch(64), 64),
            _ => (0, 0),
        };
        self.put(&[name, name_len, vectors, count as u64, control, control_len, 0])
    }

    fn option(&mut self) {
        let fd = self.any_socket();
        let level = *self.random.pick(&[0, 1, 1, 6, 6, 17, 41]);
        let name = self.random.below(80) as u64;
        let words = [self.number(), self.number(), 0];
        let (value, len) = (self.put(&words), *self.random.pick(&[1, 4, 4, 4, 8, 12, 16, 20]));
        if self.one_in(3) {
            let place = self.put(&[len]);
            self.call(libc::SYS_getsockopt, [fd, level, name, value, place, 0]);
        } else {
            self.call(libc::SYS_setsockopt, [fd, level, name, value, len, 0]);
        }
    }
}
