//! Several stacks on one machine: each is a *shard* with a queue pair of the NIC and the flows that fall to
//! it. Which flow falls to whom is a hash of the two endpoints, the same from either end, so that a
//! connection over loopback stays within one shard.
//!
//! A device deals received frames out by a rule of its own. What arrives at the wrong shard is handed over,
//! whole; since a flow's frames leave through the queue pair of its shard, a device that steers by what it
//! has seen leaving sends the rest the right way.
//!
//! The first shard has what there is once: UDP, ICMP, ARP, NDP and DHCP. It tells the others of neighbours
//! ([`Addressee::Others`]); of addresses they learn by [`Stack::adopt`]. Listeners are on every shard: whoever
//! binds does the same on each, in the same order, and gets the same id from each.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::phy::Device;
use smoltcp::time::Instant;

use crate::config::{NetConfig, RouteEntry};
use crate::cookies::Cookies;
use crate::isn::Numbers;
use crate::key::{Seed, fold};
use crate::stack::Stack;

/// Which part of the flows a stack has.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    index: usize,
    count: usize,
    secret: [u64; 2],
}

/// Whom a frame is handed over to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressee {
    /// The shard with this number.
    One(usize),
    /// Every shard but the one that says so.
    Others,
}

impl Shard {
    /// All flows.
    pub const WHOLE: Self = Self { index: 0, count: 1, secret: [0; 2] };

    /// The shares of `count` stacks. `random` must be cryptographically secure: nobody outside may choose
    /// connections that all fall to one.
    pub fn deal(count: usize, random: &mut dyn FnMut() -> u64) -> Vec<Self> {
        let secret = [random(), random()];
        (0..count.max(1)).map(|index| Self { index, count: count.max(1), secret }).collect()
    }

    /// Who has the flow between two endpoints, in either order.
    pub(crate) fn owner(&self, one: SocketAddr, other: SocketAddr) -> usize {
        let half = |end: SocketAddr| {
            let bits = match end.ip() {
                IpAddr::V4(v4) => u128::from(v4.to_bits()),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            let mixed = fold((bits >> 64) as u64 ^ self.secret[0], bits as u64 ^ self.secret[1]);
            fold(mixed ^ self.secret[0], u64::from(end.port()) ^ self.secret[1])
        };
        let mixed = fold((half(one) ^ half(other)) | 1, self.secret[0] | 1);
        ((mixed >> 32) as usize) % self.count
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// True for the one that has what there is once.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }
}

impl Stack {
    /// True if [`Self::take_handovers`] would give any.
    pub fn has_handovers(&self) -> bool {
        !self.handovers.is_empty()
    }

    /// Moves the frames for other shards into `into`.
    pub fn take_handovers(&mut self, into: &mut Vec<(Addressee, Vec<u8>)>) {
        into.append(&mut self.handovers);
    }

    /// Takes in a frame that another shard has handed over. `device` is for an immediate answer.
    pub fn sibling_in<D: Device + ?Sized>(&mut self, now: Instant, frame: &[u8], device: &mut D) {
        self.now = now;
        let Some(token) = device.transmit(now) else { return self.counters.queue_full += 1 };
        self.is_from_sibling = true;
        self.frame_in(frame, token);
        self.is_from_sibling = false;
    }

    /// Draws the secrets for sequence numbers, SYN cookies and the tables of connections anew, because another machine may have
    /// the old ones. Cookies that are on their way are refused. What steers packets to shards stays: it decides where
    /// connections are.
    pub fn renew_secrets(&mut self) {
        self.numbers = Numbers::new(&mut *self.random);
        self.cookies = Cookies::new(&mut *self.random);
        let seed = Seed::new(&mut *self.random);
        if self.flows.rehash(&seed) {
            self.time_wait.rehash(&seed);
            self.seed = seed;
        }
    }

    /// How often the address has changed: when it has, the other shards must [`adopt`](Self::adopt) it.
    pub fn address_changes(&self) -> u64 {
        self.address_changes
    }

    /// Takes over the first shard's addresses and routes.
    pub fn adopt(&mut self, net: &NetConfig) {
        self.set_net(net.clone());
    }

    /// Takes over the addresses of the machine's other cards; connections that used one that is gone end.
    pub fn set_siblings(&mut self, addresses: Vec<IpAddr>) {
        self.addresses.set_siblings(addresses);
        self.drop_strangers();
    }

    /// True for an address of this stack's card, as opposed to the machine's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.has(address)
    }

    /// The entry of the route table that leads to `destination`.
    pub fn route_to(&self, destination: IpAddr) -> Option<RouteEntry> {
        self.addresses.entry_for(destination).copied()
    }

    /// The address that we would have towards `destination`.
    pub fn source_to(&self, destination: IpAddr) -> Option<IpAddr> {
        self.addresses.source_for(destination)
    }

    /// Which shard a connection to `remote` has to be begun on; `None` if any can choose a port for it.
    pub fn owner_of(&self, local: Option<SocketAddr>, remote: SocketAddr) -> Option<usize> {
        let local = local.filter(|local| local.port() != 0)?;
        let remote = crate::tcp::reachable(remote).ok()?;
        let address = match local.ip() {
            unspecified if unspecified.is_unspecified() => self.addresses.source_for(remote.ip())?,
            address => address,
        };
        Some(self.config.shard.owner(SocketAddr::new(address, local.port()), remote))
    }

    /// True if a flow between these is ours.
    #[inline]
    pub(crate) fn owns_flow(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let shard = &self.config.shard;
        shard.count == 1 || shard.owner(local, remote) == shard.index
    }

    /// Hands a TCP segment's frame over if the flow is another's. True if it is done with.
    #[inline]
    pub(crate) fn hand_over_segment(&mut self, frame: &[u8], local: SocketAddr, remote: SocketAddr) -> bool {
        if self.owns_flow(local, remote) {
            return false;
        }
        let owner = self.config.shard.owner(local, remote);
        self.hand_over(Addressee::One(owner), frame);
        true
    }

    /// Hands what there is once over to the first shard. True if it is done with.
    #[inline]
    pub(crate) fn hand_over_to_first(&mut self, frame: &[u8]) -> bool {
        if self.config.shard.is_first() || self.is_from_sibling {
            return false;
        }
        self.hand_over(Addressee::One(0), frame);
        true
    }

    /// Lets the other shards hear of a neighbour, too. True if this one only listens.
    pub(crate) fn hand_over_to_others(&mut self, frame: &[u8]) -> bool {
        let shard = self.config.shard;
        if shard.is_first() && shard.count > 1 {
            self.hand_over(Addressee::Others, frame);
        }
        !shard.is_first()
    }

    fn hand_over(&mut self, addressee: Addressee, frame: &[u8]) {
        self.counters.handed_over += 1;
        self.handovers.push((addressee, frame.to_vec()));
    }
}
