//! Which requests there are: frames that bring bytes, frames that take some back, and the calls on the descriptor between them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use super::threads::Access;
use crate::event::{Event, Kind, Peer};
use crate::recording::Recording;

/// A connection, as events name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Connection {
    /// Our port above the peer's.
    pub ports: u64,
    /// The peer's address, or the last half of it.
    pub peer: u64,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{} {}:{}", self.ports >> 16 & 0xffff, Peer(self.peer), self.ports & 0xffff)
    }
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    In(u64),
    Out(u64),
    Resent,
}

/// What passes on all connections, and which descriptor each has.
#[derive(Debug, Default)]
pub(super) struct Connections {
    turns: BTreeMap<Connection, Vec<(u64, Turn)>>,
    /// From when on a descriptor is which connection's.
    descriptors: BTreeMap<i32, Vec<(u64, Connection)>>,
    /// Those that were made by a client: the others are not requests.
    served: BTreeSet<Connection>,
}

/// A request with its answer, not divided yet.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) connection: Connection,
    pub(super) begin: u64,
    /// When its last bytes came, as far as they did before the answer began.
    pub(super) arrived: u64,
    /// The first frame out behind the last call that wrote, or of all.
    pub(super) sent: u64,
    pub(super) end: u64,
    pub(super) acknowledged: Option<u64>,
    pub(super) bytes: [u64; 2],
    pub(super) is_resent: bool,
    pub(super) read: Option<Access>,
    pub(super) write: Option<Access>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct AllFound {
    pub(super) answered: Vec<Found>,
    pub(super) unanswered: Vec<(Connection, u64)>,
}

impl Connections {
    pub(super) fn of(recording: &Recording<'_>, events: &[(u32, Event)]) -> Self {
        let mut connections = Self::default();
        for (descriptor, [ports, peer]) in recording.sockets() {
            connections.open(0, descriptor, Connection { ports, peer });
        }
        for (_, event) in events {
            let (at, [first, second]) = (event.at, event.wide);
            let connection = Connection { ports: first & 0xffff_ffff, peer: second };
            let turn = match event.known() {
                Some(Kind::FrameIn) => Turn::In(event.small.into()),
                Some(Kind::FrameOut) => Turn::Out(event.small.into()),
                Some(Kind::TcpResend) => Turn::Resent,
                Some(Kind::SocketOpen) => {
                    connections.open(at, event.small as i32, connection);
                    continue;
                }
                _ => continue,
            };
            connections.turns.entry(connection).or_default().push((at, turn));
        }
        connections
    }

    fn open(&mut self, at: u64, descriptor: i32, connection: Connection) {
        self.descriptors.entry(descriptor).or_default().push((at, connection));
        self.served.insert(connection);
    }

    /// Which connection a descriptor was at a time.
    fn at(&self, descriptor: i32, at: u64) -> Option<Connection> {
        let history = self.descriptors.get(&descriptor)?;
        let next = history.partition_point(|(from, _)| *from <= at);
        next.checked_sub(1).and_then(|last| history.get(last)).map(|(_, connection)| *connection)
    }

    /// The requests on all connections that clients have made.
    pub(super) fn requests(&self, accesses: &[Access]) -> AllFound {
        let mut by_connection: BTreeMap<Connection, Vec<Access>> = BTreeMap::new();
        for access in accesses {
            if let Some(connection) = self.at(access.descriptor, access.end) {
                by_connection.entry(connection).or_default().push(*access);
            }
        }
        let mut all = AllFound::default();
        for (connection, turns) in
            self.turns.iter().filter(|(connection, _)| self.served.contains(connection))
        {
            let accesses = by_connection.get(connection).map_or(&[][..], Vec::as_slice);
            all.add(*connection, turns, accesses);
        }
        all
    }
}

impl AllFound {
    /// Splits what passes on a connection into requests: bytes come, then bytes go.
    fn add(&mut self, connection: Connection, turns: &[(u64, Turn)], accesses: &[Access]) {
        let before = self.answered.len();
        let mut open: Option<Found> = None;
        let mut first = 0;
        for (index, &(at, turn)) in turns.iter().enumerate() {
            match (turn, &mut open) {
                (Turn::In(0), Some(found)) if found.bytes[1] > 0 => {
                    found.acknowledged = found.acknowledged.or(Some(at));
                }
                (Turn::In(bytes @ 1..), Some(found)) if found.bytes[1] == 0 => {
                    found.arrived = at;
                    found.bytes[0] = found.bytes[0].saturating_add(bytes);
                }
                (Turn::In(bytes @ 1..), open) => {
                    if let Some(mut found) = open.take() {
                        found.acknowledged = found.acknowledged.or(Some(at));
                        self.finish(found, before, &turns[first..index], accesses);
                    }
                    first = index;
                    *open = Some(Found::new(connection, at, bytes));
                }
                (Turn::Out(bytes @ 1..), Some(found)) => {
                    if found.bytes[1] == 0 {
                        found.sent = at;
                    }
                    found.end = at;
                    found.bytes[1] = found.bytes[1].saturating_add(bytes);
                    found.acknowledged = None;
                }
                (Turn::Resent, Some(found)) if found.bytes[1] > 0 => found.is_resent = true,
                _ => {}
            }
        }
        match open {
            Some(found) if found.bytes[1] > 0 => self.finish(found, before, &turns[first..], accesses),
            Some(found) => self.unanswered.push((connection, found.begin)),
            None => {}
        }
    }

    /// Looks for the calls that have read the request, and written the answer. Those from `before` on are of the same connection.
    fn finish(&mut self, mut found: Found, before: usize, turns: &[(u64, Turn)], accesses: &[Access]) {
        // They are in the order of their ends, and those of a connection rarely overlap.
        let from = accesses.partition_point(|access| access.end < found.begin);
        let near = accesses[from..].iter().take_while(|access| access.begin <= found.end);
        for access in near {
            match access.is_write {
                false if access.end <= found.sent => {
                    let is_whole = found.read.is_some_and(|read| read.end >= found.arrived);
                    if !is_whole {
                        found.read = Some(*access);
                    }
                }
                true if found.read.is_some_and(|read| read.end <= access.end) => found.write = Some(*access),
                _ => {}
            }
        }
        // What goes out before anybody has read what came answers something older: the client, which has not heard the answer, has said
        // its request again, and so did we.
        let last = self.answered.len().checked_sub(1).filter(|last| *last >= before);
        if let (None, Some(last)) = (found.read, last)
            && let Some(last) = self.answered.get_mut(last).filter(|last| last.read.is_some())
        {
            (last.end, last.acknowledged, last.is_resent) = (found.end, found.acknowledged, true);
            return;
        }
        if let Some(write) = found.write {
            let sent = turns.iter().find(|(at, turn)| *at >= write.begin && matches!(turn, Turn::Out(1..)));
            found.sent = sent.map_or(found.end, |(at, _)| *at);
        }
        self.answered.push(found);
    }
}

impl Found {
    fn new(connection: Connection, begin: u64, bytes: u64) -> Self {
        Self {
            connection,
            begin,
            arrived: begin,
            sent: begin,
            end: begin,
            acknowledged: None,
            bytes: [bytes, 0],
            is_resent: false,
            read: None,
            write: None,
        }
    }
}
