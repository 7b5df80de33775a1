//! What an app may ask of a TCP socket, and what it may set.

use core::net::SocketAddr;
use core::num::NonZeroU8;

use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use crate::congestion::CongestionOptions;
use crate::error::SocketError;
use crate::flow::{Flow, KeepAlive, Path};
use crate::id::{Readiness, TcpId};
use crate::stack::Stack;
use crate::timeouts::ShortTimeout;
use crate::track::WINDOW_SHIFT;

/// Asking and options.
impl Stack {
    /// What a connection is ready for.
    #[inline]
    pub fn tcp_readiness(&self, id: TcpId) -> Readiness {
        self.flows.app(id).map_or(Readiness::empty(), Flow::readiness)
    }

    /// Bytes that wait to be read, if nothing else is to be told of the connection but perhaps that it can be written: it
    /// is not at its end, and no error waits.
    #[inline]
    pub fn tcp_plain_queue(&self, id: TcpId) -> Option<usize> {
        let flow = self.flows.app(id).filter(|flow| !flow.is_read_shut && flow.error.is_none())?;
        // With a mark to reach it takes more to say what there is to read.
        let plain = flow.plain.as_ref().filter(|_| flow.low_water.received <= 1 && !flow.is_urgent())?;
        Some(plain.received.len())
    }

    /// Takes the pending error.
    pub fn tcp_take_error(&mut self, id: TcpId) -> Option<SocketError> {
        self.flows.app_mut(id)?.error.take()
    }

    /// True once the handshake is complete, until the connection is closed or has failed.
    pub fn tcp_is_connected(&self, id: TcpId) -> bool {
        let state = self.flows.app(id).map_or(State::Closed, Flow::state);
        !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// True while the handshake of a connection begun from here is under way.
    pub fn tcp_is_connecting(&self, id: TcpId) -> bool {
        let state = self.flows.app(id).map_or(State::Closed, Flow::state);
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

    /// True if the peer has acknowledged everything that was sent and the end of it, or will never do so.
    pub fn tcp_has_delivered(&self, id: TcpId) -> bool {
        let state = self.flows.app(id).map_or(State::Closed, Flow::state);
        matches!(state, State::Closed | State::FinWait2 | State::TimeWait)
    }

    /// True if the peer is on this machine.
    pub fn tcp_is_loopback(&self, id: TcpId) -> bool {
        self.flows.app(id).is_some_and(|flow| flow.path == Path::Loopback)
    }

    /// True if a peer on this machine has finished sending, and may have closed: then what it is sent is refused at once.
    #[inline]
    pub fn tcp_is_refused_at_once(&self, id: TcpId) -> bool {
        let half_closed = |flow: &&Flow| flow.engine.is_some() && flow.state() == State::CloseWait;
        // Every call that sends asks. Who has received the end of such a connection has received it over loopback.
        self.has_looped
            && self.flows.app(id).filter(half_closed).is_some_and(|flow| flow.path == Path::Loopback)
    }

    /// What the path to the peer carries whole, in bytes of IP packet.
    pub fn tcp_path_mtu(&self, id: TcpId) -> Option<usize> {
        self.tcp_peer(id).map(|peer| self.peer_mtu(peer.ip()))
    }

    /// Bytes that are not acknowledged yet.
    pub fn tcp_send_queue(&self, id: TcpId) -> usize {
        self.flows.app(id).map_or(0, Flow::send_queue)
    }

    /// The sizes that the receive and the send buffer of a new connection may grow to at once.
    pub fn tcp_buffer_sizes(&self) -> (usize, usize) {
        (self.config.tcp_rx_window, self.config.tcp_tx_limit)
    }

    /// Sends small segments at once instead of collecting them (`TCP_NODELAY`).
    pub fn tcp_set_nodelay(&mut self, id: TcpId, is_on: bool) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.has_nagle = !is_on;
            if let Some(socket) = flow.socket_mut() {
                socket.set_nagle_enabled(!is_on);
            }
            self.mark_dirty(id);
        }
    }

    /// Probes a silent peer, or stops doing so.
    pub fn tcp_set_keep_alive(&mut self, id: TcpId, keep_alive: Option<KeepAlive>) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.keep_alive = keep_alive;
            if keep_alive.is_some() {
                self.mark_dirty(id);
            }
        }
    }

    /// Bounds how long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub fn tcp_set_user_timeout(&mut self, id: TcpId, timeout: Option<Duration>) {
        let timeout = ShortTimeout::new(timeout);
        if let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.user_timeout != timeout) {
            flow.user_timeout = timeout;
            self.mark_dirty(id);
        }
    }

    /// Sets the time to live of outgoing packets; zero means the default.
    pub fn tcp_set_hop_limit(&mut self, id: TcpId, hop_limit: u8) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.hop_limit = NonZeroU8::new(hop_limit);
            let hop_limit = flow.hop_limit.map(NonZeroU8::get);
            if let Some(socket) = flow.socket_mut() {
                socket.set_hop_limit(hop_limit);
            }
        }
    }

    /// Bounds the sizes of the buffers, in bytes, where one is given (`SO_RCVBUF`, `SO_SNDBUF`). A window that
    /// was announced is not taken back.
    pub fn tcp_set_buffers(&mut self, id: TcpId, receive: Option<usize>, send: Option<usize>) {
        let Some(flow) = self.flows.app_mut(id) else { return };
        let (rx_buffer, tx_buffer) = flow.buffer_sizes();
        if let Some(receive) = receive {
            flow.rx_limit = receive.max(rx_buffer);
            flow.rx_window =
                if flow.state() == State::SynSent { receive } else { flow.rx_window.min(receive) };
            flow.rx_window = flow.rx_window.max(rx_buffer);
        }
        if let Some(send) = send {
            flow.tx_limit = send.max(tx_buffer);
        }
    }

    /// Bounds the payload of segments, either way if the connection has just begun (`TCP_MAXSEG`); 0 for what the link takes.
    pub fn tcp_set_max_segment(&mut self, id: TcpId, mss: u16) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.largest_mss = mss;
            if mss != 0 {
                self.lower_mss(id, mss);
            }
        }
    }

    /// Sets how long a peer may take to end its side after the app has left (`TCP_LINGER2`); none for the usual.
    pub fn tcp_set_end_seconds(&mut self, id: TcpId, seconds: Option<u16>) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.end_seconds = seconds;
        }
    }

    /// Acknowledges at once instead of waiting for data to travel with (`TCP_QUICKACK`).
    pub fn tcp_set_quick_ack(&mut self, id: TcpId, is_on: bool) {
        let delay = (!is_on).then_some(self.config.ack_delay);
        let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.acks_at_once != is_on) else { return };
        flow.acks_at_once = is_on;
        if let Some(socket) = flow.socket_mut() {
            socket.set_ack_delay(delay);
        }
        self.mark_dirty(id);
    }

    /// Changes how congestion is met (`TCP_CONGESTION`, `TCP_THIN_LINEAR_TIMEOUTS`).
    pub fn tcp_set_congestion(&mut self, id: TcpId, options: CongestionOptions) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.congestion.set_options(options);
        }
    }

    /// Holds segments back that are not full, for 200 ms at most, or lets them go (`TCP_CORK`).
    pub fn tcp_set_cork(&mut self, id: TcpId, is_on: bool) {
        let until = if is_on { self.now + CORK_PATIENCE } else { Instant::ZERO };
        if let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.is_corked != is_on) {
            (flow.is_corked, flow.corked_until) = (is_on, until);
            self.mark_dirty(id);
        }
    }

    /// How long the attempt to connect may take, if the default does not do (`TCP_SYNCNT`).
    pub fn tcp_set_connect_timeout(&mut self, id: TcpId, timeout: Option<Duration>) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.connect_timeout = ShortTimeout::new(timeout);
        }
    }

    /// What is known of a connection (`TCP_INFO`).
    pub fn tcp_info(&self, id: TcpId) -> Option<TcpInfo> {
        self.flows.app(id).map(|flow| self.info_of(flow))
    }

    /// The same of any connection, also one that the app has closed.
    pub(crate) fn info_of(&self, flow: &Flow) -> TcpInfo {
        let (rtt, rtt_variation, timeout) = flow.congestion.times();
        let mss = usize::from(flow.track.mss);
        TcpInfo {
            state: flow.state(),
            is_recovering: flow.congestion.is_recovering(),
            has_sack: flow.track.has_sack,
            scales: flow.track.peer_scale.map(|scale| (scale, WINDOW_SHIFT)),
            timeout,
            rtt,
            rtt_variation,
            mss,
            congestion_window: flow.congestion.window(mss),
            threshold: flow.congestion.threshold(),
            in_flight: flow.track.in_flight(),
            unsent: flow.send_queue().saturating_sub(flow.track.in_flight()),
            retransmits: flow.congestion.repeats,
            probes: flow.probes,
            since_heard: self.now - flow.heard_at,
            peer_window: flow.track.window as usize,
            window: flow.rx_window.saturating_sub(flow.recv_queue()),
        }
    }
}

/// How long a corked segment waits at most (tcp(7)).
pub(crate) const CORK_PATIENCE: Duration = Duration::from_millis(200);

/// What is known of a connection; sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Where the connection is in its life.
    pub state: State,
    /// A loss is being repaired.
    pub is_recovering: bool,
    /// The peer takes selective acknowledgements.
    pub has_sack: bool,
    /// The scales of the peer's windows and ours, if windows are scaled.
    pub scales: Option<(u8, u8)>,
    /// The retransmission time-out.
    pub timeout: Duration,
    /// The smoothed round-trip time, 0 before there is any.
    pub rtt: Duration,
    /// Its variation.
    pub rtt_variation: Duration,
    /// The payload of a full segment.
    pub mss: usize,
    /// What may be under way.
    pub congestion_window: usize,
    /// Above this the congestion window grows slowly; none before the first loss.
    pub threshold: Option<usize>,
    /// Sent and not acknowledged.
    pub in_flight: usize,
    /// Written and not sent.
    pub unsent: usize,
    /// Segments sent again, ever.
    pub retransmits: u32,
    /// Keep-alive probes without an answer.
    pub probes: u8,
    /// Since the peer was last heard of.
    pub since_heard: Duration,
    /// The window that the peer announces.
    pub peer_window: usize,
    /// The window that we announce.
    pub window: usize,
}
