//! Deadlines of flows. A flow's deadline moves with almost every packet, nearly always to later:
//! a response starts the retransmission timer and the next request stops it. So the heap is lazy:
//! a flow has one live entry, put there when its deadline becomes *earlier* than the entry it has;
//! when an entry falls due, the flow is looked at and says what its deadline is now.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use smoltcp::time::Instant;

use crate::id::TcpId;

/// No deadline.
pub(crate) const NEVER: Instant = Instant::from_micros_const(i64::MAX);

#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, TcpId)>>,
}

impl Timers {
    /// Makes sure that flow `id`, whose live entry is due at `*entry`, is looked at by `deadline`.
    #[inline]
    pub(crate) fn ensure(&mut self, id: TcpId, entry: &mut Instant, deadline: Instant) {
        if deadline < *entry {
            *entry = deadline;
            self.heap.push(Reverse((deadline, id)));
        }
    }

    /// The next time something may be due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that is due. The caller compares it with the flow's live entry: entries that
    /// were overtaken by an earlier one, and those of flows that are gone, are still in the heap.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, TcpId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops dead entries if they outnumber the living, so that memory follows the flows.
    pub(crate) fn trim(&mut self, flows: usize, is_live: impl Fn(Instant, TcpId) -> bool) {
        if self.heap.len() > 4 * flows + 256 {
            self.heap.retain(|Reverse((at, id))| is_live(*at, *id));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
