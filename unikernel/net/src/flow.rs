//! One TCP connection: a smoltcp socket alone in its own socket set, and what we know about it.
//!
//! smoltcp walks its whole set for each packet; a set of one makes that walk free. [`FlowTable`]
//! finds the flow by 4-tuple, and keeps closed ones with their buffers for the next connection.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;
use slotmap::SlotMap;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::error::SocketError;
use crate::id::{ListenerId, Readiness, TcpId};
use crate::key::{FlowKey, Seed};
use crate::phy::Header;
use crate::timers::NEVER;
use crate::timewait::Final;

/// Who a flow belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The handshake of a connection to a listener is under way.
    HalfOpen(ListenerId),
    /// Established, waiting to be accepted.
    Queued(ListenerId),
    /// The app holds it.
    App,
    /// The app has closed it; the stack finishes the conversation.
    Orphan,
}

/// Where a flow's packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// To ourselves.
    Loopback,
    /// To the NIC, behind this header.
    Link(Header),
    /// To a neighbour whose hardware address is being asked for.
    Resolving,
}

/// Keep-alive as Linux describes it (tcp(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe, and between probes.
    pub idle: Duration,
    /// Silence after which the connection counts as dead.
    pub give_up: Duration,
}

/// The part of a socket's state whose changes matter to others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) received: usize,
    pub(crate) writable: bool,
}

pub(crate) struct Flow {
    pub(crate) sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(crate) key: FlowKey,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) path: Path,
    /// The largest payload of a segment to the peer, at most.
    pub(crate) mss: usize,
    /// All that the send buffer holds was put there since it was last empty, and nothing of it
    /// was sent.
    pub(crate) is_unsent: bool,
    /// In the list of flows that may have something to send.
    pub(crate) is_dirty: bool,
    /// In the list of events.
    pub(crate) has_event: bool,
    /// When its live timer entry is due.
    pub(crate) timer_at: Instant,
    /// The timer has fired: what is sent next is sent again.
    pub(crate) timer_fired: bool,
    pub(crate) error: Option<SocketError>,
    /// The app shut down reading.
    pub(crate) is_read_shut: bool,
    /// What the peer last acknowledged while only our FIN was outstanding.
    last_ack_of_all_data: Option<TcpSeqNumber>,
    /// The sequence numbers at the end, once the connection is in TIME-WAIT.
    pub(crate) last: Option<Final>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) user_timeout: Option<Duration>,
}

/// What a new flow starts with.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) path: Path,
}

/// The time-outs a socket runs with, by what it is doing.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) half_open: Duration,
    pub(crate) connect: Duration,
    pub(crate) retransmit: Duration,
    pub(crate) linger: Duration,
}

/// A closed socket with its buffers, ready for another connection.
pub(crate) struct Spare {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Spare {
    fn new(rx_buffer: usize, tx_buffer: usize) -> Self {
        let socket =
            Socket::new(SocketBuffer::new(vec![0; rx_buffer]), SocketBuffer::new(vec![0; tx_buffer]));
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Self { sockets, handle }
    }
}

impl Flow {
    fn new(spare: Spare, origin: Origin) -> Self {
        Self {
            sockets: spare.sockets,
            handle: spare.handle,
            key: FlowKey::new(origin.local, origin.remote),
            local: origin.local,
            remote: origin.remote,
            owner: origin.owner,
            path: origin.path,
            mss: 0,
            is_unsent: false,
            is_dirty: false,
            has_event: false,
            timer_at: NEVER,
            timer_fired: false,
            error: None,
            is_read_shut: false,
            last: None,
            last_ack_of_all_data: None,
            keep_alive: None,
            user_timeout: None,
        }
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// True for an acknowledgement that repeats itself while only our FIN is outstanding. smoltcp
    /// must not see those: at the third it starts a fast retransmission, which sends data only, and
    /// the timer that would have sent the FIN again is off.
    #[inline]
    pub(crate) fn is_repeated_before_fin(&mut self, ack: Option<TcpSeqNumber>) -> bool {
        let socket = self.socket();
        let is_closing = matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck);
        if !is_closing || ack.is_none() || socket.send_queue() != 0 {
            return false;
        }
        let is_repeated = self.last_ack_of_all_data == ack;
        self.last_ack_of_all_data = ack;
        is_repeated
    }

    #[inline]
    pub(crate) fn view(&self) -> View {
        let socket = self.socket();
        View { state: socket.state(), received: socket.recv_queue(), writable: is_writable(socket) }
    }

    /// True while the app may use the flow.
    #[inline]
    pub(crate) fn is_app(&self) -> bool {
        self.owner == Owner::App
    }

    /// True while the handshake of a connection to a listener is under way.
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.owner, Owner::HalfOpen(_))
    }

    /// True once the socket has nothing more to say to anybody.
    pub(crate) fn is_finished(&self) -> bool {
        let socket = self.socket();
        socket.state() == State::Closed && socket.remote_endpoint().is_none()
    }

    /// Sets the socket's time-out to what its state asks for. smoltcp's time-out is about silence
    /// of the peer whatever the socket does, so it may be on only while an answer is owed.
    pub(crate) fn tune_timeout(&mut self, timeouts: &Timeouts) {
        let (owner, keep_alive, user) = (self.owner, self.keep_alive, self.user_timeout);
        let socket = self.socket_mut();
        let timeout = match (owner, socket.state()) {
            (Owner::Orphan, _) => Some(timeouts.linger),
            (_, State::SynReceived) => Some(timeouts.half_open),
            (_, State::SynSent) => Some(user.unwrap_or(timeouts.connect)),
            _ if socket.send_queue() > 0 => Some(user.unwrap_or(timeouts.retransmit)),
            _ => keep_alive.map(|keep_alive| keep_alive.give_up),
        };
        socket.set_timeout(timeout);
    }

    /// True if one segment takes all that there is to send.
    #[inline]
    pub(crate) fn fits_segment(&self, queued: usize) -> bool {
        self.is_unsent && queued <= self.mss
    }

    /// A time-out has shown that the way is congested: slow down from here on. Until then the send
    /// buffer alone bounds what is under way; its usual size is that of the initial window which
    /// RFC 6928 allows, where smoltcp's Reno would begin with 2 KiB.
    pub(crate) fn slow_down(&mut self) {
        let socket = self.socket_mut();
        if socket.congestion_control() == CongestionControl::None {
            socket.set_congestion_control(CongestionControl::Reno);
        }
    }

    /// What poll(2) would say.
    pub(crate) fn readiness(&self) -> Readiness {
        let socket = self.socket();
        let mut ready = state_readiness(socket.state());
        if socket.can_recv() {
            ready |= Readiness::IN;
        }
        if self.is_read_shut {
            ready |= Readiness::IN | Readiness::RDHUP;
        }
        if is_writable(socket) {
            ready |= Readiness::OUT;
        }
        if self.error.is_some() {
            ready |= Readiness::ERR | Readiness::IN | Readiness::OUT;
        }
        ready
    }
}

/// Room for a third of the buffer: a writer woken for less would be woken for every segment that
/// is acknowledged (Linux: `sk_stream_is_writeable`).
#[inline]
fn is_writable(socket: &Socket<'_>) -> bool {
    let free = socket.send_capacity() - socket.send_queue();
    free * 3 >= socket.send_capacity() && socket.may_send()
}

/// What the state alone makes ready.
fn state_readiness(state: State) -> Readiness {
    match state {
        State::Listen | State::SynSent | State::SynReceived | State::Established => Readiness::empty(),
        State::CloseWait => Readiness::IN | Readiness::RDHUP,
        // The sending side is shut: writing does not block, it fails.
        State::FinWait1 | State::FinWait2 => Readiness::OUT,
        State::LastAck | State::Closing | State::TimeWait | State::Closed => {
            Readiness::IN | Readiness::OUT | Readiness::RDHUP | Readiness::HUP
        }
    }
}

/// What a flow takes beside its buffers, rounded up.
const FLOW_BYTES: usize = 1024;

/// Every flow, by id and by 4-tuple.
pub(crate) struct FlowTable {
    flows: SlotMap<TcpId, Box<Flow>>,
    index: HashTable<(FlowKey, TcpId)>,
    spare: Vec<Spare>,
    spare_limit: usize,
    limit: usize,
    rx_buffer: usize,
    tx_buffer: usize,
    ack_delay: Duration,
    has_memory: fn(usize) -> bool,
}

impl FlowTable {
    pub(crate) fn new(config: &crate::config::Config) -> Self {
        Self {
            flows: SlotMap::with_key(),
            index: HashTable::new(),
            spare: Vec::new(),
            spare_limit: config.spare_flows,
            limit: config.max_flows,
            rx_buffer: config.tcp_rx_buffer,
            tx_buffer: config.tcp_tx_buffer,
            ack_delay: config.ack_delay,
            has_memory: config.has_memory,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &FlowKey) -> Option<TcpId> {
        self.index.find(hash, |(candidate, _)| candidate == key).map(|(_, id)| *id)
    }

    #[inline]
    pub(crate) fn get(&self, id: TcpId) -> Option<&Flow> {
        self.flows.get(id).map(|flow| &**flow)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: TcpId) -> Option<&mut Flow> {
        self.flows.get_mut(id).map(|flow| &mut **flow)
    }

    /// The flow if the app holds it.
    #[inline]
    pub(crate) fn app(&self, id: TcpId) -> Option<&Flow> {
        self.get(id).filter(|flow| flow.is_app())
    }

    /// The flow if the app holds it.
    #[inline]
    pub(crate) fn app_mut(&mut self, id: TcpId) -> Option<&mut Flow> {
        self.get_mut(id).filter(|flow| flow.is_app())
    }

    /// Adds a flow; none if the bound is reached or memory is short.
    pub(crate) fn insert(&mut self, seed: &Seed, origin: Origin) -> Option<TcpId> {
        let needs = self.rx_buffer + self.tx_buffer + FLOW_BYTES;
        if self.flows.len() >= self.limit || (self.spare.is_empty() && !(self.has_memory)(needs)) {
            return None;
        }
        let flow = self.fresh(origin);
        let key = flow.key;
        let id = self.flows.insert(flow);
        self.index.insert_unique(seed.hash(&key), (key, id), |(key, _)| seed.hash(key));
        Some(id)
    }

    fn fresh(&mut self, origin: Origin) -> Box<Flow> {
        let spare = self.spare.pop().unwrap_or_else(|| Spare::new(self.rx_buffer, self.tx_buffer));
        let mut flow = Box::new(Flow::new(spare, origin));
        let socket = flow.socket_mut();
        socket.set_congestion_control(CongestionControl::None);
        socket.set_ack_delay(Some(self.ack_delay));
        socket.set_nagle_enabled(true);
        socket.set_keep_alive(None);
        socket.set_hop_limit(None);
        socket.set_timeout(None);
        flow
    }

    /// Removes a flow and keeps its buffers if there is room for spares.
    pub(crate) fn remove(&mut self, seed: &Seed, id: TcpId) -> Option<Owner> {
        let mut flow = self.flows.remove(id)?;
        if let Ok(entry) = self.index.find_entry(seed.hash(&flow.key), |(_, candidate)| *candidate == id) {
            entry.remove();
        }
        let owner = flow.owner;
        if self.spare.len() < self.spare_limit {
            flow.socket_mut().abort();
            self.spare.push(Spare { sockets: flow.sockets, handle: flow.handle });
        }
        Some(owner)
    }

    /// Ids of the flows that the app holds.
    pub(crate) fn of_app(&self) -> Vec<TcpId> {
        self.flows.iter().filter(|(_, flow)| flow.is_app()).map(|(id, _)| id).collect()
    }

    /// Ids of the flows that use a local address which `is_lost`.
    pub(crate) fn with_address(&self, is_lost: impl Fn(IpAddr) -> bool) -> Vec<TcpId> {
        self.flows.iter().filter(|(_, flow)| is_lost(flow.local.ip())).map(|(id, _)| id).collect()
    }
}
