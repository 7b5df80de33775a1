//! UDP sockets (udp(7)).

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use unikernel_net::{GroupLink, RecvError, SendError, Stack, UdpId};

use super::address::{Address, Family, Given};
use super::options::SocketOptions;
use super::routes::to_file;
use super::socket::{Direction, MessageFlags, Received, Shutdown, Socket};
use super::unix::Rights;
use crate::file::{Readiness, WaitMode};
use crate::mem::user::{Fault, UserSlice};
use crate::sync::SpinLock;
use crate::syscall::{Errno, SysResult};

/// Groups that can be joined before there is a port, as many as after (Linux: `igmp_max_memberships`).
const EARLY_GROUPS: usize = 20;

/// A UDP socket: a port, once it has one.
pub struct Datagram {
    port: SpinLock<Port>,
    /// Groups joined before there was a port. `port`'s lock and the stack's come first.
    early: SpinLock<Vec<(IpAddr, Option<GroupLink>)>>,
}

#[derive(Clone, Copy, Default)]
struct Port {
    id: Option<UdpId>,
    is_send_shut: bool,
}

/// Why a datagram was not sent: the stack refuses, or the app's memory cannot be read.
struct NotSent(Errno);

impl From<SendError> for NotSent {
    fn from(error: SendError) -> Self {
        Self(error.into())
    }
}

impl From<Fault> for NotSent {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

impl Default for Datagram {
    // Not derived: locks that are made at one place are of one class, and these two are held together.
    fn default() -> Self {
        let port = SpinLock::new(Port::default());
        let early = SpinLock::new(Vec::new());
        Self { port, early }
    }
}

impl Datagram {
    fn id(&self) -> Option<UdpId> {
        self.port.lock().id
    }

    pub(super) fn bind(&self, socket: &Socket, address: SocketAddr) -> Result<(), Errno> {
        let mut port = self.port.lock();
        if port.id.is_some() {
            return Err(Errno::EINVAL);
        }
        port.id = Some(self.do_bind(socket, address)?);
        Ok(())
    }

    /// The port, chosen now if there is none (udp(7): "auto-binds").
    fn id_or_bind(&self, socket: &Socket) -> Result<UdpId, Errno> {
        let mut port = self.port.lock();
        if let Some(id) = port.id {
            return Ok(id);
        }
        let id = self.do_bind(socket, socket.family.unspecified())?;
        port.id = Some(id);
        Ok(id)
    }

    fn do_bind(&self, socket: &Socket, address: SocketAddr) -> Result<UdpId, Errno> {
        let options = *socket.options.lock();
        let mut net = super::lock();
        let id = net.stack.udp_bind(address, options.bind_options(socket.family))?;
        options.apply_to_port(&mut net.stack, id, socket.family);
        for (group, link) in self.early.lock().drain(..) {
            // It was checked when it was joined; only the machine's bound may have been reached since.
            if let Err(error) = net.stack.udp_join(id, group, link) {
                log::warn!("group {group}: {error}");
            }
        }
        net.routes.set_udp(id, socket.arc());
        Ok(id)
    }

    /// Joins a group.
    pub fn join(&self, group: IpAddr, link: Option<GroupLink>) -> Result<(), Errno> {
        let port = self.port.lock();
        if let Some(id) = port.id {
            return Ok(super::lock().stack.udp_join(id, group, link)?);
        }
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        if link == Some(GroupLink::Nic) && super::lock().nic.is_none() {
            return Err(Errno::ENODEV);
        }
        let mut early = self.early.lock();
        if early.contains(&(group, link)) {
            return Err(Errno::EADDRINUSE);
        }
        if early.len() == EARLY_GROUPS {
            return Err(Errno::ENOBUFS);
        }
        early.push((group, link));
        Ok(())
    }

    /// Leaves a group.
    pub fn leave(&self, group: IpAddr, link: Option<GroupLink>) -> Result<(), Errno> {
        let port = self.port.lock();
        if let Some(id) = port.id {
            return Ok(super::lock().stack.udp_leave(id, group, link)?);
        }
        let mut early = self.early.lock();
        let index = early.iter().position(|(joined, _)| *joined == group).ok_or(Errno::EADDRNOTAVAIL)?;
        early.swap_remove(index);
        Ok(())
    }

    /// What the path to the peer carries, in bytes; none without a peer.
    pub fn path_mtu(&self) -> Option<usize> {
        super::lock().stack.udp_path_mtu(self.id()?)
    }

    pub(super) fn connect(&self, socket: &Socket, to: Given) -> Result<(), Errno> {
        let id = self.id_or_bind(socket)?;
        let peer = match to {
            Given::Internet(address) => Some(address),
            Given::Unspecified => None,
            Given::Unix(_) => return Err(Errno::EAFNOSUPPORT),
        };
        Ok(super::lock().stack.udp_connect(id, peer)?)
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        // Both directions of an unconnected socket are shut all the same, but the call fails.
        let mut port = self.port.lock();
        port.is_send_shut |= how.ends_sending();
        let id = port.id.ok_or(Errno::ENOTCONN)?;
        let mut net = super::lock();
        if how.ends_receiving() {
            net.stack.udp_shutdown_recv(id);
            net.dispatch();
        }
        if net.stack.udp_peer(id).is_some() { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    pub(super) fn local(&self, socket: &Socket) -> SocketAddr {
        let local = self.id().and_then(|id| super::lock().stack.udp_local(id));
        local.unwrap_or_else(|| socket.family.unspecified())
    }

    pub(super) fn peer(&self) -> Result<SocketAddr, Errno> {
        let id = self.id().ok_or(Errno::ENOTCONN)?;
        super::lock().stack.udp_peer(id).ok_or(Errno::ENOTCONN)
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        let id = self.id()?;
        super::lock().stack.udp_take_error(id).map(Errno::from)
    }

    /// Brings the socket in line with options that were changed.
    pub(super) fn apply(&self, options: &SocketOptions, family: Family) {
        if let Some(id) = self.id() {
            options.apply_to_port(&mut super::lock().stack, id, family);
        }
    }

    pub(super) fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        let id = self.id_or_bind(socket)?;
        socket.block_on(mode, Direction::Receive, || {
            let mut net = super::lock();
            let copy = |data: &[u8], from: SocketAddr| {
                let len = scatter(data, into)?;
                Ok(Received {
                    len,
                    full_len: data.len(),
                    from: Some(Address::Internet(from)),
                    rights: Rights::new(),
                })
            };
            let received = match flags.contains(MessageFlags::PEEK) {
                true => net.stack.udp_peek(id, copy),
                false => net.stack.udp_recv(id, copy),
            };
            match received {
                Ok(outcome) => outcome,
                Err(RecvError::Finished) => {
                    Ok(Received { len: 0, full_len: 0, from: None, rights: Rights::new() })
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    pub(super) fn send(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<SocketAddr>,
        mode: WaitMode,
    ) -> SysResult {
        if self.port.lock().is_send_shut {
            return Err(Errno::EPIPE);
        }
        let id = self.id_or_bind(socket)?;
        let len: usize = from.iter().map(UserSlice::len).sum();
        if len > u16::MAX.into() {
            return Err(Errno::EMSGSIZE);
        }
        socket.block_on(mode, Direction::Send, || {
            let gather = |room: &mut [u8]| gather(from, room).map_err(NotSent::from);
            let mut net = super::lock();
            let outcome = net.stack.udp_send(id, to, len, gather);
            if net.stack.has_loopback() {
                // What stays in the machine is there when the call returns, as on Linux.
                net.flush();
            }
            outcome.map(|()| len).map_err(|NotSent(error)| error)
        })
    }

    pub(super) fn readiness(&self) -> Readiness {
        match self.id() {
            Some(id) => to_file(super::lock().stack.udp_readiness(id)),
            None => Readiness::WRITABLE,
        }
    }

    pub(super) fn queues(&self) -> (usize, usize) {
        let peek = |id| super::lock().stack.udp_peek(id, |data, _| data.len()).unwrap_or(0);
        (self.id().map_or(0, peek), 0)
    }

    pub(super) fn close(&self) {
        let port = core::mem::take(&mut *self.port.lock());
        if let Some(id) = port.id {
            let mut net = super::lock();
            net.routes.set_udp(id, None);
            net.stack.udp_close(id);
        }
    }
}

/// Copies a datagram into the app's buffers, as much as fits.
fn scatter(data: &[u8], into: &[UserSlice]) -> Result<usize, Errno> {
    let mut left = data;
    for buffer in into {
        let (here, rest) = left.split_at(left.len().min(buffer.len()));
        buffer.write(here)?;
        left = rest;
    }
    Ok(data.len() - left.len())
}

/// Copies the app's buffers, one after the other, into a datagram of their length.
fn gather(from: &[UserSlice], mut room: &mut [u8]) -> Result<(), Fault> {
    for buffer in from {
        let (here, rest) = room.split_at_mut(buffer.len());
        buffer.read(here)?;
        room = rest;
    }
    Ok(())
}

impl SocketOptions {
    fn apply_to_port(&self, stack: &mut Stack, id: UdpId, family: Family) {
        stack.udp_set_multicast(id, self.multicast(family == Family::V6));
        stack.udp_set_unsplit(id, self.is_unsplit());
        stack.udp_set_broadcast(id, self.may_broadcast);
        stack.udp_set_hop_limit(id, self.hop_limit);
        stack.udp_set_receives_errors(id, self.receives_errors);
    }
}
