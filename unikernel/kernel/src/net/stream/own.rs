//! TCP connections of the kernel's own, to others and from others: bytes between its memory and the stacks.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv6Addr, SocketAddr};

use unikernel_net::{RecvError, SendError};

use super::Stream;
use crate::abi::Errno;
use crate::file::WaitMode;
use crate::net::address::Family;
use crate::net::flows::FlowId;
use crate::net::options::SocketOptions;
use crate::net::socket::{Kind, Socket};
use crate::platform::time;

/// A connection of the kernel's; dropping it closes it.
pub(crate) struct Connection(Arc<Socket>);

/// A port where the kernel takes connections.
pub(crate) struct Listener(Arc<Socket>);

impl Listener {
    /// Takes the port on all addresses; up to `backlog` connections wait.
    pub(crate) fn open(port: u16, backlog: usize) -> Result<Self, Errno> {
        // One of IPv6 speaks IPv4, too.
        let listener =
            Self(Socket::new(Family::V6, Kind::Stream(Stream::default()), SocketOptions::default()));
        let stream = stream_of(&listener.0)?;
        stream.bind(&listener.0, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
        stream.listen(&listener.0, backlog)?;
        Ok(listener)
    }

    /// The next connection; the calling thread sleeps until there is one.
    pub(crate) fn accept(&self) -> Result<Connection, Errno> {
        let (socket, _) = stream_of(&self.0)?.accept(&self.0, WaitMode::MayBlock)?;
        Ok(Connection(socket))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Ok(stream) = stream_of(&self.0) {
            stream.close(&self.0);
        }
    }
}

fn stream_of(socket: &Socket) -> Result<&Stream, Errno> {
    match &socket.kind {
        Kind::Stream(stream) => Ok(stream),
        _ => Err(Errno::EBADF),
    }
}

impl Connection {
    /// Connects; the calling thread sleeps meanwhile.
    pub(crate) fn open(to: SocketAddr, deadline_ns: u64) -> Result<Self, Errno> {
        let patience_ns = deadline_ns.saturating_sub(time::now_ns());
        let options = SocketOptions { send_timeout_ns: Some(patience_ns), ..SocketOptions::default() };
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let connection = Self(Socket::new(family, Kind::Stream(Stream::default()), options));
        connection.stream()?.connect(&connection.0, to, WaitMode::MayBlock)?;
        Ok(connection)
    }

    fn stream(&self) -> Result<&Stream, Errno> {
        stream_of(&self.0)
    }

    fn flow(&self) -> Result<FlowId, Errno> {
        self.stream()?.flow().ok_or(Errno::ENOTCONN)
    }

    /// True if the other end is on this machine, which the packet filter does not ask about.
    pub(crate) fn is_from_here(&self) -> bool {
        self.flow().is_ok_and(|flow| flow.lock().stack.tcp_is_loopback(flow.id))
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&self, bytes: &[u8], deadline_ns: u64) -> Result<(), Errno> {
        let flow = self.flow()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.0.source.block_on(WaitMode::MayBlock, Some(deadline_ns), || {
                let mut net = flow.lock();
                let sent = net.stack.tcp_send(flow.id, rest.len(), |room| {
                    let count = room.len().min(rest.len());
                    room[..count].copy_from_slice(&rest[..count]);
                    (count, count)
                });
                sent.map_err(|error: SendError| Errno::from(error))
            })?;
            rest = &rest[sent..];
            crate::net::flush();
        }
        Ok(())
    }

    /// Appends what has come to `into`, waiting for it; answers how much, 0 at the end. Memory for it may be missing.
    pub(crate) fn receive(&self, into: &mut Vec<u8>, deadline_ns: u64) -> Result<usize, Errno> {
        let flow = self.flow()?;
        let received = self.0.source.block_on(WaitMode::MayBlock, Some(deadline_ns), || {
            let taken = flow.lock().stack.tcp_recv(flow.id, |bytes| {
                match into.try_reserve(bytes.len()) {
                    Ok(()) => into.extend_from_slice(bytes),
                    Err(_) => return (0, Err(Errno::ENOMEM)),
                }
                (bytes.len(), Ok(bytes.len()))
            });
            match taken {
                Ok((count, _)) => count,
                Err(RecvError::Finished) => Ok(0),
                Err(error) => Err(error.into()),
            }
        })?;
        // The window has opened.
        crate::net::flush();
        Ok(received)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Ok(stream) = self.stream() {
            stream.close(&self.0);
            crate::net::flush();
        }
    }
}
