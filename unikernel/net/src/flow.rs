//! One TCP connection: its engine, if it needs one just now, and what we know about it.
//!
//! A connection on which nothing out of the ordinary happens has no engine but two rings ([`crate::plain`]),
//! and an idle one not even these: all that is left is its [`Track`]. What is needed is made when a segment
//! comes or the app writes ([`crate::flow_table`]), with small buffers that grow with use.

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::num::NonZeroU8;

use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::congestion::Congestion;
use crate::engine::{Ends, Engine};
use crate::error::SocketError;
use crate::id::ListenerId;
use crate::key::FlowKey;
use crate::low_water::LowWater;
use crate::phy::Header;
use crate::rings::Plain;
use crate::segment::Segment;
use crate::timeouts::ShortTimeout;
use crate::timers::NEVER;
use crate::timewait::Final;
use crate::track::{Front, Track, WINDOW_SHIFT};
use crate::urgent::Urgent;

/// Who a flow belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The handshake of a connection to a listener is under way.
    HalfOpen(ListenerId),
    /// Established, but its listener wants to hear of it only when there is data, or at this time.
    Deferred(ListenerId, Instant),
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
    /// Silence before the first probe (`TCP_KEEPIDLE`).
    pub idle: Duration,
    /// Time between probes (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// Probes without an answer after which the connection counts as dead (`TCP_KEEPCNT`).
    pub probes: u8,
}

/// The part of a socket's state whose changes matter to others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) received: usize,
    pub(crate) unacknowledged: usize,
    pub(crate) writable: bool,
}

pub(crate) struct Flow {
    /// The socket; none while the connection is idle.
    pub(crate) engine: Option<Engine>,
    /// The buffers of a connection that needs no engine; none while it is idle.
    pub(crate) plain: Option<Box<Plain>>,
    /// Segments that went through the engine and needed none, up to a small number.
    pub(crate) trips: u8,
    /// The peer has to be told where the conversation stands.
    pub(crate) must_ack: bool,
    /// In the list of flows that owe an acknowledgement.
    pub(crate) is_late: bool,
    pub(crate) track: Track,
    pub(crate) congestion: Congestion,
    /// Something has to be sent again: the congestion window does not count once.
    pub(crate) repeats: bool,
    /// Its engine does not know that the peer's window has opened; see [`Self::misses_window`].
    pub(crate) is_deaf: bool,
    /// The engine's timers are to expire, so that it probes a window that it takes for closed.
    pub(crate) must_probe: bool,
    pub(crate) key: FlowKey,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) path: Path,
    /// The window that the peer is told of, in bytes, when all was read: the receive buffer may grow so far.
    pub(crate) rx_window: usize,
    /// How far the window may grow with use.
    pub(crate) rx_limit: usize,
    /// How far the send buffer may grow.
    pub(crate) tx_limit: usize,
    /// Bytes that the app has read since the window last grew.
    pub(crate) read_since: usize,
    /// When something was last sent or received.
    pub(crate) active_at: Instant,
    /// When the peer was last heard of.
    pub(crate) heard_at: Instant,
    /// Keep-alive probes sent since.
    pub(crate) probes: u8,
    /// The state that was last told ([`crate::Tracer`]).
    pub(crate) told: State,
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
    /// It waits for memory to send with.
    pub(crate) is_starved: bool,
    /// What the peer last acknowledged while only our FIN was outstanding.
    last_ack_of_all_data: Option<TcpSeqNumber>,
    /// The sequence numbers at the end, once the connection is in TIME-WAIT.
    pub(crate) last: Option<Final>,
    pub(crate) has_nagle: bool,
    pub(crate) hop_limit: Option<NonZeroU8>,
    /// When the peer may be asked for proof again.
    pub(crate) challenge_at: Instant,
    /// The largest payload that the app lets a segment have, either way; 0 for what the link takes.
    pub(crate) largest_mss: u16,
    /// Acknowledgements do not wait for data to travel with.
    pub(crate) acks_at_once: bool,
    /// The app has said that more comes: segments that are not full wait, until that time.
    pub(crate) is_corked: bool,
    pub(crate) corked_until: Instant,
    /// How long an attempt to connect may take, if the app has said so.
    pub(crate) connect_timeout: ShortTimeout,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) user_timeout: ShortTimeout,
    pub(crate) low_water: LowWater,
    pub(crate) urgent: Urgent,
    /// How long the peer may take to end, once the app has left, if the app has said so.
    pub(crate) end_seconds: Option<u16>,
}

/// What a new flow starts with.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) path: Path,
    /// Its first sequence number.
    pub(crate) iss: TcpSeqNumber,
    /// The peer's.
    pub(crate) irs: TcpSeqNumber,
}

/// How far a flow's buffers may grow, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rx_window: usize,
    pub(crate) rx_limit: usize,
    pub(crate) tx_limit: usize,
}

impl Flow {
    pub(crate) fn new(engine: Option<Engine>, origin: Origin, limits: Limits, now: Instant) -> Self {
        Self {
            engine,
            plain: None,
            trips: 0,
            must_ack: false,
            is_late: false,
            track: Track::new(origin.iss, origin.irs),
            congestion: Congestion::new(now),
            repeats: false,
            is_deaf: false,
            must_probe: false,
            key: FlowKey::new(origin.local, origin.remote),
            local: origin.local,
            remote: origin.remote,
            owner: origin.owner,
            path: origin.path,
            rx_window: limits.rx_window,
            rx_limit: limits.rx_limit,
            tx_limit: limits.tx_limit,
            read_since: 0,
            active_at: now,
            heard_at: now,
            probes: 0,
            told: State::Closed,
            is_unsent: false,
            is_dirty: false,
            has_event: false,
            timer_at: NEVER,
            timer_fired: false,
            error: None,
            is_read_shut: false,
            is_starved: false,
            last: None,
            last_ack_of_all_data: None,
            has_nagle: true,
            hop_limit: None,
            challenge_at: Instant::ZERO,
            largest_mss: 0,
            acks_at_once: false,
            is_corked: false,
            corked_until: Instant::ZERO,
            connect_timeout: ShortTimeout::default(),
            keep_alive: None,
            user_timeout: ShortTimeout::default(),
            low_water: LowWater::default(),
            urgent: Urgent::default(),
            end_seconds: None,
        }
    }

    pub(crate) fn ends(&self) -> Ends {
        Ends { local: self.local, remote: self.remote }
    }

    #[inline]
    pub(crate) fn socket(&self) -> Option<&Socket<'static>> {
        self.engine.as_ref().map(Engine::socket)
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self) -> Option<&mut Socket<'static>> {
        self.engine.as_mut().map(Engine::socket_mut)
    }

    /// The state; only established connections go without an engine.
    #[inline]
    pub(crate) fn state(&self) -> State {
        self.socket().map_or(State::Established, Socket::state)
    }

    /// Bytes that wait to be read.
    #[inline]
    pub(crate) fn recv_queue(&self) -> usize {
        match &self.plain {
            Some(plain) => plain.received.len(),
            None => self.socket().map_or(0, Socket::recv_queue),
        }
    }

    /// Bytes that the peer has not acknowledged.
    #[inline]
    pub(crate) fn send_queue(&self) -> usize {
        match &self.plain {
            Some(plain) => plain.sending.len(),
            None => self.socket().map_or(0, Socket::send_queue),
        }
    }

    /// The sizes of the receive and the send buffer, in bytes.
    #[inline]
    pub(crate) fn buffer_sizes(&self) -> (usize, usize) {
        match (&self.plain, &self.engine) {
            (Some(plain), _) => plain.sizes(),
            (None, Some(engine)) => engine.sizes(),
            (None, None) => (0, 0),
        }
    }

    /// True for an acknowledgement that repeats itself while only our FIN is outstanding. smoltcp
    /// must not see those: at the third it starts a fast retransmission, which sends data only, and
    /// the timer that would have sent the FIN again is off. One from before the peer's end of the stream asks whether
    /// anybody is there (RFC 9293 section 3.8.4): smoltcp answers that, and does not count it.
    #[inline]
    pub(crate) fn is_repeated_before_fin(&mut self, now: &View, segment: &Segment<'_>) -> bool {
        let is_closing = matches!(now.state, State::FinWait1 | State::Closing | State::LastAck);
        let ack = segment.pure_ack();
        if !is_closing || ack.is_none() || now.unacknowledged != 0 {
            return false;
        }
        let has_fin = now.state != State::FinWait1;
        if segment.sequence() < self.track.received + usize::from(has_fin) {
            return false;
        }
        let is_repeated = self.last_ack_of_all_data == ack;
        // An older one that was overtaken does not make the next a first.
        if self.last_ack_of_all_data.is_none_or(|last| ack.is_some_and(|ack| ack > last)) {
            self.last_ack_of_all_data = ack;
        }
        is_repeated
    }

    #[inline]
    pub(crate) fn view(&self) -> View {
        let Some(socket) = self.socket() else {
            return View { state: State::Established, received: 0, unacknowledged: 0, writable: true };
        };
        View {
            state: socket.state(),
            received: socket.recv_queue(),
            unacknowledged: socket.send_queue(),
            writable: self.is_writable(),
        }
    }

    /// Ends the conversation with a reset.
    pub(crate) fn abort(&mut self) {
        if let Some(socket) = self.socket_mut() {
            socket.abort();
        }
    }

    /// True if nobody will ever read what still comes: the app has closed the connection, or shut it in both directions.
    pub(crate) fn is_unread(&self) -> bool {
        let has_finished = matches!(self.state(), State::FinWait1 | State::FinWait2 | State::Closing);
        self.owner == Owner::Orphan || self.is_read_shut && has_finished
    }

    /// Aborts a connection whose peer has sent what nobody will read. An app that still holds it is told of a reset
    /// (Linux: `tcp_reset`).
    pub(crate) fn abort_unread(&mut self) {
        self.abort();
        if self.owner == Owner::App {
            self.error = self.error.or(Some(SocketError::Reset));
        }
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
        self.socket()
            .is_some_and(|socket| socket.state() == State::Closed && socket.remote_endpoint().is_none())
    }

    /// When a connection that needs no more attention than most has to be looked at again for having been
    /// idle; none if it needs to be looked at now.
    #[inline]
    pub(crate) fn calm_until(&self, now: Instant, idle_after: Duration) -> Option<Instant> {
        if self.keep_alive.is_some() || matches!(self.owner, Owner::Deferred(..)) {
            return None;
        }
        let idle_at = self.active_at + idle_after;
        let has_buffers = self.engine.is_some() || self.plain.is_some();
        match !has_buffers || !self.track.is_quiet() {
            true => Some(NEVER),
            false => (idle_at > now).then_some(idle_at),
        }
    }

    /// True if nothing is under way in either direction and nothing waits in a buffer.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.state() == State::Established
            && self.track.is_quiet()
            && self.recv_queue() == 0
            && self.send_queue() == 0
            && !self.is_half_open()
    }

    /// What is done to the flow's segments on their way out.
    #[inline]
    pub(crate) fn front(&self, is_summed: bool) -> Front {
        let buffer = self.socket().map_or(0, Socket::recv_capacity);
        let is_scaled = self.track.peer_scale.is_some();
        Front {
            extra: self.rx_window.saturating_sub(buffer) as u32,
            engine_shift: if is_scaled { engine_shift(buffer) } else { 0 },
            shift: if is_scaled { WINDOW_SHIFT } else { 0 },
            largest_mss: self.largest_mss,
            is_summed,
            urgent_end: self.urgent_end(),
            edge: Some(self.track.acceptable(self.track.sent)).filter(|edge| *edge != self.track.sent),
        }
    }

    /// True if one segment takes all that there is to send.
    #[inline]
    pub(crate) fn fits_segment(&self, queued: usize) -> bool {
        self.is_unsent && queued <= usize::from(self.track.mss)
    }
}

/// The scale that smoltcp gives to the windows of a receive buffer (`Socket::reset`).
#[inline]
pub(crate) fn engine_shift(buffer: usize) -> u8 {
    (usize::BITS - buffer.leading_zeros()).saturating_sub(16) as u8
}
