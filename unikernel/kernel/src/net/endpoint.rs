//! What a socket is that is neither of the internet nor of the machine: [`netlink`](super::netlink), [`vsock`](super::vsock). Such kinds are behind a trait, since
//! no packet's way goes through them.

use alloc::sync::Arc;

use arrayvec::ArrayVec;

use super::socket::{MessageFlags, Received, Shutdown, Socket};
use crate::abi::{Errno, SysResult};
use crate::file::{Readiness, WaitMode};
use crate::mem::user::UserSlice;

/// Bytes of an address at most: a `sockaddr_vm` has so many.
pub(crate) const NAME_BYTES: usize = 16;

/// An address as the app gives and gets it, its family included.
pub(crate) type Name = ArrayVec<u8, NAME_BYTES>;

/// A kind of socket. What a kind does not have answers as Linux does for it.
pub(crate) trait Endpoint: Send + Sync {
    /// Type and protocol, as `getsockopt` tells them.
    fn kind(&self) -> (u32, u32);

    /// bind(2).
    fn bind(&self, socket: &Socket, name: &Name) -> Result<(), Errno>;

    /// listen(2).
    fn listen(&self, _socket: &Socket, _backlog: usize) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// True after it.
    fn is_listening(&self) -> bool {
        false
    }

    /// accept(2): the new socket and its peer.
    fn accept(&self, _socket: &Socket, _mode: WaitMode) -> Result<(Arc<Socket>, Name), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// connect(2), or with no name its opposite.
    fn connect(&self, socket: &Socket, name: Option<&Name>, mode: WaitMode) -> Result<(), Errno>;

    /// shutdown(2).
    fn shutdown(&self, _socket: &Socket, _how: Shutdown) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Our address.
    fn local(&self) -> Name;

    /// The peer's address.
    fn peer(&self) -> Result<Name, Errno>;

    /// The error that waits, which is then forgotten.
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// recv(2) and its relatives.
    fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno>;

    /// send(2) and its relatives.
    fn send(&self, socket: &Socket, from: &[UserSlice], to: Option<&Name>, mode: WaitMode) -> SysResult;

    /// Puts what the kernel has to say where the app receives it.
    fn push(&self, _socket: &Socket, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What it is ready for.
    fn readiness(&self) -> Readiness;

    /// Bytes that wait to be received and to be sent.
    fn queues(&self) -> Result<(usize, usize), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The last descriptor is gone.
    fn close(&self, socket: &Socket);
}
