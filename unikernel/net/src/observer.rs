//! Somebody who sees the frames that a card has received, before and after the packet filter.
//!
//! Without one the stack takes frames in as ever: it is asked for once in a batch.

use smoltcp::phy::TxToken;

use crate::stack::Stack;

/// Where a frame is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum FramePlace {
    /// As it came, before anybody has judged it.
    Received = 0,
    /// After the packet filter, if that has let it pass. It has been taken in by then. A frame that another shard takes in is not seen here.
    Filtered = 1,
}

/// Sees frames; false for one that is to be dropped, which counts before the filter only.
pub type Observer = fn(FramePlace, &[u8]) -> bool;

impl Stack {
    /// Sets who sees frames.
    pub fn set_observer(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    /// Takes a frame in that somebody sees.
    #[cold]
    pub(crate) fn observed_from_nic<T: TxToken>(&mut self, observer: Observer, frame: &[u8], token: T) {
        if !observer(FramePlace::Received, frame) {
            self.counters.dropped_by_observer += 1;
            return;
        }
        let before = (self.filtered(), self.handovers.len());
        self.frame_from_nic(frame, token);
        if (self.filtered(), self.handovers.len()) == before {
            observer(FramePlace::Filtered, frame);
        }
    }

    /// Packets that the filter has denied.
    fn filtered(&self) -> u64 {
        let counters = &self.counters;
        counters.filtered_tcp
            + counters.filtered_udp
            + counters.filtered_icmp
            + counters.filtered_other
            + counters.filtered_fragments
    }
}
