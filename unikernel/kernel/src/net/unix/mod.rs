//! `AF_UNIX` sockets (unix(7)): streams, datagrams and sequenced packets within the machine. `tokio`
//! wakes its signal handling with a pair of them.
//!
//! - here: sending and receiving; [`connect`]: connecting and accepting; [`queue`]: what is on its way to a
//!   socket; [`garbage`]: sockets that keep only each other open; [`names`]: paths and abstract names; [`listing`]: `/proc/net/unix`.
//!
//! No two sockets' states are locked at a time, and none together with a queue.

mod connect;
pub(crate) mod garbage;
pub(crate) mod listing;
mod names;
mod queue;

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

pub(crate) use names::{Paths, UnixName, set_paths};
pub(crate) use queue::{CAPACITY_BYTES, Rights};
use queue::{Queue, Taken};

use super::peek_offset::PeekOffset;
use super::socket::{Beside, Direction, Kind, MessageFlags, Received, Shutdown, Socket};
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, File, Readiness, WaitMode};
use crate::mem::user::UserSlice;
use crate::net::address::{Address, Family, UserAddress};
use crate::net::options::SocketOptions;
use crate::sync::SpinLock;
use crate::task::release;

/// Whether messages have edges, and whether there are connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum SocketType {
    /// Bytes (`SOCK_STREAM`).
    Stream,
    /// Messages, each to whom it may concern (`SOCK_DGRAM`).
    Datagram,
    /// Messages over a connection (`SOCK_SEQPACKET`).
    SeqPacket,
}

/// What a socket is just now.
#[derive(Default)]
enum Role {
    #[default]
    Fresh,
    Listener {
        queue: VecDeque<Arc<Socket>>,
        backlog: usize,
    },
    Connected(Connection),
    Closed,
}

/// The other side of a connection, or a datagram socket's usual addressee.
#[derive(Clone)]
struct Connection {
    peer: Weak<Socket>,
    peer_name: UnixName,
    outgoing: Arc<SpinLock<Queue>>,
}

#[derive(Default)]
struct State {
    name: UnixName,
    role: Role,
    /// The app sends no more.
    is_send_shut: bool,
}

/// A socket of this family.
pub(crate) struct Unix {
    socket_type: SocketType,
    state: SpinLock<State>,
    incoming: Arc<SpinLock<Queue>>,
    entry: listing::Entry,
    pub(super) peek_offset: PeekOffset,
}

/// Makes a socket.
pub(crate) fn socket(socket_type: SocketType) -> Arc<Socket> {
    let unix = Unix {
        socket_type,
        state: SpinLock::new(State::default()),
        incoming: Arc::default(),
        entry: listing::Entry::reserve(),
        peek_offset: PeekOffset::default(),
    };
    let socket = Socket::new(Family::Unix, Kind::Unix(unix), SocketOptions::default());
    if let Some(unix) = socket.unix() {
        unix.entry.show(&socket);
    }
    socket
}

/// Makes two sockets that are each other's peer (socketpair(2)).
pub(crate) fn pair(socket_type: SocketType) -> [Arc<Socket>; 2] {
    let sockets = [socket(socket_type), socket(socket_type)];
    let [first, second] = &sockets;
    for (one, other) in [(first, second), (second, first)] {
        if let (Some(unix), Some(peer)) = (one.unix(), other.unix()) {
            unix.state.lock().role = Role::Connected(peer.connection_to(other, UnixName::Unnamed));
        }
    }
    sockets
}

fn tell(socket: &Weak<Socket>) {
    if let Some(socket) = socket.upgrade() {
        socket.source.notify(socket.readiness());
    }
}

impl Unix {
    /// What others hold to talk to this socket.
    fn connection_to(&self, socket: &Arc<Socket>, name: UnixName) -> Connection {
        Connection { peer: Arc::downgrade(socket), peer_name: name, outgoing: Arc::clone(&self.incoming) }
    }

    /// The type of messages.
    pub(crate) fn style(&self) -> SocketType {
        self.socket_type
    }

    fn connection(&self) -> Option<Connection> {
        match &self.state.lock().role {
            Role::Connected(connection) => Some(connection.clone()),
            _ => None,
        }
    }

    pub(super) fn bind(&self, socket: &Socket, name: UnixName) -> Result<(), Errno> {
        if self.state.lock().name != UnixName::Unnamed {
            return match name {
                // The kernel has no name to pick.
                UnixName::Unnamed => Ok(()),
                UnixName::Path(path) => names::paths().check(&path).and(Err(Errno::EINVAL)),
                UnixName::Abstract(_) => Err(Errno::EINVAL),
            };
        }
        let name = names::bind(&socket.weak(), self.socket_type, name)?;
        self.state.lock().name = name;
        Ok(())
    }

    pub(super) fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        if self.socket_type != SocketType::Datagram && self.connection().is_none() {
            return Err(if self.socket_type == SocketType::Stream { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        let is_peek = flags.contains(MessageFlags::PEEK);
        let mut taken = socket.block_on(mode, Direction::Receive, || {
            self.take(into, is_peek.then(|| self.peek_offset.start(flags)), mode)
        })?;
        self.tell_of_room();
        let wanted: usize = into.iter().map(UserSlice::len).sum();
        let fills =
            flags.contains(MessageFlags::WAIT_ALL) && self.socket_type == SocketType::Stream && !is_peek;
        while fills && taken.len > 0 && taken.len < wanted && taken.rights.is_empty() {
            let rest: alloc::vec::Vec<UserSlice> = skip(into, taken.len);
            let more = socket.block_on(mode, Direction::Receive, || self.take(&rest, None, mode));
            let Ok(more) = more else { break };
            self.tell_of_room();
            if more.len == 0 {
                break;
            }
            taken.len += more.len;
            taken.full_len = taken.len;
            taken.rights = more.rights;
        }
        let from = taken.from.filter(|_| self.socket_type == SocketType::Datagram).map(Address::Unix);
        let (len, full_len) = (taken.len, taken.full_len);
        self.peek_offset.advance(flags, len, full_len);
        Ok(Received { len, full_len, from, rights: taken.rights, beside: Beside::Nothing })
    }

    fn take(&self, into: &[UserSlice], peek: Option<usize>, mode: WaitMode) -> Result<Taken, AttemptError> {
        let mut in_flight = None;
        loop {
            let mut queue = self.incoming.lock();
            if queue.has_rights() && in_flight.is_none() {
                drop(queue);
                in_flight = Some(garbage::lock());
                continue;
            }
            let taken = queue.take(self.socket_type, into, peek, mode)?;
            if let Some(in_flight) = in_flight.as_mut().filter(|_| peek.is_none()) {
                in_flight.remove(&taken.rights);
            }
            return Ok(taken);
        }
    }

    /// Loses what is on its way here. True if that was anything.
    fn discard(&self) -> bool {
        let (had_data, rights) = {
            let mut in_flight = garbage::lock();
            let mut queue = self.incoming.lock();
            let had_data = queue.has_data();
            let rights: alloc::vec::Vec<Rights> = if queue.has_rights() {
                queue.drain().inspect(|rights| in_flight.remove(rights)).collect()
            } else {
                drop(queue.drain());
                alloc::vec::Vec::new()
            };
            (had_data, rights)
        };
        rights.into_iter().for_each(release::release);
        had_data
    }

    fn tell_of_room(&self) {
        let waiting = self.incoming.lock().take_waiting(self.socket_type);
        waiting.iter().for_each(tell);
        if self.socket_type != SocketType::Datagram
            && let Some(connection) = self.connection()
        {
            tell(&connection.peer);
        }
    }

    pub(super) fn send(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<UserAddress>,
        mut rights: Rights,
        mode: WaitMode,
    ) -> SysResult {
        let is_send_shut = || self.state.lock().is_send_shut;
        if self.socket_type == SocketType::Datagram && is_send_shut() {
            return Err(Errno::EPIPE);
        }
        let is_to_peer = to.is_none();
        let connection = match to {
            Some(_) if self.socket_type != SocketType::Datagram => {
                let is_connected = self.connection().is_some();
                return Err(if is_connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
            }
            Some(given) => {
                let name = given.unix()?;
                let target = names::find(&name, self.socket_type)?;
                let unix = target.unix().ok_or(Errno::ECONNREFUSED)?;
                if unix.socket_type != self.socket_type {
                    return Err(Errno::EPROTOTYPE);
                }
                unix.connection_to(&target, name)
            }
            None => self.connection().ok_or(Errno::ENOTCONN)?,
        };
        if !rights.is_empty() {
            garbage::collect();
        }
        let own_name = self.state.lock().name.clone();
        let me = socket.weak();
        let (total, mut sent) = (from.iter().map(UserSlice::len).sum::<usize>(), 0);
        loop {
            let rest = skip(from, sent);
            let outcome = socket.block_on(mode, Direction::Send, || {
                if is_send_shut() {
                    return Err(Errno::EPIPE.into());
                }
                let mut in_flight = (!rights.is_empty()).then(garbage::lock);
                if let Some(in_flight) = &mut in_flight {
                    in_flight.add(&rights)?;
                }
                let mut queue = connection.outgoing.lock();
                let outcome = queue.put(self.socket_type, &rest, &mut rights, &own_name);
                if let Some(in_flight) = &mut in_flight {
                    // If they have not been put in, they are still here.
                    in_flight.remove(&rights);
                }
                if matches!(outcome, Err(AttemptError::Again)) {
                    queue.wait_for_room(&me);
                }
                outcome
            });
            match outcome {
                Ok(count) => sent += count,
                Err(Errno::ECONNREFUSED) if is_to_peer => {
                    // A datagram socket forgets a peer that is gone.
                    self.state.lock().role = Role::Fresh;
                    return Err(Errno::ECONNREFUSED);
                }
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
            tell(&connection.peer);
            // A blocking write to a stream ends when all is written.
            if sent >= total || self.socket_type != SocketType::Stream || mode == WaitMode::NonBlocking {
                return Ok(sent);
            }
        }
    }

    /// Ends directions, which an unconnected socket has as well. Whoever waits on either side looks again.
    pub(super) fn shutdown(&self, socket: &Socket, how: Shutdown) {
        if how.ends_receiving() {
            self.incoming.lock().is_read_shut = true;
        }
        let connection = {
            let mut state = self.state.lock();
            state.is_send_shut |= how.ends_sending();
            match &state.role {
                // Of datagrams the peer learns by sending.
                Role::Connected(connection) if self.socket_type != SocketType::Datagram => {
                    Some(connection.clone())
                }
                _ => None,
            }
        };
        if let Some(connection) = &connection
            && how.ends_sending()
        {
            connection.outgoing.lock().is_write_shut = true;
        }
        socket.source.notify(self.readiness(socket));
        if let Some(connection) = &connection {
            tell(&connection.peer);
        }
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        core::mem::take(&mut self.incoming.lock().is_reset).then_some(Errno::ECONNRESET)
    }

    pub(super) fn name(&self) -> UnixName {
        self.state.lock().name.clone()
    }

    pub(super) fn peer_name(&self) -> Result<UnixName, Errno> {
        self.connection().map(|connection| connection.peer_name).ok_or(Errno::ENOTCONN)
    }

    pub(super) fn readiness(&self, socket: &Socket) -> Readiness {
        let (is_listener, has_queue, is_send_shut) = {
            let state = self.state.lock();
            let queue = match &state.role {
                Role::Listener { queue, .. } => Some(!queue.is_empty()),
                _ => None,
            };
            (queue.is_some(), queue == Some(true), state.is_send_shut)
        };
        let mut ready = Readiness::empty();
        let is_in_over = {
            let incoming = self.incoming.lock();
            let (has_data, is_over) = (incoming.has_data() || has_queue, incoming.is_over());
            ready.set(Readiness::READABLE, has_data || is_over || incoming.is_reset);
            ready.set(Readiness::RDHUP, is_over);
            ready.set(Readiness::ERR, incoming.is_reset);
            is_over
        };
        let connection = self.connection();
        let is_datagram = self.socket_type == SocketType::Datagram;
        // A stream that is not connected has hung up, as Linux sees it.
        ready.set(
            Readiness::HUP,
            is_in_over && is_send_shut || !is_datagram && !is_listener && connection.is_none(),
        );
        ready.set(Readiness::SOCKET_WRITABLE, !is_listener);
        let Some(connection) = connection else { return ready };
        let mut outgoing = connection.outgoing.lock();
        if !outgoing.has_room(self.socket_type) {
            ready.remove(Readiness::SOCKET_WRITABLE);
            // Peers of streams are told of all room anyway.
            if is_datagram {
                outgoing.wait_for_room(&socket.weak());
            }
        }
        if is_in_over && !is_datagram && outgoing.is_over() {
            ready |= Readiness::HUP;
        }
        ready
    }

    pub(super) fn queues(&self) -> (usize, usize) {
        let incoming = self.incoming.lock().next_bytes(self.socket_type);
        let outgoing = self.connection().map_or(0, |connection| connection.outgoing.lock().queued_bytes());
        (incoming, outgoing)
    }

    pub(super) fn close(&self) {
        self.end(false);
    }

    /// Ends the socket. The peer of one that nobody accepted is told of a reset.
    fn end(&self, is_unaccepted: bool) {
        let state = {
            let mut state = self.state.lock();
            core::mem::replace(&mut *state, State { role: Role::Closed, ..State::default() })
        };
        names::release(&state.name, self.socket_type);
        {
            let mut incoming = self.incoming.lock();
            incoming.is_read_shut = true;
            incoming.is_closed = true;
        }
        let had_data = self.discard();
        let waiting = self.incoming.lock().take_waiting(self.socket_type);
        waiting.iter().for_each(tell);
        match state.role {
            Role::Connected(connection) if self.socket_type != SocketType::Datagram => {
                {
                    let mut outgoing = connection.outgoing.lock();
                    outgoing.is_write_shut = true;
                    outgoing.is_reset = had_data || is_unaccepted;
                }
                tell(&connection.peer);
            }
            Role::Listener { queue, .. } => {
                queue.iter().filter_map(|waiting| waiting.unix()).for_each(|waiting| waiting.end(true));
            }
            _ => {}
        }
    }
}

/// The buffers after the first `done` bytes of them.
fn skip<'a>(buffers: &[UserSlice<'a>], done: usize) -> alloc::vec::Vec<UserSlice<'a>> {
    let mut skip = done;
    let rest = buffers.iter().map(|buffer| {
        let here = skip.min(buffer.len());
        skip -= here;
        buffer.skip(here)
    });
    rest.collect()
}
