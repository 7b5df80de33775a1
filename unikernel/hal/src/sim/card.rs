//! A network card (Virtual I/O Device specification 1.2, section 5.1), and the cable that it is plugged into. It checks what the
//! driver says of each frame, and does what was agreed on: checksums, cutting, merging, several queues.

mod frame;
mod port;

use core::hash::Hasher;
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::hash::DefaultHasher;
use std::vec::Vec;

pub use frame::Frame;
use frame::Offloads;
use port::Arrival;
pub use port::{Peer, Port};

use super::virtio::{self, Chain, Model};

/// Feature bits (section 5.1.3).
pub mod feature {
    #![expect(missing_docs, reason = "the names are the specification's")]
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const MQ: u64 = 1 << 22;
    pub const EVENT_IDX: u64 = 1 << 29;
    /// All that our driver knows.
    pub const ALL: u64 = CSUM
        | GUEST_CSUM
        | MTU
        | MAC
        | GUEST_TSO4
        | GUEST_TSO6
        | HOST_TSO4
        | HOST_TSO6
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | MQ
        | EVENT_IDX;
}
use feature::*;

/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
const SET_PAIRS: [u8; 2] = [4, 0];
/// Where a packet's header says how many buffers it takes.
const NUM_BUFFERS: usize = 10;

/// What the card answers to commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commands {
    /// It does them.
    Obey,
    /// It says that it cannot.
    Refuse,
    /// It says nothing.
    Ignore,
}

/// What a card is like.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its address, if it has [`feature::MAC`].
    pub mac: [u8; 6],
    /// What it offers ([`feature`]).
    pub features: u64,
    /// The largest IP packet.
    pub mtu: u16,
    /// Pairs of queues.
    pub pairs: u16,
    /// What becomes of commands.
    pub commands: Commands,
    /// How long it takes to send a frame.
    pub send_ns: u64,
}

impl Default for Card {
    fn default() -> Self {
        Self {
            mac: [2, 0, 0, 0, 0, 15],
            features: feature::ALL & !(CTRL_VQ | MQ),
            mtu: 1500,
            pairs: 1,
            commands: Commands::Obey,
            send_ns: 500,
        }
    }
}

impl Card {
    /// Plugs it into the machine that is about to boot, with the cable in whose other end is `peer`'s.
    pub fn plug_in(self, peer: Box<dyn Peer>) {
        virtio::add(Box::new(Plugged {
            card: self,
            peer,
            port: Port::new(),
            agreed: 0,
            active_pairs: 1,
            is_link_told_up: true,
            rooms: (0..self.pairs).map(|_| VecDeque::new()).collect(),
            busy_ns: std::vec![0; self.pairs.into()],
            sent: Vec::new(),
            ready: VecDeque::new(),
            forged: VecDeque::new(),
            steering: BTreeMap::new(),
        }));
    }
}

struct Plugged {
    card: Card,
    peer: Box<dyn Peer>,
    port: Port,
    agreed: u64,
    active_pairs: u16,
    /// What the driver was last told of the cable.
    is_link_told_up: bool,
    /// How much each buffer holds that waits in the receive queue of each pair.
    rooms: Vec<VecDeque<usize>>,
    /// Until when each pair sends what it has to send.
    busy_ns: Vec<u64>,
    /// Packets that are sent and not yet with the peer.
    sent: Vec<(u16, Vec<u8>)>,
    ready: VecDeque<(u16, Vec<u8>)>,
    forged: VecDeque<(u16, u32, u32)>,
    /// The pair that a flow was last sent by, by its ends as they are in what is received (section 5.1.6.5.5).
    steering: BTreeMap<(Vec<u8>, Vec<u8>), u16>,
}

impl Plugged {
    fn has(&self, feature: u64) -> bool {
        self.agreed & feature != 0
    }

    fn offloads_sent(&self) -> Offloads {
        Offloads { checksums: self.has(CSUM), large: (self.has(HOST_TSO4), self.has(HOST_TSO6)) }
    }

    fn offloads_received(&self) -> Offloads {
        Offloads { checksums: self.has(GUEST_CSUM), large: (self.has(GUEST_TSO4), self.has(GUEST_TSO6)) }
    }

    fn command_queue(&self) -> u16 {
        2 * self.card.pairs
    }

    fn command(&mut self, command: &[u8]) -> u8 {
        assert_eq!(command.len(), 4, "a command with a number of pairs");
        let pairs = u16::from_le_bytes([command[2], command[3]]);
        let is_known = command[..2] == SET_PAIRS && (1..=self.card.pairs).contains(&pairs);
        assert!(is_known && self.has(MQ), "the command {command:?}");
        if self.card.commands == Commands::Refuse {
            return 1;
        }
        self.active_pairs = pairs;
        0
    }

    /// Hands what was sent to the peer.
    fn deliver(&mut self) {
        for (pair, packet) in core::mem::take(&mut self.sent) {
            let frame = Frame::from_driver(&packet, self.offloads_sent());
            if let Some((from, to)) = frame.flow() {
                self.steering.insert((to, from), pair);
            }
            if self.port.is_link_up {
                self.peer.take(frame, &mut self.port);
            }
        }
    }

    /// Takes in what has arrived.
    fn arrive(&mut self) {
        let mut frames: Vec<Frame> = Vec::new();
        for arrival in self.port.take_due() {
            match arrival {
                Arrival::Frame(frame) if self.port.is_link_up => {
                    let offloads = self.offloads_received();
                    for frame in frame.acceptable(offloads) {
                        let is_ipv4 = frame.bytes.get(12) == Some(&8);
                        let merges = if is_ipv4 { offloads.large.0 } else { offloads.large.1 };
                        if !merges || !frames.last_mut().is_some_and(|last| last.absorb(&frame)) {
                            frames.push(frame);
                        }
                    }
                }
                Arrival::Frame(_) => {}
                Arrival::Raw(queue, bytes) => {
                    self.rooms[usize::from(queue / 2)].pop_front();
                    self.ready.push_back((queue, bytes));
                }
                Arrival::Forged(queue, id, bytes) => self.forged.push_back((queue, id, bytes)),
            }
        }
        frames.iter().for_each(|frame| self.bring(frame));
    }

    /// Puts a frame into buffers.
    fn bring(&mut self, frame: &Frame) {
        let pair = self.pair_for(frame);
        let mut packet = frame.to_driver(self.has(GUEST_CSUM));
        let rooms = &mut self.rooms[usize::from(pair)];
        let most = if self.agreed & MRG_RXBUF != 0 { rooms.len() } else { rooms.len().min(1) };
        let (mut count, mut room) = (0, 0);
        while room < packet.len() && count < most {
            room += rooms[count];
            count += 1;
        }
        if room < packet.len() {
            self.port.dropped += 1;
            return;
        }
        packet[NUM_BUFFERS..NUM_BUFFERS + 2].copy_from_slice(&(count as u16).to_le_bytes());
        let mut rest = &packet[..];
        for room in rooms.drain(..count) {
            let (part, more) = rest.split_at(rest.len().min(room));
            self.ready.push_back((2 * pair, part.to_vec()));
            rest = more;
        }
    }

    fn pair_for(&self, frame: &Frame) -> u16 {
        let Some(flow) = frame.flow() else { return 0 };
        let pair = self.steering.get(&flow).copied().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&flow.0);
            hasher.write(&flow.1);
            (hasher.finish() % u64::from(self.active_pairs)) as u16
        });
        pair.min(self.active_pairs - 1)
    }
}

impl Model for Plugged {
    fn device_type(&self) -> u16 {
        1
    }

    fn features(&self) -> u64 {
        self.card.features
    }

    fn config(&self) -> Vec<u8> {
        let words = [u16::from(self.port.is_link_up), self.card.pairs, self.card.mtu];
        self.card.mac.into_iter().chain(words.into_iter().flat_map(u16::to_le_bytes)).collect()
    }

    fn queues(&self) -> u16 {
        self.command_queue() + u16::from(self.card.features & CTRL_VQ != 0)
    }

    fn agreed(&mut self, features: u64) {
        self.agreed = features;
        self.active_pairs = 1;
        self.rooms.iter_mut().for_each(VecDeque::clear);
    }

    fn take_config_change(&mut self) -> bool {
        core::mem::replace(&mut self.is_link_told_up, self.port.is_link_up) != self.port.is_link_up
    }

    fn accept(&mut self, queue: u16, chain: &Chain) -> Option<u64> {
        if queue == self.command_queue() {
            return Some(1_000);
        }
        let pair = usize::from(queue / 2);
        if queue.is_multiple_of(2) {
            assert!(chain.readable.is_empty(), "the card is to read a buffer that it receives into");
            self.rooms[pair].push_back(chain.room());
            return None;
        }
        // One after the other.
        self.busy_ns[pair] = self.busy_ns[pair].max(self.port.now_ns) + self.card.send_ns;
        Some(self.busy_ns[pair] - self.port.now_ns)
    }

    fn finish(&mut self, queue: u16, chain: &Chain) -> Option<u32> {
        if queue == self.command_queue() {
            let answer = (self.card.commands != Commands::Ignore).then(|| self.command(&chain.read()))?;
            return Some(chain.write(&[answer]));
        }
        self.sent.push((queue / 2, chain.read()));
        Some(0)
    }

    fn tick(&mut self, now_ns: u64, next_ns: Option<u64>) -> Option<u64> {
        self.port.set_time(now_ns, next_ns);
        self.deliver();
        self.peer.wake(&mut self.port);
        self.arrive();
        self.port.next_ns()
    }

    fn ready(&mut self) -> Option<(u16, Vec<u8>)> {
        self.ready.pop_front()
    }

    fn forged(&mut self) -> Option<(u16, u32, u32)> {
        self.forged.pop_front()
    }
}
