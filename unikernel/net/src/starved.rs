//! Connections whose app wants to send while there is no memory for a buffer. They are not writable, as if their buffers
//! were full, until there is some: it is handed out in the order in which they asked.

use alloc::collections::VecDeque;

use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use crate::flow::Flow;
use crate::id::TcpId;
use crate::stack::Stack;

/// How often it is tried: connections that are quiet for so long give their buffers back to those who ask.
const PAUSE: Duration = Duration::from_millis(20);

/// Who waits, the first first.
#[derive(Default)]
pub(crate) struct Starved {
    queue: VecDeque<TcpId>,
    next: Option<Instant>,
}

impl Starved {
    /// When it is to be tried again; none if nobody waits.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Flow {
    /// True if nothing can be sent for want of memory, not of room.
    pub(crate) fn lacks_buffer(&self) -> bool {
        self.buffer_sizes().1 == 0
    }

    /// True if memory is all that the app waits for: one that has been reset, say, is told so.
    fn waits_for_memory(&self) -> bool {
        self.is_app() && matches!(self.state(), State::Established | State::CloseWait)
    }
}

impl Stack {
    /// Has connections that are quiet give their buffers back, since others need the memory. True if there is more of it.
    pub fn squeeze(&mut self, now: Instant) -> bool {
        let before = self.flows.buffer_bytes();
        self.flows.squeeze(now);
        self.flows.buffer_bytes() < before
    }

    /// Has a connection wait for memory to send with.
    #[cold]
    pub(crate) fn starve(&mut self, id: TcpId) {
        let Some(flow) = self.flows.get_mut(id).filter(|flow| !flow.is_starved) else { return };
        flow.is_starved = true;
        self.starved.next.get_or_insert(self.now + PAUSE);
        self.starved.queue.push_back(id);
    }

    /// Gives buffers to those who wait, as far as they go, and has them try again. True if it was time for that.
    pub(crate) fn feed_starved(&mut self) -> bool {
        let now = self.now;
        if self.starved.next().is_none_or(|next| next > now) {
            return false;
        }
        for _ in 0..self.starved.queue.len() {
            let Some(id) = self.starved.queue.pop_front() else { break };
            if self.flows.get(id).is_some_and(Flow::waits_for_memory) && !self.flows.feed(id, now) {
                if !self.flows.has_small(now) {
                    self.starved.queue.push_front(id);
                    break;
                }
                // It is not for want of memory: the others need not wait for this one.
                self.starved.queue.push_back(id);
            } else if let Some(flow) = self.flows.get_mut(id) {
                flow.is_starved = false;
                self.notify_tcp(id);
            }
        }
        self.starved.next = (!self.starved.queue.is_empty()).then_some(now + PAUSE);
        true
    }
}
