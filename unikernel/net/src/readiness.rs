//! What a flow is ready for, as poll(2) tells it.

use smoltcp::socket::tcp::{Socket, State};

use crate::flow::Flow;
use crate::id::Readiness;

impl Flow {
    /// What poll(2) would say.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut ready = match &self.engine {
            Some(engine) => state_readiness(engine.socket().state()),
            None => Readiness::empty(),
        };
        if self.has_enough() {
            ready |= Readiness::IN;
        }
        if self.has_urgent() {
            ready |= Readiness::PRI;
        }
        if self.is_read_shut {
            ready |= Readiness::IN | Readiness::RDHUP;
            // Both directions were shut, though the peer may go on (Linux: tcp_poll).
            if matches!(self.state(), State::FinWait1 | State::FinWait2) {
                ready |= Readiness::HUP;
            }
        }
        if self.is_writable() {
            ready |= Readiness::OUT;
        }
        if self.error.is_some() {
            ready |= Readiness::ERR | Readiness::IN | Readiness::OUT;
        }
        ready
    }

    /// Room for a third of what the send buffer may become: a writer woken for less would be woken for
    /// every segment that is acknowledged (Linux: `sk_stream_is_writeable`).
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        // Nearly all are so, and each acknowledgement asks: told without a call.
        let has_buffers = !self.is_starved && self.low_water.unsent == 0 && self.plain.is_some();
        has_buffers && self.send_queue() * 3 <= 2 * self.tx_least() || self.has_room_to_write()
    }

    /// The same for those that [`Self::is_writable`] cannot tell at once.
    #[inline(never)]
    fn has_room_to_write(&self) -> bool {
        if self.is_starved || self.is_backed_up() {
            return false;
        }
        if self.plain.is_some() && self.send_queue() * 3 <= 2 * self.tx_least() {
            return true;
        }
        let most = self.tx_most().max(self.buffer_sizes().1);
        (most - self.send_queue()) * 3 >= most && self.socket().is_none_or(Socket::may_send)
    }
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
