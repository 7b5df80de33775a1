//! TCP sockets as an app sees them. Nothing here blocks: an operation that cannot go on says so,
//! and an event tells when it can.

use core::net::SocketAddr;

use smoltcp::socket::tcp::{RecvError as TcpRecvError, State};
use smoltcp::time::{Duration, Instant};

use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, RecvError, SendError, SocketError, StateError,
};
use crate::flow::{Flow, KeepAlive, Origin, Owner};
use crate::id::{ListenerId, Readiness, TcpId};
use crate::listener::BindOptions;
use crate::stack::Stack;

/// Binding, listening, accepting.
impl Stack {
    /// Binds an address for listening or for connecting from; port 0 chooses one.
    pub fn tcp_bind(&mut self, local: SocketAddr, options: BindOptions) -> Result<ListenerId, BindError> {
        if !local.ip().is_unspecified() && !self.addresses.owns(local.ip()) {
            return Err(BindError::NotOurs);
        }
        let local = self.with_tcp_port(local).ok_or(BindError::NoPort)?;
        self.listeners.bind(local, options)
    }

    /// Binds what another stack of the machine has bound, whose answer was good: the address is the machine's, and
    /// the port was chosen.
    pub fn tcp_bind_alike(
        &mut self,
        local: SocketAddr,
        options: BindOptions,
    ) -> Result<ListenerId, BindError> {
        self.listeners.bind(local, options)
    }

    /// Starts listening on a bound address, or changes the backlog of one that listens.
    pub fn tcp_listen(&mut self, id: ListenerId, backlog: usize) -> Result<(), ListenError> {
        self.listeners.get(id).ok_or(ListenError::BadId)?;
        if self.listeners.listen(id, backlog) { Ok(()) } else { Err(ListenError::InUse) }
    }

    /// Takes the connection that has waited longest.
    pub fn tcp_accept(&mut self, id: ListenerId) -> Result<TcpId, AcceptError> {
        let listener = self.listeners.get_mut(id).ok_or(AcceptError::BadId)?;
        if !listener.is_listening() {
            return Err(AcceptError::NotListening);
        }
        while let Some(flow_id) = listener.pop() {
            if let Some(flow) = self.flows.get_mut(flow_id) {
                flow.owner = Owner::App;
                self.counters.accepted += 1;
                return Ok(flow_id);
            }
        }
        Err(AcceptError::WouldBlock)
    }

    /// Gives a bound address back. Connections that nobody accepted are reset.
    pub fn listener_close(&mut self, id: ListenerId) {
        for flow in self.listeners.remove(id) {
            self.orphan(flow, true);
        }
    }

    /// The address a listener is bound to.
    pub fn listener_local(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id).map(|listener| listener.local)
    }

    /// What a listener is ready for.
    pub fn listener_readiness(&self, id: ListenerId) -> Readiness {
        match self.listeners.get(id) {
            Some(listener) if listener.is_listening() && !listener.is_empty() => Readiness::IN,
            _ => Readiness::empty(),
        }
    }
}

/// Connecting and closing.
impl Stack {
    /// Begins a connection. Its outcome shows as readiness to write, or as an error.
    pub fn tcp_connect(
        &mut self,
        now: Instant,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<TcpId, ConnectError> {
        self.now = now;
        let remote = reachable(remote)?;
        if self.addresses.is_broadcast(remote.ip()) {
            return Err(ConnectError::Unaddressable);
        }
        let local = self.local_for(local, remote)?;
        let (path, hop) = self.path_to(remote.ip()).ok_or(ConnectError::NoRoute)?;
        let origin = Origin { local, remote, owner: Owner::App, path };
        let id = self.flows.insert(&self.seed, origin).ok_or(ConnectError::NoMemory)?;
        let is_loopback = path == crate::flow::Path::Loopback;
        let flow = self.flows.get_mut(id).ok_or(ConnectError::NoMemory)?;
        let seed = self.numbers.seed(self.now, &flow.key, (self.random)());
        let mut interface = self.interfaces.newborn(is_loopback, seed, self.now);
        if flow.socket_mut().connect(interface.context(), remote, local).is_err() {
            self.drop_flow(id);
            return Err(ConnectError::Unaddressable);
        }
        if let Some(hop) = hop {
            self.neighbors.park_flow(hop, id);
        }
        self.counters.connects += 1;
        self.mark_dirty(id);
        Ok(id)
    }

    fn local_for(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<SocketAddr, ConnectError> {
        let source = || self.addresses.source_for(remote.ip()).ok_or(ConnectError::NoRoute);
        let address = match local {
            Some(local) if !local.ip().is_unspecified() => local.ip(),
            _ => source()?,
        };
        if address.is_ipv4() != remote.is_ipv4() {
            return Err(ConnectError::Unaddressable);
        }
        match local.map(|local| local.port()) {
            Some(port) if port != 0 => {
                let local = SocketAddr::new(address, port);
                if self.is_pair_used(local, remote) { Err(ConnectError::InUse) } else { Ok(local) }
            }
            _ => self.free_pair(address, remote).ok_or(ConnectError::NoPort),
        }
    }

    /// Closes a connection; what was sent is still delivered. Unread data means that the app has
    /// not seen all that the peer said, so the peer is told by a reset (RFC 2525 section 2.17).
    pub fn tcp_close(&mut self, id: TcpId) {
        let has_unread = self.flows.app(id).is_some_and(|flow| flow.socket().can_recv());
        if self.flows.app(id).is_some() {
            self.orphan(id, has_unread);
        }
    }

    /// Ends a connection with a reset.
    pub fn tcp_abort(&mut self, id: TcpId) {
        if self.flows.app(id).is_some() {
            self.orphan(id, true);
        }
    }

    /// Closes every connection that the app holds, because the app has ended.
    pub fn tcp_close_all(&mut self) {
        for id in self.flows.of_app() {
            self.tcp_close(id);
        }
    }

    /// Leaves a flow to the stack, to finish in order or with a reset.
    fn orphan(&mut self, id: TcpId, is_abort: bool) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.owner = Owner::Orphan;
        let socket = flow.socket_mut();
        if is_abort {
            socket.abort();
        } else {
            socket.close();
        }
        self.mark_dirty(id);
    }

    /// Finishes sending.
    pub fn tcp_shutdown_send(&mut self, id: TcpId) -> Result<(), StateError> {
        let flow = self.flows.app_mut(id).ok_or(StateError::BadId)?;
        let socket = flow.socket_mut();
        if !socket.is_active() || socket.state() == State::SynSent {
            return Err(StateError::NotConnected);
        }
        socket.close();
        self.mark_dirty(id);
        self.notify_tcp(id);
        Ok(())
    }

    /// Finishes reading: what has arrived can still be read, then the end is reported.
    pub fn tcp_shutdown_recv(&mut self, id: TcpId) -> Result<(), StateError> {
        let flow = self.flows.app_mut(id).ok_or(StateError::BadId)?;
        if !flow.socket().is_active() || flow.socket().state() == State::SynSent {
            return Err(StateError::NotConnected);
        }
        flow.is_read_shut = true;
        self.notify_tcp(id);
        Ok(())
    }
}

/// Sending and receiving.
impl Stack {
    /// Lends received bytes to `take`, which says how many it took. There may be more behind the
    /// end of the buffer: call again until [`RecvError::WouldBlock`].
    #[inline]
    pub fn tcp_recv<R>(&mut self, id: TcpId, take: impl FnOnce(&[u8]) -> (usize, R)) -> Result<R, RecvError> {
        let flow = self.flows.app_mut(id).ok_or(RecvError::BadId)?;
        if !flow.socket().can_recv() {
            return Err(nothing_to_read(flow));
        }
        let result = flow.socket_mut().recv(|bytes| take(bytes)).map_err(recv_error)?;
        if !flow.is_dirty {
            // The window has grown; the peer may have to be told.
            flow.is_dirty = true;
            self.dirty.push(id);
        }
        Ok(result)
    }

    /// Lends received bytes to `look` without taking them.
    pub fn tcp_peek<R>(&mut self, id: TcpId, look: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        let flow = self.flows.app_mut(id).ok_or(RecvError::BadId)?;
        if !flow.socket().can_recv() {
            return Err(nothing_to_read(flow));
        }
        flow.socket_mut().peek(usize::MAX).map(look).map_err(recv_error)
    }

    /// Lends free room to `fill`, which says how much it filled. There may be more room behind
    /// the end of the buffer: call again until [`SendError::WouldBlock`].
    #[inline]
    pub fn tcp_send<R>(
        &mut self,
        id: TcpId,
        fill: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, SendError> {
        let flow = self.flows.app_mut(id).ok_or(SendError::BadId)?;
        if !flow.socket().can_send() {
            return Err(no_room(flow));
        }
        let socket = flow.socket_mut();
        let was_empty = socket.send_queue() == 0;
        let result = socket.send(fill).map_err(|_| SendError::Closed)?;
        flow.is_unsent |= was_empty;
        if !flow.is_dirty {
            flow.is_dirty = true;
            self.dirty.push(id);
        }
        Ok(result)
    }
}

/// Asking and options.
impl Stack {
    /// What a connection is ready for.
    #[inline]
    pub fn tcp_readiness(&self, id: TcpId) -> Readiness {
        self.flows.app(id).map_or(Readiness::empty(), Flow::readiness)
    }

    /// Takes the pending error.
    pub fn tcp_take_error(&mut self, id: TcpId) -> Option<SocketError> {
        self.flows.app_mut(id)?.error.take()
    }

    /// True once the handshake is complete, until the connection is closed or has failed.
    pub fn tcp_is_connected(&self, id: TcpId) -> bool {
        let state = self.flows.app(id).map_or(State::Closed, |flow| flow.socket().state());
        !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// True while the handshake of a connection begun from here is under way.
    pub fn tcp_is_connecting(&self, id: TcpId) -> bool {
        let state = self.flows.app(id).map_or(State::Closed, |flow| flow.socket().state());
        matches!(state, State::SynSent | State::SynReceived)
    }

    /// Our end of the connection.
    pub fn tcp_local(&self, id: TcpId) -> Option<SocketAddr> {
        self.flows.app(id).map(|flow| flow.local)
    }

    /// The other end.
    pub fn tcp_peer(&self, id: TcpId) -> Option<SocketAddr> {
        self.flows.app(id).map(|flow| flow.remote)
    }

    /// Bytes that wait to be read.
    pub fn tcp_recv_queue(&self, id: TcpId) -> usize {
        self.flows.app(id).map_or(0, |flow| flow.socket().recv_queue())
    }

    /// Bytes that are not acknowledged yet.
    pub fn tcp_send_queue(&self, id: TcpId) -> usize {
        self.flows.app(id).map_or(0, |flow| flow.socket().send_queue())
    }

    /// The sizes of the receive and the send buffer.
    pub fn tcp_buffer_sizes(&self) -> (usize, usize) {
        (self.config.tcp_rx_buffer, self.config.tcp_tx_buffer)
    }

    /// Sends small segments at once instead of collecting them (`TCP_NODELAY`).
    pub fn tcp_set_nodelay(&mut self, id: TcpId, is_on: bool) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.socket_mut().set_nagle_enabled(!is_on);
            self.mark_dirty(id);
        }
    }

    /// Probes a silent peer, or stops doing so.
    pub fn tcp_set_keep_alive(&mut self, id: TcpId, keep_alive: Option<KeepAlive>) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.keep_alive = keep_alive;
            flow.socket_mut().set_keep_alive(keep_alive.map(|keep_alive| keep_alive.idle));
            self.mark_dirty(id);
        }
    }

    /// Bounds how long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub fn tcp_set_user_timeout(&mut self, id: TcpId, timeout: Option<Duration>) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.user_timeout = timeout;
            self.mark_dirty(id);
        }
    }

    /// Sets the time to live of outgoing packets; zero means the default.
    pub fn tcp_set_hop_limit(&mut self, id: TcpId, hop_limit: u8) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.socket_mut().set_hop_limit((hop_limit != 0).then_some(hop_limit));
        }
    }
}

/// The peer to really use: "any address" means this machine (ip(7)).
pub(crate) fn reachable(remote: SocketAddr) -> Result<SocketAddr, ConnectError> {
    if remote.port() == 0 || remote.ip().is_multicast() {
        return Err(ConnectError::Unaddressable);
    }
    Ok(crate::route::here_if_unspecified(remote))
}

fn recv_error(error: TcpRecvError) -> RecvError {
    match error {
        TcpRecvError::Finished => RecvError::Finished,
        TcpRecvError::InvalidState => RecvError::NotConnected,
    }
}

/// Why there is nothing to read: an error comes first and once, then the end of the stream.
#[cold]
fn nothing_to_read(flow: &mut Flow) -> RecvError {
    if let Some(error) = flow.error.take() {
        return error.into();
    }
    match flow.socket().state() {
        State::SynSent | State::SynReceived => RecvError::NotConnected,
        State::Established | State::FinWait1 | State::FinWait2 if !flow.is_read_shut => RecvError::WouldBlock,
        _ => RecvError::Finished,
    }
}

#[cold]
fn no_room(flow: &mut Flow) -> SendError {
    if let Some(error) = flow.error.take() {
        return error.into();
    }
    match flow.socket().state() {
        State::SynSent | State::SynReceived => SendError::NotConnected,
        State::Established | State::CloseWait => SendError::WouldBlock,
        _ => SendError::Closed,
    }
}
