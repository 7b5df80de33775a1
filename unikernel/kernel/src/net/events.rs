//! The network's part of what is recorded ([`Kind`]): frames of cards, and what becomes of connections.

use core::net::SocketAddr;

use unikernel_net::Turn;
use unikernel_net::pcapng::Direction;
use unikernel_trace::frame::{ends, of_connection};

use super::{capture, shards};
use crate::drivers::network::{NetQueues, Tap};
use crate::platform::events::{self, Kind};

/// Has the stacks and cards tell, or tell no more. A capture has the taps of the cards for good, and passes on what it sees.
pub(crate) fn tell(is_wanted: bool) {
    let tap = (is_wanted && !capture::is_on()).then_some(Tap { interface: 0, see: frame });
    for shard in 0..shards::count() {
        let mut net = shards::lock(shard);
        net.stack.set_tracer(is_wanted.then_some(turn));
        if let Some(nic) = net.nic.as_mut().filter(|_| !capture::is_on()) {
            nic.set_tap(tap);
        }
    }
}

/// A frame passes a card, while events are recorded.
pub(super) fn frame(_interface: u32, direction: Direction, frame: &[u8]) {
    let (kind, is_in) = match direction {
        Direction::In => (Kind::FrameIn, true),
        Direction::Out => (Kind::FrameOut, false),
    };
    let [ports, peer] = ends(frame, is_in);
    events::record(kind, frame.len() as u32, ports, peer);
}

fn turn(local: &SocketAddr, remote: &SocketAddr, turn: Turn) {
    let [ports, peer] = of_connection(local.port(), remote);
    match turn {
        Turn::State(state) => events::note(Kind::TcpState, u32::from(state), ports, peer),
        Turn::Resent(segments) => events::note(Kind::TcpResend, segments, ports, peer),
    }
}
