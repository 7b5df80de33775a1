//! UDP sockets: a port table and a bounded queue of datagrams each.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use slotmap::SlotMap;

use crate::error::{BindError, SocketError};
use crate::filter::Asked;
use crate::groups::{GroupLink, Membership};
use crate::id::{Readiness, UdpId};
use crate::listener::{BindOptions, covers};
use crate::udp_control::{Arrival, HeaderOptions, QueuedError};

/// One received datagram.
pub(crate) struct Datagram {
    pub(crate) arrival: Arrival,
    pub(crate) data: Vec<u8>,
    /// The batch of packets that it came in with.
    batch: u64,
}

impl Datagram {
    pub(crate) fn new(arrival: Arrival, data: &[u8], batch: u64) -> Self {
        Self { arrival, data: data.to_vec(), batch }
    }

    /// Takes another datagram over as the next one of a row, if it looks like one: of the same sender and batch, as long as those
    /// before it or, at the end, shorter.
    fn coalesce(&mut self, next: &Self) -> bool {
        let Arrival { at, drops, segment, .. } = self.arrival;
        let first = segment.map_or(self.data.len(), usize::from);
        let joined = self.data.len() + next.data.len();
        let is_alike =
            Arrival { at, drops, segment, ..next.arrival } == self.arrival && self.batch == next.batch;
        let is_next = (1..=first).contains(&next.data.len()) && self.data.len().is_multiple_of(first);
        let fits = is_next && joined <= MAX_COALESCED_BYTES && joined.div_ceil(first) <= MAX_COALESCED;
        let (true, true, Ok(first)) = (is_alike, fits, u16::try_from(first)) else { return false };
        self.arrival.segment = Some(first);
        self.data.extend_from_slice(&next.data);
        true
    }
}

/// Datagrams, and their bytes, that are given to an app as one at most (Linux: `UDP_GRO_CNT_MAX`).
const MAX_COALESCED: usize = 64;
const MAX_COALESCED_BYTES: usize = 65_507;

/// How a socket sends to groups (ip(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MulticastOptions {
    /// `IP_MULTICAST_TTL`: how many routers a datagram may pass, and one more.
    pub hop_limit: u8,
    /// `IP_MULTICAST_LOOP`: sockets of this machine get it, too.
    pub is_looped: bool,
    /// `IP_MULTICAST_IF`: which way it leaves; none for the card, if there is one.
    pub link: Option<GroupLink>,
    /// `IP_MULTICAST_ALL`: it hears groups of IPv4 that others here have joined.
    pub hears_all: bool,
    /// `IPV6_MULTICAST_ALL`: and those of IPv6.
    pub hears_all_v6: bool,
}

impl Default for MulticastOptions {
    fn default() -> Self {
        Self { hop_limit: 1, is_looped: true, link: None, hears_all: true, hears_all_v6: true }
    }
}

/// What a queued datagram costs beside its bytes.
const DATAGRAM_OVERHEAD: usize = 64;

pub(crate) struct UdpSocket {
    pub(crate) local: SocketAddr,
    /// The address that it was bound to; a peer may have chosen another.
    pub(crate) bound: IpAddr,
    options: BindOptions,
    pub(crate) peer: Option<SocketAddr>,
    queue: VecDeque<Datagram>,
    queued_bytes: usize,
    drops: u32,
    pub(crate) error: Option<SocketError>,
    /// Errors in detail, for who asks for them.
    pub(crate) errors: VecDeque<QueuedError>,
    pub(crate) may_broadcast: bool,
    /// Whether it is told of errors though it has no peer.
    pub(crate) receives_errors: bool,
    pub(crate) hop_limit: u8,
    /// Groups it has joined, and how it sends to groups.
    pub(crate) groups: Vec<Membership>,
    /// The only senders whose datagrams it takes, of the groups that are named (RFC 4607).
    pub(crate) sources: Vec<(IpAddr, IpAddr)>,
    pub(crate) multicast: MulticastOptions,
    /// What the headers of IPv4 and IPv6 say.
    pub(crate) headers: [HeaderOptions; 2],
    /// Datagrams in a row are taken as one.
    pub(crate) coalesces: bool,
    /// It is for another card's datagrams.
    pub(crate) is_deaf: bool,
    /// Kept only where a filter is in force.
    pub(crate) asked: Asked,
    pub(crate) has_event: bool,
}

impl UdpSocket {
    /// Queues a datagram; false if the queue is full.
    pub(crate) fn push(&mut self, mut datagram: Datagram, limit: usize) -> bool {
        let cost = datagram.data.len() + DATAGRAM_OVERHEAD;
        if self.queued_bytes + cost > limit.max(cost) {
            self.drops = self.drops.saturating_add(1);
            return false;
        }
        if self.coalesces && self.queue.back_mut().is_some_and(|last| last.coalesce(&datagram)) {
            self.queued_bytes += datagram.data.len();
            return true;
        }
        self.queued_bytes += cost;
        datagram.arrival.drops = self.drops;
        self.queue.push_back(datagram);
        true
    }

    /// What waits, with what it costs beside its bytes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The datagram that the byte at `offset` of all that waits is in, and the bytes from there on.
    pub(crate) fn peek(&self, mut offset: usize) -> Option<(&Arrival, &[u8])> {
        for datagram in &self.queue {
            // An empty datagram is at every place, so that it is not passed over (Linux: `__skb_try_recv_from_queue`).
            if offset < datagram.data.len() || (offset == 0 && datagram.data.is_empty()) {
                return Some((&datagram.arrival, &datagram.data[offset..]));
            }
            offset -= datagram.data.len();
        }
        None
    }

    pub(crate) fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.queue.pop_front()?;
        self.queued_bytes -= datagram.data.len() + DATAGRAM_OVERHEAD;
        Some(datagram)
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        if !self.queue.is_empty() {
            ready |= Readiness::IN;
        }
        if self.error.is_some() {
            ready |= Readiness::ERR | Readiness::IN;
        }
        if !self.errors.is_empty() {
            ready |= Readiness::ERR;
        }
        ready
    }

    /// True if the socket wants to hear a group, or everybody is meant.
    fn hears(&self, to: IpAddr, from: IpAddr) -> bool {
        if !to.is_multicast() {
            return true;
        }
        if !self.groups.iter().any(|(group, _)| *group == to) {
            return if to.is_ipv4() { self.multicast.hears_all } else { self.multicast.hears_all_v6 };
        }
        let mut sources = self.sources.iter().filter(|(group, _)| *group == to).peekable();
        sources.peek().is_none() || sources.any(|(_, source)| *source == from)
    }

    /// How well the socket fits a datagram: none, or more for a closer match.
    fn rank(&self, to: IpAddr, from: SocketAddr) -> Option<u8> {
        if self.is_deaf || !covers(self.local.ip(), self.options.dual_stack, to) {
            return None;
        }
        match self.peer {
            Some(peer) if peer == from => Some(2),
            Some(_) => None,
            None => Some(u8::from(!self.local.ip().is_unspecified())),
        }
    }

    fn conflicts(&self, address: IpAddr, options: &BindOptions) -> bool {
        let overlaps = covers(self.local.ip(), self.options.dual_stack, address)
            || covers(address, options.dual_stack, self.local.ip());
        let shares = (self.options.reuse_port && options.reuse_port)
            || (self.options.reuse_address && options.reuse_address);
        overlaps && !shares
    }
}

/// Every UDP socket.
pub(crate) struct UdpTable {
    /// Boxed, as the table stays as large as it once was.
    sockets: SlotMap<UdpId, Box<UdpSocket>>,
    ports: HashMap<u16, Vec<UdpId>>,
}

impl UdpTable {
    pub(crate) fn new() -> Self {
        Self { sockets: SlotMap::with_key(), ports: HashMap::new() }
    }

    pub(crate) fn get(&self, id: UdpId) -> Option<&UdpSocket> {
        self.sockets.get(id).map(|socket| &**socket)
    }

    /// Every socket.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (UdpId, &UdpSocket)> {
        self.sockets.iter().map(|(id, socket)| (id, &**socket))
    }

    pub(crate) fn get_mut(&mut self, id: UdpId) -> Option<&mut UdpSocket> {
        self.sockets.get_mut(id).map(|socket| &mut **socket)
    }

    /// True if somebody is bound to `port`.
    pub(crate) fn is_port_bound(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Binds `local`, whose port must be chosen already.
    pub(crate) fn bind(&mut self, local: SocketAddr, options: BindOptions) -> Result<UdpId, BindError> {
        let ids = self.ports.get(&local.port()).map(Vec::as_slice).unwrap_or_default();
        let mut others = ids.iter().filter_map(|id| self.sockets.get(*id));
        if others.any(|other| other.conflicts(local.ip(), &options)) {
            return Err(BindError::InUse);
        }
        self.sockets.try_reserve(1).map_err(|_| BindError::NoMemory)?;
        self.ports.try_reserve(1).map_err(|_| BindError::NoMemory)?;
        let id = self.sockets.insert(Box::new(UdpSocket {
            local,
            bound: local.ip(),
            options,
            peer: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            drops: 0,
            error: None,
            errors: VecDeque::new(),
            may_broadcast: false,
            receives_errors: false,
            hop_limit: 64,
            groups: Vec::new(),
            sources: Vec::new(),
            multicast: MulticastOptions::default(),
            headers: Default::default(),
            coalesces: false,
            is_deaf: false,
            asked: Asked::default(),
            has_event: false,
        }));
        self.ports.entry(local.port()).or_default().push(id);
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: UdpId) {
        let Some(socket) = self.sockets.remove(id) else { return };
        if let Some(ids) = self.ports.get_mut(&socket.local.port()) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.ports.remove(&socket.local.port());
            }
        }
    }

    /// True if a socket has sent to `address` lately.
    pub(crate) fn has_asked(&self, address: IpAddr) -> bool {
        self.sockets.values().any(|socket| socket.asked.has(address))
    }

    /// Every socket that takes a datagram for a group or for everybody.
    pub(crate) fn listeners(&self, to: SocketAddr, from: SocketAddr) -> Vec<UdpId> {
        let ids = self.ports.get(&to.port()).map(Vec::as_slice).unwrap_or_default();
        let takes = |id: &&UdpId| {
            let socket = self.sockets.get(**id);
            socket.is_some_and(|it| it.hears(to.ip(), from.ip()) && it.rank(to.ip(), from).is_some())
        };
        ids.iter().filter(takes).copied().collect()
    }

    /// The socket that fits a datagram best.
    pub(crate) fn lookup(&self, to: SocketAddr, from: SocketAddr) -> Option<UdpId> {
        let ids = self.ports.get(&to.port())?;
        let rank = |id: &UdpId| self.sockets.get(*id)?.rank(to.ip(), from);
        let best = ids.iter().filter_map(|id| Some((rank(id)?, *id))).max_by_key(|(rank, _)| *rank);
        best.map(|(_, id)| id)
    }
}
