//! Acknowledgements that wait for data to travel with.

use alloc::vec::Vec;

use smoltcp::time::Instant;

use crate::id::TcpId;
use crate::stack::Stack;
use crate::timers::NEVER;

/// Flows that owe an acknowledgement. Nearly always it travels with data soon, so they are only looked at
/// together, when the first of them was to be.
pub(crate) struct DelayedAcks {
    flows: Vec<TcpId>,
    at: Instant,
}

impl Default for DelayedAcks {
    fn default() -> Self {
        Self { flows: Vec::new(), at: NEVER }
    }
}

impl DelayedAcks {
    #[inline]
    pub(crate) fn push(&mut self, id: TcpId, at: Instant) {
        self.flows.push(id);
        self.at = self.at.min(at);
    }

    /// When the first is to be looked at.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.at < NEVER).then_some(self.at)
    }
}

impl Stack {
    /// Visits the flows whose acknowledgement cannot wait any longer. True if there are any.
    pub(crate) fn look_after_late(&mut self) -> bool {
        let now = self.now;
        if self.delayed_acks.at > now {
            return false;
        }
        let late = core::mem::take(&mut self.delayed_acks);
        for id in late.flows {
            let Some(flow) = self.flows.get_mut(id) else { continue };
            flow.is_late = false;
            match flow.plain.as_ref().map(|plain| plain.ack_at) {
                Some(at) if at <= now => self.mark_dirty(id),
                Some(at) if at < NEVER => {
                    flow.is_late = true;
                    self.delayed_acks.push(id, at);
                }
                _ => {}
            }
        }
        true
    }
}
