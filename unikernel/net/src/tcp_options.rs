//! What an app may ask of a TCP socket, and what it may set.

use core::net::SocketAddr;

use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use crate::error::SocketError;
use crate::flow::{Flow, KeepAlive};
use crate::id::{Readiness, TcpId};
use crate::stack::Stack;

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

    /// Bytes that wait to be read.
    pub fn tcp_recv_queue(&self, id: TcpId) -> usize {
        self.flows.app(id).map_or(0, Flow::recv_queue)
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
                self.mark_dirty(id);
            }
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
        if let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.user_timeout != timeout) {
            flow.user_timeout = timeout;
            self.mark_dirty(id);
        }
    }

    /// Sets the time to live of outgoing packets; zero means the default.
    pub fn tcp_set_hop_limit(&mut self, id: TcpId, hop_limit: u8) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.hop_limit = (hop_limit != 0).then_some(hop_limit);
            let hop_limit = flow.hop_limit;
            if let Some(socket) = flow.socket_mut() {
                socket.set_hop_limit(hop_limit);
            }
        }
    }
}
