//! TCP sockets as an app sees them. Nothing here blocks: an operation that cannot go on says so,
//! and an event tells when it can.

use alloc::vec::Vec;
use core::net::SocketAddr;

use smoltcp::socket::tcp::{RecvError as TcpRecvError, Socket, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, RecvError, SendError, SocketError, StateError,
};
use crate::flow::{Flow, Origin, Owner};
use crate::id::{ListenerId, Readiness, TcpId};
use crate::isn::seed_for;
use crate::key::FlowKey;
use crate::listener::BindOptions;
use crate::stack::Stack;
use crate::tcp_options::CORK_PATIENCE;

/// Binding, listening, accepting.
impl Stack {
    /// Binds an address for listening or for connecting from; port 0 chooses one.
    pub fn tcp_bind(&mut self, local: SocketAddr, options: BindOptions) -> Result<ListenerId, BindError> {
        if !local.ip().is_unspecified() && !options.is_free && !self.addresses.owns(local.ip()) {
            return Err(BindError::NotOurs);
        }
        let local = self.with_tcp_port(local).ok_or(BindError::NoPort)?;
        self.listeners.bind(local, options)
    }

    /// True if packets to an address need no router.
    pub fn reaches_directly(&self, to: core::net::IpAddr) -> bool {
        self.addresses.owns(to) || self.addresses.is_on_link(to)
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

    /// True if connections from outside reach who listens on the loopback address alone, on this port.
    pub fn opens_loopback(&self, port: u16) -> bool {
        self.config.open_loopback.has(port)
    }

    /// Lets connections wait for their first data, or so long, before they are queued (`TCP_DEFER_ACCEPT`).
    pub fn listener_set_defer(&mut self, id: ListenerId, patience: Option<Duration>) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.defers = patience;
        }
    }

    /// Bounds the payload of segments that peers of new connections are told to send (`TCP_MAXSEG`); 0 for what the link takes.
    pub fn listener_set_max_segment(&mut self, id: ListenerId, mss: u16) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.largest_mss = mss;
        }
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
        let number = self.numbers.number(now, &FlowKey::new(local, remote));
        let iss = TcpSeqNumber(number as i32);
        // The peer's first number is not known yet.
        let origin = Origin { local, remote, owner: Owner::App, path, iss, irs: TcpSeqNumber(0) };
        let id = self.flows.insert(&self.seed, origin, now).ok_or(ConnectError::NoMemory)?;
        let is_loopback = path == crate::flow::Path::Loopback;
        let flow = self.flows.get_mut(id).ok_or(ConnectError::NoMemory)?;
        let seed = seed_for(number, (self.random)());
        let mut interface = self.interfaces.for_new_connection(is_loopback, seed, self.now);
        let connect = |socket: &mut Socket<'_>| socket.connect(interface.context(), remote, local).is_ok();
        if !flow.socket_mut().is_some_and(connect) {
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
        let has_unread = self.flows.app(id).is_some_and(|flow| flow.recv_queue() > 0);
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

    /// Refuses new connections from outside from now on, as if nobody listened. Those that wait can still be accepted, and
    /// the app can still reach itself.
    pub fn refuse_connections(&mut self) {
        self.listeners.is_refusing = true;
    }

    /// True while a peer of a connection that the app has closed has not acknowledged all of it and its end.
    pub fn has_undelivered(&self) -> bool {
        self.flows.has_undelivered()
    }

    /// Closes every listener, and every connection that the app holds, because the app has ended.
    pub fn tcp_close_all(&mut self) {
        let listening: Vec<ListenerId> = self.listeners.listening().map(|(id, ..)| id).collect();
        listening.into_iter().for_each(|id| self.listener_close(id));
        for id in self.flows.of_app() {
            self.tcp_close(id);
        }
    }

    /// Leaves a flow to the stack, to finish in order or with a reset.
    pub(crate) fn orphan(&mut self, id: TcpId, is_abort: bool) {
        let Some(flow) = self.flows.awake(id, self.now) else { return self.drop_flow(id) };
        flow.owner = Owner::Orphan;
        let Some(socket) = flow.socket_mut() else { return };
        if is_abort {
            socket.abort();
        } else {
            socket.close();
        }
        self.mark_dirty(id);
    }

    /// Finishes sending.
    pub fn tcp_shutdown_send(&mut self, id: TcpId) -> Result<(), StateError> {
        let now = self.now;
        self.flows.app(id).ok_or(StateError::BadId)?;
        let flow = self.flows.awake(id, now).ok_or(StateError::NoMemory)?;
        let socket = flow.socket_mut().ok_or(StateError::BadId)?;
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
        if matches!(flow.state(), State::Closed | State::TimeWait | State::Listen | State::SynSent) {
            return Err(StateError::NotConnected);
        }
        flow.is_read_shut = true;
        self.notify_tcp(id);
        Ok(())
    }
}

/// Sending and receiving.
impl Stack {
    /// Lends received bytes to `take`, which says how many it took. Answers also how many there still are: the
    /// buffer is a ring, and they may lie behind its end.
    #[inline]
    pub fn tcp_recv<R>(
        &mut self,
        id: TcpId,
        take: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Result<(R, usize), RecvError> {
        let flow = self.flows.app_mut(id).ok_or(RecvError::BadId)?;
        let most = flow.readable_to_mark();
        let waiting = flow.recv_queue();
        if waiting == 0 {
            return Err(nothing_to_read(flow));
        }
        // Looked at and then dropped, so that `take` is called in one place only: it is compiled into this function then.
        let bytes = match (&flow.plain, &mut flow.engine) {
            (Some(plain), _) => plain.received.part(0, most),
            (None, Some(engine)) => engine.socket_mut().peek(most).map_err(recv_error)?,
            (None, None) => return Err(RecvError::WouldBlock),
        };
        let lent = bytes.len();
        let (count, result) = take(bytes);
        assert!(count <= lent, "no more can be taken than was lent");
        match (&mut flow.plain, &mut flow.engine) {
            (Some(plain), _) => plain.received.discard(count),
            (None, Some(engine)) => engine.socket_mut().recv(|_| (count, ())).map_err(recv_error)?,
            (None, None) => {}
        }
        let left = waiting - count;
        flow.widen(count);
        let is_at_mark = flow.note_read(count);
        if !flow.is_dirty && (flow.engine.is_some() || flow.has_opened()) {
            // The window has grown; the peer may have to be told.
            flow.is_dirty = true;
            self.dirty.push(id);
        }
        Ok((result, if is_at_mark { 0 } else { left }))
    }

    #[cold]
    fn reserve(&mut self, id: TcpId, bytes: usize) {
        let now = self.now;
        let Some(flow) = self.flows.ready(id, now) else { return };
        if flow.has_to_grow(bytes) {
            let wanted = flow.send_queue() + bytes;
            self.flows.grow_tx(id, wanted, now);
        }
    }

    /// Lends free room to `fill`, which says how much it filled. There may be more room behind
    /// the end of the buffer: call again until [`SendError::WouldBlock`]. The buffer grows once for all `wanted` bytes, as far
    /// as it may.
    #[inline]
    pub fn tcp_send<R>(
        &mut self,
        id: TcpId,
        wanted: usize,
        fill: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, SendError> {
        let mut flow = self.flows.app_mut(id).ok_or(SendError::BadId)?;
        if flow.is_backed_up() {
            return Err(SendError::WouldBlock);
        }
        if flow.has_to_grow(wanted.max(1)) {
            self.reserve(id, wanted.max(1));
            flow = self.flows.app_mut(id).ok_or(SendError::BadId)?;
        }
        let was_empty = flow.send_queue() == 0;
        // Lent first and counted then, so that `fill` is called in one place only: it is compiled into this function then.
        let room = match (&mut flow.plain, &mut flow.engine) {
            (Some(plain), _) if plain.sending.has_room() => plain.sending.room(),
            (None, Some(engine)) if engine.socket().can_send() => {
                engine.socket_mut().send(|room| (0, room)).map_err(|_| SendError::Closed)?
            }
            _ => {
                let (error, is_starved) = (no_room(flow), flow.lacks_buffer());
                if error == SendError::WouldBlock && is_starved {
                    self.starve(id);
                }
                return Err(error);
            }
        };
        let lent = room.len();
        let (count, result) = fill(room);
        assert!(count <= lent, "no more can be filled than was lent");
        match (&mut flow.plain, &mut flow.engine) {
            (Some(plain), _) => plain.sending.fill(count),
            (None, Some(engine)) => {
                engine.socket_mut().send(|_| (count, ())).map_err(|_| SendError::Closed)?;
            }
            (None, None) => {}
        }
        flow.is_unsent |= was_empty;
        if flow.is_corked && was_empty {
            flow.corked_until = self.now + CORK_PATIENCE;
        }
        if !flow.is_dirty {
            flow.is_dirty = true;
            self.dirty.push(id);
        }
        Ok(result)
    }
}

/// The peer to really use: "any address" means this machine (ip(7)).
pub(crate) fn reachable(remote: SocketAddr) -> Result<SocketAddr, ConnectError> {
    if remote.port() == 0 || remote.ip().is_multicast() {
        return Err(ConnectError::Unaddressable);
    }
    Ok(crate::route::here_if_unspecified(remote))
}

pub(crate) fn recv_error(error: TcpRecvError) -> RecvError {
    match error {
        TcpRecvError::Finished => RecvError::Finished,
        TcpRecvError::InvalidState => RecvError::NotConnected,
    }
}

/// Why there is nothing to read: an error comes first and once, then the end of the stream.
#[cold]
pub(crate) fn nothing_to_read(flow: &mut Flow) -> RecvError {
    // The end of the stream comes before an error of sending.
    if let Some(error) = flow.error.take_if(|error| *error != SocketError::Closed) {
        return error.into();
    }
    nothing_more(flow)
}

pub(crate) fn nothing_more(flow: &Flow) -> RecvError {
    match flow.state() {
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
    match flow.state() {
        State::SynSent | State::SynReceived => SendError::NotConnected,
        State::Established | State::CloseWait => SendError::WouldBlock,
        _ => SendError::Closed,
    }
}
