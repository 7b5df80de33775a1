//! UDP sockets as an app sees them.

use core::net::{IpAddr, SocketAddr};

use crate::error::{BindError, ConnectError, RecvError, SocketError};
use crate::id::{Readiness, UdpId};
use crate::listener::BindOptions;
use crate::route::here_if_unspecified;
use crate::stack::Stack;
use crate::udp::MulticastOptions;
use crate::udp_control::{Arrival, ErrorOrigin};

impl Stack {
    /// Binds a socket; port 0 chooses one.
    pub fn udp_bind(&mut self, local: SocketAddr, options: BindOptions) -> Result<UdpId, BindError> {
        let ip = local.ip();
        let is_group = ip.is_multicast() || self.addresses.is_broadcast(ip);
        if !ip.is_unspecified() && !is_group && !options.is_free && !self.addresses.owns(ip) {
            return Err(BindError::NotOurs);
        }
        let local = self.with_udp_port(local).ok_or(BindError::NoPort)?;
        self.udp.bind(local, options)
    }

    /// Binds what another stack of the machine has bound, whose answer was good.
    pub fn udp_bind_alike(&mut self, local: SocketAddr, options: BindOptions) -> Result<UdpId, BindError> {
        self.udp.bind(local, options)
    }

    /// Fixes peer and local address as another stack of the machine has, by which the peer is reached.
    pub fn udp_connect_alike(&mut self, id: UdpId, peer: Option<SocketAddr>, local: SocketAddr) {
        if let Some(socket) = self.udp.get_mut(id) {
            (socket.peer, socket.local) = (peer, local);
        }
    }

    /// Takes nothing in from this stack's card any more, or again (`SO_BINDTODEVICE` to another card).
    pub fn udp_set_deaf(&mut self, id: UdpId, is_deaf: bool) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.is_deaf = is_deaf;
        }
    }

    /// Fixes the peer, or with none frees the socket of it.
    pub fn udp_connect(&mut self, id: UdpId, peer: Option<SocketAddr>) -> Result<(), ConnectError> {
        let peer = peer.map(here_if_unspecified);
        if let Some(peer) = peer {
            self.addresses.route(peer.ip()).ok_or(ConnectError::NoRoute)?;
        }
        let source = peer.and_then(|peer| self.addresses.source_for(peer.ip()));
        let socket = self.udp.get_mut(id).ok_or(ConnectError::BadId)?;
        socket.peer = peer;
        if peer.is_none() {
            // The address went with the peer (Linux: `inet_reset_saddr`).
            socket.local.set_ip(socket.bound);
        }
        if let Some(source) = source.filter(|_| socket.local.ip().is_unspecified()) {
            // What was sent to other addresses of ours is no longer for this socket (udp(7)).
            socket.local.set_ip(source);
        }
        Ok(())
    }

    /// Closes a socket.
    pub fn udp_close(&mut self, id: UdpId) {
        let groups = self.udp.get_mut(id).map(|socket| core::mem::take(&mut socket.groups));
        groups.into_iter().flatten().for_each(|membership| self.left(membership));
        self.udp.remove(id);
    }

    /// Takes the oldest datagram: lends its bytes, and what is known of it, to `take`.
    pub fn udp_recv<R>(
        &mut self,
        id: UdpId,
        take: impl FnOnce(&[u8], &Arrival) -> R,
    ) -> Result<R, RecvError> {
        let socket = self.udp.get_mut(id).ok_or(RecvError::BadId)?;
        if let Some(error) = socket.error.take() {
            return Err(error.into());
        }
        let datagram = socket.pop().ok_or(RecvError::WouldBlock)?;
        Ok(take(&datagram.data, &datagram.arrival))
    }

    /// Lends the oldest datagram, or what follows `offset` bytes of those that wait, to `look` without taking it.
    pub fn udp_peek<R>(
        &mut self,
        id: UdpId,
        offset: usize,
        look: impl FnOnce(&[u8], &Arrival) -> R,
    ) -> Result<R, RecvError> {
        let socket = self.udp.get_mut(id).ok_or(RecvError::BadId)?;
        if let Some(error) = socket.error.take() {
            return Err(error.into());
        }
        let (arrival, data) = socket.peek(offset).ok_or(RecvError::WouldBlock)?;
        Ok(look(data, arrival))
    }

    /// Bytes of the oldest datagram.
    pub fn udp_recv_queue(&self, id: UdpId) -> usize {
        let oldest = self.udp.get(id).and_then(|socket| socket.peek(0));
        oldest.map_or(0, |(_, data)| data.len())
    }

    /// What a socket is ready for.
    pub fn udp_readiness(&self, id: UdpId) -> Readiness {
        let Some(socket) = self.udp.get(id) else { return Readiness::empty() };
        let has_room = self.outbox.len() < self.config.queue_packets;
        socket.readiness() | if has_room { Readiness::OUT } else { Readiness::empty() }
    }

    /// Takes the pending error.
    pub fn udp_take_error(&mut self, id: UdpId) -> Option<SocketError> {
        self.udp.get_mut(id)?.error.take()
    }

    /// The address a socket is bound to.
    pub fn udp_local(&self, id: UdpId) -> Option<SocketAddr> {
        self.udp.get(id).map(|socket| socket.local)
    }

    /// The peer it is connected to.
    pub fn udp_peer(&self, id: UdpId) -> Option<SocketAddr> {
        self.udp.get(id)?.peer
    }

    /// Lets a socket without a peer be told of errors as one with a peer is, and all errors wait in a queue.
    pub fn udp_set_receives_errors(&mut self, id: UdpId, is_on: bool) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.receives_errors = is_on;
            if !is_on {
                socket.errors.retain(|queued| matches!(queued.origin, ErrorOrigin::Sent(_)));
            }
        }
    }

    /// What the path to the peer carries whole, in bytes of IP packet; none without a peer.
    pub fn udp_path_mtu(&self, id: UdpId) -> Option<usize> {
        Some(self.peer_mtu(self.udp_peer(id)?.ip()))
    }

    /// Sets how datagrams for groups are sent.
    pub fn udp_set_multicast(&mut self, id: UdpId, options: MulticastOptions) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.multicast = options;
        }
    }

    /// Names the only senders, by group, whose datagrams the socket takes; a group that is not named has no such bound
    /// (`IP_ADD_SOURCE_MEMBERSHIP`).
    pub fn udp_set_sources(&mut self, id: UdpId, sources: &[(IpAddr, IpAddr)]) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.sources = sources.to_vec();
        }
    }

    /// Allows broadcasts (`SO_BROADCAST`).
    pub fn udp_set_broadcast(&mut self, id: UdpId, is_on: bool) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.may_broadcast = is_on;
        }
    }

    /// Sets the time to live of outgoing datagrams; zero means the default.
    pub fn udp_set_hop_limit(&mut self, id: UdpId, hop_limit: u8) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.hop_limit = if hop_limit == 0 { 64 } else { hop_limit };
        }
    }
}
