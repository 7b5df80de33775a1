//! The frames of the next seconds, as a file for Wireshark ([`crate::net::gather`]).
//!
//! Those of this channel are left out: the answer would be of itself.

use alloc::vec::Vec;

use unikernel_trace::filter::{BadFilter, Filter};
use unikernel_trace::request::Request;

use super::pages::Refusal;
use super::recording::{PAUSE_NS, SPARED_BYTES, seconds};
use crate::kmem::room::{self, OutOfMemory};
use crate::net::gather::{self, BUFFER_BYTES, Gathering};
use crate::platform::time;
use crate::task::WaitQueue;

/// All of it: a quarter of a gibibyte.
const MOST_BUFFERS: usize = 2048;

/// What is told to who names a filter that there is not.
pub(super) const FILTERS: &str = "a filter is one of tcp, udp, icmp, arp, ip, ip6, port NUMBER and host ADDRESS, perhaps with `not` before it; \
                                  `and` joins several, with + for a space\n";

impl From<gather::Refusal> for Refusal {
    fn from(refusal: gather::Refusal) -> Self {
        match refusal {
            gather::Refusal::Busy => Self::Busy,
            gather::Refusal::OutOfMemory => Self::OutOfMemory,
        }
    }
}

impl From<BadFilter> for Refusal {
    fn from(_: BadFilter) -> Self {
        Self::BadFilter
    }
}

#[cold]
pub(super) fn gather(request: &Request<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let filter = Filter::parse(request.parameter("filter").unwrap_or_default())?;
    let filter = filter.without_port(super::port())?;
    let snap_len = request.parameter("snap").and_then(|text| text.parse().ok());
    let mut whole = room::with_capacity(MOST_BUFFERS + gather::BUFFERS)?;
    let end_ns = time::now_ns() + seconds(request).max(1) * time::NS_PER_SECOND;
    let gathering = Gathering::start(filter, snap_len, new_buffer)?;
    let nobody = WaitQueue::new();
    while time::now_ns() < end_ns && whole.len() < MOST_BUFFERS {
        let until_ns = end_ns.min(time::now_ns() + PAUSE_NS);
        let _ = nobody.wait_uninterrupted(Some(until_ns), || None::<()>);
        whole.extend(gathering.take(new_buffer));
    }
    whole.extend(gathering.finish());
    Ok(whole)
}

fn new_buffer() -> Result<Vec<u8>, OutOfMemory> {
    if !room::is_left_for(BUFFER_BYTES + SPARED_BYTES) {
        return Err(OutOfMemory);
    }
    room::with_capacity(BUFFER_BYTES)
}
