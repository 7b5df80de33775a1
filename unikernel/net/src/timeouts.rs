//! The time-outs of connections, and one in four bytes, as there are many connections.

use core::num::NonZeroU32;

use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use crate::flow::{Flow, Owner};

/// A time-out that an app may have set, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ShortTimeout(Option<NonZeroU32>);

impl ShortTimeout {
    /// Keeps a time-out; less than a millisecond counts as one.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        let millis = |time: Duration| u32::try_from(time.total_millis()).unwrap_or(u32::MAX);
        Self(timeout.and_then(|time| NonZeroU32::new(millis(time).max(1))))
    }

    /// The time-out, if one is set.
    #[inline]
    pub(crate) fn get(self) -> Option<Duration> {
        self.0.map(|millis| Duration::from_millis(millis.get().into()))
    }
}

/// The time-outs a socket runs with, by what it is doing.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) half_open: Duration,
    pub(crate) connect: Duration,
    pub(crate) retransmit: Duration,
    pub(crate) linger: Duration,
}

impl Flow {
    /// Sets the socket's time-out to what its state asks for. smoltcp's time-out is about silence
    /// of the peer whatever the socket does, so it may be on only while an answer is owed.
    pub(crate) fn tune_timeout(&mut self, timeouts: &Timeouts) {
        let (owner, user) = (self.owner, self.user_timeout.get());
        let (connect, end) = (self.connect_timeout.get().or(user), self.end_seconds);
        let Some(socket) = self.socket_mut() else { return };
        let timeout = match (owner, socket.state()) {
            (Owner::Orphan, State::FinWait2) => {
                Some(end.map_or(timeouts.linger, |seconds| Duration::from_secs(seconds.into())))
            }
            (Owner::Orphan, _) => Some(timeouts.linger),
            (_, State::SynReceived) => Some(timeouts.half_open),
            (_, State::SynSent) => Some(connect.unwrap_or(timeouts.connect)),
            _ if socket.send_queue() > 0 => Some(user.unwrap_or(timeouts.retransmit)),
            _ => None,
        };
        socket.set_timeout(timeout);
    }
}
