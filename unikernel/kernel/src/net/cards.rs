//! The machine's cards, `eth0` and so on: which shards serve each, and which way out a destination lies. Each
//! card has stacks, addresses and a route table of its own; an app's socket belongs to all of them, unless it is bound to one
//! (`SO_BINDTODEVICE`). A machine without a card has a stack for loopback all the same.
//!
//! What two cards do not agree on, the more specific route decides, then the lower metric, then the lower number.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::ops::Range;

use spin::Once;
use unikernel_net::GroupLink;

use super::shards::{self, Guard};
use crate::drivers::network::NetDevice;
use crate::sync::SpinLock;

/// The number of loopback among the interfaces (netdevice(7)); cards follow.
const LOOPBACK_NUMBER: u32 = 1;
const FIRST_CARD_NUMBER: u32 = 2;

/// A card as an interface.
pub(super) struct Interface {
    /// Its name.
    pub(super) name: String,
    /// Its Ethernet address.
    pub(super) mac: [u8; 6],
    /// The largest IP packet, in bytes.
    pub(super) mtu: usize,
    /// Its shards; the first has what there is once for each card.
    pub(super) shards: Range<usize>,
}

/// An interface that the app names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InterfaceId {
    /// `lo`.
    Loopback,
    /// A card, by its place among them.
    Card(usize),
}

static INTERFACES: Once<Vec<Interface>> = Once::new();
/// The cards without their queues.
static DEVICES: SpinLock<Vec<Box<dyn NetDevice>>> = SpinLock::new(Vec::new());

/// Takes the cards over, whose queues have gone to shards.
pub(super) fn init(cards: Vec<Box<dyn NetDevice>>, shards: &[Range<usize>]) {
    let interface = |number: usize, card: &dyn NetDevice, shards: &Range<usize>| Interface {
        name: format!("eth{number}"),
        mac: card.mac(),
        mtu: card.mtu(),
        shards: shards.clone(),
    };
    INTERFACES.call_once(|| {
        let numbered = cards.iter().zip(shards).enumerate();
        numbered.map(|(number, (card, shards))| interface(number, &**card, shards)).collect()
    });
    *DEVICES.lock() = cards;
}

/// Lets each core have the interrupts of its own shards.
pub(super) fn spread_interrupts() {
    DEVICES.lock().iter().for_each(|card| card.spread_interrupts());
}

/// True if the card's cable is in, as far as the device knows.
pub(super) fn is_link_up(card: usize) -> bool {
    DEVICES.lock().get(card).is_some_and(|card| card.is_link_up())
}

/// All cards.
pub(super) fn all() -> &'static [Interface] {
    INTERFACES.get().map(Vec::as_slice).unwrap_or_default()
}

/// The first shard of each card, or that of a machine without any.
pub(super) fn firsts() -> impl Iterator<Item = usize> {
    let alone = if all().is_empty() { 0..1 } else { 0..0 };
    all().iter().map(|card| card.shards.start).chain(alone)
}

/// The first shard of a card.
pub(super) fn first_of(card: usize) -> usize {
    all().get(card).map_or(0, |card| card.shards.start)
}

/// The shards that the shard is one of, which are those of one card.
pub(super) fn shards_with(shard: usize) -> Range<usize> {
    all().iter().map(|card| card.shards.clone()).find(|shards| shards.contains(&shard)).unwrap_or(0..1)
}

fn card_with(shard: usize) -> Option<usize> {
    all().iter().position(|card| card.shards.contains(&shard))
}

/// The card to begin with towards `to`: the one that the socket is bound to, or whose address it has, or else the
/// one with the best route.
pub(super) fn towards(to: IpAddr, from: Option<IpAddr>, bound: Option<usize>) -> usize {
    if all().len() <= 1 {
        return 0;
    }
    if let Some(card) = bound {
        return card;
    }
    let owner = from.filter(|from| !from.is_unspecified() && !from.is_loopback()).and_then(owner_of);
    let is_led_by = |card: &usize| lock_first(*card).stack.route_to(to).is_some();
    owner.filter(is_led_by).or_else(|| best_route(to)).unwrap_or(0)
}

fn lock_first(card: usize) -> Guard {
    shards::lock(first_of(card))
}

/// The card that an address of ours is on.
pub(crate) fn owner_of(address: IpAddr) -> Option<usize> {
    (0..all().len()).find(|card| lock_first(*card).stack.has_address(address))
}

fn best_route(to: IpAddr) -> Option<usize> {
    let ranks = (0..all().len()).filter_map(|card| {
        let route = lock_first(card).stack.route_to(to)?;
        Some((u32::from(u8::MAX - route.network.prefix_len()), route.metric, card))
    });
    ranks.min().map(|(_, _, card)| card)
}

impl InterfaceId {
    /// The interface with a number (netdevice(7)).
    pub(crate) fn by_number(number: u32) -> Option<Self> {
        match number {
            LOOPBACK_NUMBER => Some(Self::Loopback),
            _ => {
                let card = number.checked_sub(FIRST_CARD_NUMBER)? as usize;
                (card < all().len()).then_some(Self::Card(card))
            }
        }
    }

    /// The interface with a name.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        Self::all().find(|link| link.name().as_bytes() == name)
    }

    /// Every interface, by its number.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        core::iter::once(Self::Loopback).chain((0..all().len()).map(Self::Card))
    }

    /// Its number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Loopback => LOOPBACK_NUMBER,
            Self::Card(card) => card as u32 + FIRST_CARD_NUMBER,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loopback => "lo",
            Self::Card(card) => all().get(card).map_or("", |card| &card.name),
        }
    }

    /// The same to the card's own stack.
    pub(super) fn in_stack(self) -> GroupLink {
        match self {
            Self::Loopback => GroupLink::Loopback,
            Self::Card(_) => GroupLink::Nic,
        }
    }
}

/// The number of the interface that a packet came in by to a shard.
pub(super) fn number_of(link: GroupLink, shard: usize) -> u32 {
    let card = if link == GroupLink::Nic { card_with(shard) } else { None };
    card.map_or(InterfaceId::Loopback, InterfaceId::Card).number()
}

/// Splits an address that an app gave into what stacks know and the card that its scope names (ipv6(7),
/// `sin6_scope_id`).
pub(super) fn unscoped(address: SocketAddr) -> (SocketAddr, Option<usize>) {
    let SocketAddr::V6(v6) = address else { return (address, None) };
    let card = match InterfaceId::by_number(v6.scope_id()) {
        Some(InterfaceId::Card(card)) => Some(card),
        _ => None,
    };
    (SocketAddr::new(IpAddr::V6(*v6.ip()), v6.port()), card)
}

/// An address as an app is told: one that holds on one link only has its number with it.
pub(super) fn scoped(address: SocketAddr, shard: usize) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            let number = card_with(shard).map_or(0, |card| InterfaceId::Card(card).number());
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, number).into()
        }
        address => address,
    }
}
