//! TCP connections of the kernel's own: bytes between its memory and the stacks.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

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
        match &self.0.kind {
            Kind::Stream(stream) => Ok(stream),
            _ => Err(Errno::EBADF),
        }
    }

    fn flow(&self) -> Result<FlowId, Errno> {
        self.stream()?.flow().ok_or(Errno::ENOTCONN)
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
