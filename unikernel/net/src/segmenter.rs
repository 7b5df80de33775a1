//! Bulk sends: a device that cuts a large frame into segments (TCP segmentation offload) takes many segments for
//! the price of one. Only connections without an engine use it ([`crate::plain`]): smoltcp knows nothing of it.
//!
//! What is sent so counts as the segments that arrive: the congestion window, the peer's window and Nagle's rule
//! bound it as they would bound them, and a loss has single segments sent again.

use smoltcp::phy::Device;

use crate::flow::Flow;
use crate::phy::{HEADER_LEN, NoDevice};
use crate::plain::Step;
use crate::sequence::Distance;
use crate::track::Track;
use crate::wire;

/// How a frame is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TsoParams {
    /// Payload of each segment but the last, in bytes.
    pub segment_bytes: u16,
    /// The headers in front of the payload, the frame's own among them, which each segment gets.
    pub header_bytes: u16,
    /// Over IPv4, else IPv6.
    pub is_ipv4: bool,
}

/// A device that may cut frames. By default it does not.
pub trait Segmenter: Device {
    /// The longest frame that it takes now, in bytes; 0 if it takes none.
    fn largest_frame(&mut self, _is_ipv4: bool) -> usize {
        0
    }

    /// Sends a frame of `len` bytes, which `fill` writes, as segments. False, and nothing done, if it cannot.
    fn send_to_be_cut(&mut self, _cut: TsoParams, _len: usize, _fill: impl FnOnce(&mut [u8])) -> bool {
        false
    }
}

impl Segmenter for NoDevice {}
impl Segmenter for crate::phy::Loopback {}

impl Flow {
    /// A step that sends a full segment, made to send as many as may go together. `most` is the payload that the
    /// device takes.
    pub(crate) fn enlarged(&self, step: Step, most: usize) -> Step {
        let Track { mss, window, una, next, sent, .. } = self.track;
        let mss = usize::from(mss);
        let (in_flight, queued) = (self.track.in_flight(), self.send_queue());
        let Step::Send { offset, len } = step else { return step };
        // While something is missing, what is under way is counted otherwise.
        if offset != in_flight || len != mss || most < 2 * mss || self.has_board() {
            return step;
        }
        let room = (window as usize).min(self.congestion.window(mss)).saturating_sub(in_flight);
        let mut wanted = queued.saturating_sub(in_flight).min(room).min(most);
        if next < sent {
            // What goes for a second time goes on its own, so that it is counted and not timed.
            wanted = wanted.min(sent.since(una).saturating_sub(in_flight));
        }
        // What does not fill a segment may go with the others only if it might go after them.
        let ends_all = in_flight + wanted == queued && !self.has_nagle && !self.is_corked;
        let len = if ends_all { wanted } else { wanted / mss * mss };
        Step::Send { offset, len: len.max(mss) }
    }

    /// How a frame of this flow's is cut.
    pub(crate) fn cut(&self) -> TsoParams {
        let header_bytes = (HEADER_LEN + wire::headers_len(self.local)) as u16;
        TsoParams { segment_bytes: self.track.mss, header_bytes, is_ipv4: self.local.is_ipv4() }
    }
}
