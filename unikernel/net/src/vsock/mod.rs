//! Streams between this machine and its host: the protocol of the socket device (Virtual I/O Device specification 1.2, section 5.10), without the
//! device. [`Vsock`] is given packets and asked for packets; the calls of an app are methods.
//!
//! - here: ports, and the calls of an app; `connection`: one of them; `exchange`: what a packet does to it; `packet`: headers.
//!
//! The host is the peer, but it is not trusted: ports, connections and bytes are bounded, and what exceeds a bound is reset.

mod connection;
mod exchange;
mod packet;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use slotmap::{SlotMap, new_key_type};

use crate::error::{AcceptError, BindError, RecvError, SendError};
use crate::id::Readiness;
use connection::{Connection, ROOM, State};
pub use packet::{HEADER_BYTES, VsockAddress};
use packet::{Header, NO_RECEIVE, NO_SEND};

/// The port that stands for any (`VMADDR_PORT_ANY`), and the first that is chosen (Linux: above those for privileged).
pub const ANY_PORT: u32 = u32::MAX;
const FIRST_CHOSEN: u32 = 1024;
/// Connections at most, and those that nobody has any more.
const MAX_CONNECTIONS: usize = 1024;
const MAX_ORPHANS: usize = 64;
/// Ports that are bound at most: a free one is looked for among them.
const MAX_PORTS: usize = 4096;

new_key_type! {
    /// A connection.
    pub struct VsockId;
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VsockEvent {
    /// A connection.
    Connection(VsockId),
    /// The listener on a port.
    Listener(u32),
}

/// How an attempt to connect goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It goes on.
    Pending,
    /// It has succeeded.
    Connected,
    /// It was refused.
    Refused,
}

struct Listener {
    queue: VecDeque<VsockId>,
    /// How many may wait; none before it listens.
    backlog: Option<usize>,
}

/// All streams of the machine.
pub struct Vsock {
    cid: u64,
    ports: BTreeMap<u32, Listener>,
    connections: SlotMap<VsockId, Connection>,
    /// By our port and the peer.
    by_peer: BTreeMap<(u32, VsockAddress), VsockId>,
    orphans: VecDeque<VsockId>,
    /// Resets, which are sent before anything else, and connections with something to send.
    resets: VecDeque<Header>,
    queued: VecDeque<VsockId>,
    events: Vec<VsockEvent>,
    next_port: u32,
}

impl Vsock {
    /// The streams of the machine `cid`.
    pub fn new(cid: u64) -> Self {
        Self {
            cid,
            ports: BTreeMap::new(),
            connections: SlotMap::with_key(),
            by_peer: BTreeMap::new(),
            orphans: VecDeque::new(),
            resets: VecDeque::new(),
            queued: VecDeque::new(),
            events: Vec::new(),
            next_port: FIRST_CHOSEN,
        }
    }

    /// The machine's number.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// The machine has moved: it has another number, and no connection holds any more (section 5.10.6.7).
    pub fn reset(&mut self, cid: u64) {
        self.cid = cid;
        self.resets.clear();
        let ids: Vec<VsockId> = self.connections.keys().collect();
        ids.into_iter().for_each(|id| self.over(id));
    }

    /// Binds a port, or with [`ANY_PORT`] one that is free; answers it.
    pub fn bind(&mut self, port: u32) -> Result<u32, BindError> {
        let port = if port == ANY_PORT { self.free_port().ok_or(BindError::NoPort)? } else { port };
        if self.ports.contains_key(&port) {
            return Err(BindError::InUse);
        }
        if self.ports.len() >= MAX_PORTS {
            return Err(BindError::NoPort);
        }
        self.ports.insert(port, Listener { queue: VecDeque::new(), backlog: None });
        Ok(port)
    }

    fn free_port(&mut self) -> Option<u32> {
        let is_free = |port: &u32| {
            let used = (*port, VsockAddress { cid: 0, port: 0 })
                ..=(*port, VsockAddress { cid: u64::MAX, port: u32::MAX });
            !self.ports.contains_key(port) && self.by_peer.range(used).next().is_none()
        };
        // There are far more than can be in use, so one of the next is free.
        let port = (self.next_port..ANY_PORT).chain(FIRST_CHOSEN..self.next_port).find(is_free)?;
        self.next_port = port + 1;
        Some(port)
    }

    /// Listens on a bound port.
    pub fn listen(&mut self, port: u32, backlog: usize) {
        if let Some(listener) = self.ports.get_mut(&port) {
            listener.backlog = Some(backlog.clamp(1, MAX_CONNECTIONS));
        }
    }

    /// Gives a port back; who waits there is turned away.
    pub fn unbind(&mut self, port: u32) {
        let waiting = self.ports.remove(&port).map(|listener| listener.queue).unwrap_or_default();
        for id in waiting {
            self.abort(id);
        }
    }

    /// Takes the connection that has waited longest on a port.
    pub fn accept(&mut self, port: u32) -> Result<VsockId, AcceptError> {
        let listener = self.ports.get_mut(&port).ok_or(AcceptError::NotListening)?;
        listener.queue.pop_front().ok_or(AcceptError::WouldBlock)
    }

    /// Begins a connection from a port, or with [`ANY_PORT`] from one that is free. None if there are too many, or there is this one.
    pub fn connect(&mut self, port: u32, peer: VsockAddress) -> Option<VsockId> {
        let port = if port == ANY_PORT { self.free_port()? } else { port };
        let local = VsockAddress { cid: self.cid, port };
        let id = self.insert(Connection::new(local, peer, State::Connecting))?;
        self.queue(id);
        Some(id)
    }

    /// How the attempt goes.
    pub fn attempt(&self, id: VsockId) -> Attempt {
        match self.connections.get(id).map(|connection| connection.state) {
            Some(State::Connecting) => Attempt::Pending,
            Some(State::Connected | State::Over) => Attempt::Connected,
            Some(State::Refused) | None => Attempt::Refused,
        }
    }

    fn insert(&mut self, connection: Connection) -> Option<VsockId> {
        let key = (connection.local.port, connection.peer);
        if self.connections.len() >= MAX_CONNECTIONS || self.by_peer.contains_key(&key) {
            return None;
        }
        self.connections.try_reserve(1).ok()?;
        let id = self.connections.insert(connection);
        self.by_peer.insert(key, id);
        Some(id)
    }

    /// Our address and the peer's.
    pub fn addresses(&self, id: VsockId) -> Option<(VsockAddress, VsockAddress)> {
        self.connections.get(id).map(|connection| (connection.local, connection.peer))
    }

    /// Lends what was received to `look`, which answers how many bytes it has taken.
    pub fn recv<R>(&mut self, id: VsockId, look: impl FnOnce(&[u8]) -> (usize, R)) -> Result<R, RecvError> {
        let connection = self.connections.get_mut(id).ok_or(RecvError::BadId)?;
        if connection.received_bytes() == 0 {
            return Err(if connection.is_at_end() { RecvError::Finished } else { RecvError::WouldBlock });
        }
        let result = connection.read(look);
        if connection.knows_little_room() {
            connection.owes_credit = true;
            self.queue(id);
        }
        Ok(result)
    }

    /// Bytes that wait to be read, and to be sent.
    pub fn queues(&self, id: VsockId) -> (usize, usize) {
        let queues = |connection: &Connection| (connection.received_bytes(), connection.unsent.len());
        self.connections.get(id).map_or((0, 0), queues)
    }

    /// How many bytes [`Self::send`] takes now.
    pub fn room(&self, id: VsockId) -> Result<usize, SendError> {
        let connection = self.connections.get(id).ok_or(SendError::BadId)?;
        match ROOM - connection.unsent.len() {
            _ if connection.is_shut() => Err(SendError::Closed),
            0 => Err(SendError::WouldBlock),
            room => Ok(room),
        }
    }

    /// Takes bytes to be sent, which must fit [`Self::room`].
    pub fn send(&mut self, id: VsockId, bytes: &[u8]) -> Result<(), SendError> {
        let connection = self.connections.get_mut(id).ok_or(SendError::BadId)?;
        connection.unsent.try_reserve(bytes.len()).map_err(|_| SendError::NoMemory)?;
        connection.unsent.extend(bytes);
        self.queue(id);
        Ok(())
    }

    /// Ends directions; what was written before is sent.
    pub fn shut_down(&mut self, id: VsockId, ends_receiving: bool, ends_sending: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.ended |=
            if ends_receiving { NO_RECEIVE } else { 0 } | if ends_sending { NO_SEND } else { 0 };
        connection.owes_shutdown = true;
        self.queue(id);
        self.notify(id);
    }

    /// What a connection is ready for.
    pub fn readiness(&self, id: VsockId) -> Readiness {
        let Some(connection) = self.connections.get(id) else { return Readiness::HUP };
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, connection.received_bytes() > 0 || connection.is_at_end());
        ready.set(Readiness::RDHUP, connection.is_at_end());
        let is_waiting = connection.state == State::Connecting;
        ready.set(Readiness::OUT, !is_waiting && (connection.is_shut() || connection.unsent.len() < ROOM));
        let is_over = matches!(connection.state, State::Over | State::Refused);
        ready.set(Readiness::HUP, is_over || (connection.is_at_end() && connection.is_shut() && !is_waiting));
        ready
    }

    /// What a listener is ready for.
    pub fn listener_readiness(&self, port: u32) -> Readiness {
        let has_waiting = self.ports.get(&port).is_some_and(|listener| !listener.queue.is_empty());
        if has_waiting { Readiness::IN } else { Readiness::empty() }
    }

    /// Its app has done with a connection: what was written is sent, then it ends.
    pub fn close(&mut self, id: VsockId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.state != State::Connected {
            return self.abort(id);
        }
        connection.is_orphan = true;
        self.orphans.push_back(id);
        self.shut_down(id, true, true);
        // One that the host does not let go of must not stay for ever.
        if self.orphans.len() > MAX_ORPHANS
            && let Some(oldest) = self.orphans.pop_front()
        {
            self.abort(oldest);
        }
    }

    /// Ends a connection at once.
    pub fn abort(&mut self, id: VsockId) {
        let Some(connection) = self.connections.get(id) else { return };
        let is_known_to_peer = match connection.state {
            // One that was not yet asked for, the peer knows nothing of.
            State::Connecting => connection.owes_opening.is_none(),
            State::Connected => true,
            State::Refused | State::Over => false,
        };
        let (local, peer) = (connection.local, connection.peer);
        self.remove(id);
        if is_known_to_peer {
            self.reset_peer(local, peer);
        }
    }

    fn remove(&mut self, id: VsockId) {
        if let Some(connection) = self.connections.remove(id) {
            self.by_peer.remove(&(connection.local.port, connection.peer));
            if connection.is_queued {
                self.queued.retain(|queued| *queued != id);
            }
            self.orphans.retain(|orphan| *orphan != id);
        }
    }

    /// What has changed since the last call, each once.
    pub fn take_events(&mut self) -> Vec<VsockEvent> {
        let events = core::mem::take(&mut self.events);
        for event in &events {
            if let VsockEvent::Connection(id) = event
                && let Some(connection) = self.connections.get_mut(*id)
            {
                connection.has_event = false;
            }
        }
        events
    }
}
