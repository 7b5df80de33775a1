//! The cable's end at a card, and who is at the other.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::frame::Frame;

/// Who is at the other end of the cable.
pub trait Peer {
    /// The machine has sent a frame.
    fn take(&mut self, frame: Frame, port: &mut Port);
    /// Called often, and no later than asked for by [`Port::wake_at`].
    fn wake(&mut self, _port: &mut Port) {}
}

/// What comes to the card.
pub(super) enum Arrival {
    Frame(Frame),
    /// Bytes for one buffer of a queue, header and all.
    Raw(u16, Vec<u8>),
    /// An element of a queue's used ring: request and length.
    Forged(u16, u32, u32),
}

/// What a peer may do.
pub struct Port {
    /// The machine's time.
    pub now_ns: u64,
    /// When anything in the machine but this card has something to do; none if nothing has.
    pub next_ns: Option<u64>,
    /// The cable is in. If it is not, nothing comes or goes, and the card says so.
    pub is_link_up: bool,
    /// Frames that the driver had no buffers for.
    pub dropped: u64,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    row: u64,
    wake_ns: Option<u64>,
}

impl Port {
    pub(super) fn new() -> Self {
        Self {
            now_ns: 0,
            next_ns: None,
            is_link_up: true,
            dropped: 0,
            arrivals: BTreeMap::new(),
            row: 0,
            wake_ns: None,
        }
    }

    /// Has a frame arrive at a time.
    pub fn send_at(&mut self, at_ns: u64, frame: Frame) {
        self.push(at_ns, Arrival::Frame(frame));
    }

    /// Has a frame arrive after a while.
    pub fn send_after(&mut self, ns: u64, bytes: Vec<u8>) {
        self.send_at(self.now_ns + ns, Frame::whole(bytes));
    }

    /// Has the card bring these bytes, header and all, in the next buffer of a queue, whatever they are.
    pub fn send_raw(&mut self, queue: u16, bytes: Vec<u8>) {
        self.push(self.now_ns, Arrival::Raw(queue, bytes));
    }

    /// Has the card claim that it is done with a request of a queue, and has written so many bytes.
    pub fn forge(&mut self, queue: u16, id: u32, bytes: u32) {
        self.push(self.now_ns, Arrival::Forged(queue, id, bytes));
    }

    /// Asks to be called at a time.
    pub fn wake_at(&mut self, at_ns: u64) {
        self.wake_ns = Some(self.wake_ns.map_or(at_ns, |known| known.min(at_ns)));
    }

    /// When the next frame that is under way arrives.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.arrivals.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    fn push(&mut self, at_ns: u64, arrival: Arrival) {
        self.row += 1;
        self.arrivals.insert((at_ns, self.row), arrival);
    }

    /// What has arrived by now.
    pub(super) fn take_due(&mut self) -> Vec<Arrival> {
        let later = self.arrivals.split_off(&(self.now_ns + 1, 0));
        core::mem::replace(&mut self.arrivals, later).into_values().collect()
    }

    /// The time goes on.
    pub(super) fn set_time(&mut self, now_ns: u64, next_ns: Option<u64>) {
        (self.now_ns, self.next_ns) = (now_ns, next_ns);
        self.wake_ns = self.wake_ns.filter(|at_ns| *at_ns > now_ns);
    }

    /// When something is to be done.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.wake_ns.into_iter().chain(self.next_arrival_ns()).min()
    }
}
