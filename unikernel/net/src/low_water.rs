//! Low-water marks: how many bytes make a connection readable (`SO_RCVLOWAT`), and how many that were not sent yet keep it from being
//! writable (`TCP_NOTSENT_LOWAT`).

use crate::flow::Flow;
use crate::id::TcpId;
use crate::stack::Stack;

/// The marks of one connection; 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LowWater {
    /// What has to be received.
    pub received: u32,
    /// What may wait to be sent, and one byte more.
    pub unsent: u32,
}

impl Flow {
    /// True if there is enough to read. A mark that the window does not reach would never be met (Linux: `tcp_set_rcvlowat`).
    #[inline]
    pub(crate) fn has_enough(&self) -> bool {
        let queued = self.recv_queue() - usize::from(self.hides_next());
        queued > 0 && queued >= (self.low_water.received as usize).min(self.rx_window / 2)
    }

    /// True if so much waits to be sent that no more is wanted.
    #[inline]
    pub(crate) fn is_backed_up(&self) -> bool {
        let most = self.low_water.unsent as usize;
        most > 0 && self.send_queue().saturating_sub(self.track.in_flight()) >= most
    }
}

impl Stack {
    /// Sets the marks of a connection.
    pub fn tcp_set_low_water(&mut self, id: TcpId, marks: LowWater) {
        let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.low_water != marks) else { return };
        flow.low_water = marks;
        self.has_unsent_marks |= marks.unsent > 0;
        self.notify_tcp(id);
    }

    /// True if nothing but bytes that were not sent yet keeps an app from writing.
    #[inline]
    pub(crate) fn is_backed_up(&self, id: TcpId) -> bool {
        // Most machines have no marks, and every visit to a connection asks.
        self.has_unsent_marks && self.flows.get(id).is_some_and(Flow::is_backed_up)
    }
}
