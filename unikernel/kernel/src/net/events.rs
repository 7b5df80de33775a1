//! The network's part of what is recorded ([`Kind`]): frames of cards, what becomes of connections, and which descriptors they have.

use alloc::vec::Vec;
use core::net::SocketAddr;

use unikernel_net::Turn;
use unikernel_net::pcapng::Direction;
use unikernel_trace::frame::{Frame, look, of_connection};

use super::address::Address;
use super::shards;
use super::socket::{self, Socket};
use super::taps::{self, Watcher};
use crate::file;
use crate::platform::events::{self, Kind};

/// Has the stacks and cards tell, or tell no more.
pub(crate) fn tell(is_wanted: bool) {
    taps::show(Watcher::Events, is_wanted);
    for shard in 0..shards::count() {
        shards::lock(shard).stack.set_tracer(is_wanted.then_some(turn));
    }
}

/// A frame passes a card, while events are recorded.
pub(super) fn frame(_interface: u32, direction: Direction, frame: &[u8]) {
    let (kind, is_in) = match direction {
        Direction::In => (Kind::FrameIn, true),
        Direction::Out => (Kind::FrameOut, false),
    };
    let Frame { bytes, ports, peer } = look(frame, is_in);
    events::record(kind, bytes, ports, peer);
}

fn turn(local: &SocketAddr, remote: &SocketAddr, turn: Turn) {
    let [ports, peer] = of_connection(local.port(), remote);
    match turn {
        Turn::State(state) => events::note(Kind::TcpState, u32::from(state), ports, peer),
        Turn::Resent(segments) => events::note(Kind::TcpResend, segments, ports, peer),
    }
}

/// A client's connection has a descriptor now (accept(2)).
#[inline]
pub(crate) fn note_open(descriptor: usize) {
    if events::is_on() {
        note_accepted(descriptor as i32);
    }
}

#[cold]
#[inline(never)]
fn note_accepted(descriptor: i32) {
    // Another thread may have closed it already.
    if let Some([ports, peer]) = connection(descriptor) {
        events::note(Kind::SocketOpen, descriptor as u32, ports, peer);
    }
}

/// Clients' connections that have a descriptor, with the words of [`Kind::SocketOpen`]: those at ports where somebody listens. One that
/// comes or goes meanwhile may be missing.
#[cold]
pub(crate) fn open_connections() -> impl Iterator<Item = (i32, [u64; 2])> {
    let ports = listening_ports();
    descriptors().filter_map(move |descriptor| {
        let [ends, peer] = connection(descriptor)?;
        let is_served = ports.binary_search(&((ends >> 16) as u16)).is_ok();
        is_served.then_some((descriptor, [ends, peer]))
    })
}

/// In order. Without memory for all it is some.
fn listening_ports() -> Vec<u16> {
    let mut ports = Vec::new();
    for descriptor in descriptors() {
        let Ok(opened) = file::get(descriptor) else { continue };
        let Some(socket) = opened.downcast::<Socket>() else { continue };
        let is_listening = matches!(&socket.kind, socket::Kind::Stream(stream) if stream.is_listening());
        if let (true, Address::Internet(local)) = (is_listening, socket.local()) {
            if ports.try_reserve(1).is_err() {
                break;
            }
            ports.push(local.port());
        }
    }
    ports.sort_unstable();
    ports
}

fn descriptors() -> impl Iterator<Item = i32> {
    file::table::in_use(0, file::table::span())
}

/// The connection behind a descriptor, if it is TCP's.
fn connection(descriptor: i32) -> Option<[u64; 2]> {
    let opened = file::get(descriptor).ok()?;
    let socket = opened.downcast::<Socket>()?;
    let socket::Kind::Stream(_) = &socket.kind else { return None };
    match (socket.local(), socket.peer()) {
        (Address::Internet(local), Ok(Address::Internet(peer))) => Some(of_connection(local.port(), &peer)),
        _ => None,
    }
}
