//! Questions about interfaces by `ioctl` (netdevice(7)): `lo`, and a card for each `eth0`, `eth1`, ... They cannot be
//! changed: the command line and the network say what they are.

use core::net::Ipv4Addr;

use linux_raw_sys::if_arp::{ARPHRD_ETHER, ARPHRD_LOOPBACK};
use linux_raw_sys::ioctl::{
    SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC,
    SIOCGIFMTU, SIOCGIFNAME, SIOCGIFNETMASK, SIOCGIFTXQLEN,
};
use linux_raw_sys::net::AF_INET;
use unikernel_net::smoltcp::wire::Ipv4Cidr;

use super::cards::{self, InterfaceId};
use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;

/// Room for a name in a `struct ifreq` (`IFNAMSIZ`); a union follows.
const NAME_BYTES: usize = 16;
/// Bytes of a `struct ifreq`, and of the union in it.
const REQUEST_BYTES: usize = 40;
const VALUE_BYTES: usize = REQUEST_BYTES - NAME_BYTES;
/// The largest packet on loopback, as Linux has it.
const LOOPBACK_MTU: u32 = 65_536;
/// What Linux says of a card's queue.
const QUEUE_LEN: u32 = 1000;

/// Flags of an interface (`IFF_UP`, ...).
mod flag {
    pub(super) const UP: u32 = 1;
    pub(super) const BROADCAST: u32 = 2;
    pub(super) const LOOPBACK: u32 = 8;
    pub(super) const RUNNING: u32 = 0x40;
    pub(super) const MULTICAST: u32 = 0x1000;
    pub(super) const LOWER_UP: u32 = 0x1_0000;
}

impl InterfaceId {
    /// Its flags (netdevice(7)).
    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::Loopback => flag::UP | flag::LOOPBACK | flag::RUNNING | flag::LOWER_UP,
            Self::Card(card) => {
                let up = if cards::is_link_up(card) { flag::RUNNING | flag::LOWER_UP } else { 0 };
                flag::UP | flag::BROADCAST | flag::MULTICAST | up
            }
        }
    }

    /// The largest IP packet, in bytes.
    pub(crate) fn mtu(self) -> u32 {
        match self {
            Self::Loopback => LOOPBACK_MTU,
            Self::Card(card) => cards::all().get(card).map_or(0, |card| card.mtu as u32),
        }
    }

    /// The kind of hardware, and its address.
    pub(crate) fn hardware(self) -> (u16, [u8; 6]) {
        match self {
            Self::Loopback => (ARPHRD_LOOPBACK as u16, [0; 6]),
            Self::Card(card) => (ARPHRD_ETHER as u16, cards::all().get(card).map_or([0; 6], |card| card.mac)),
        }
    }

    /// Its IPv4 address and network.
    pub(crate) fn ipv4(self) -> Option<Ipv4Cidr> {
        match self {
            Self::Loopback => Some(Ipv4Cidr::new(Ipv4Addr::LOCALHOST, 8)),
            Self::Card(card) => {
                let net = super::shards::lock(cards::first_of(card));
                net.stack.config().ipv4.as_ref().map(|config| config.address)
            }
        }
    }
}

/// Answers a question about interfaces; `None` if it is none.
pub(super) fn ioctl(request: u32, argument: u64) -> Option<SysResult> {
    match request {
        SIOCGIFCONF => Some(list(argument)),
        SIOCGIFNAME => Some(name(argument)),
        SIOCGIFINDEX | SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK | SIOCGIFHWADDR
        | SIOCGIFMTU | SIOCGIFMETRIC | SIOCGIFTXQLEN => Some(ask(request, argument)),
        _ => None,
    }
}

fn ask(request: u32, argument: u64) -> SysResult {
    let name = UserPtr::<[u8; NAME_BYTES]>::new(argument).read()?;
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    let link = InterfaceId::by_name(&name[..len]).ok_or(Errno::ENODEV)?;
    let place = argument + NAME_BYTES as u64;
    let number = |value: u32| UserPtr::new(place).write(value);
    let address = || link.ipv4().ok_or(Errno::EADDRNOTAVAIL);
    match request {
        SIOCGIFINDEX => number(link.number())?,
        SIOCGIFMTU => number(link.mtu())?,
        SIOCGIFMETRIC => number(0)?,
        SIOCGIFTXQLEN => number(QUEUE_LEN)?,
        // Half a word (`ifr_flags`).
        SIOCGIFFLAGS => UserPtr::new(place).write(link.flags() as u16)?,
        SIOCGIFADDR => UserPtr::new(place).write(sockaddr(address()?.address()))?,
        SIOCGIFNETMASK => UserPtr::new(place).write(sockaddr(address()?.netmask()))?,
        SIOCGIFBRDADDR => {
            // Loopback has none.
            let everyone = address()?.broadcast().filter(|_| link != InterfaceId::Loopback);
            UserPtr::new(place).write(sockaddr(everyone.unwrap_or(Ipv4Addr::UNSPECIFIED)))?;
        }
        _ => {
            let (kind, mac) = link.hardware();
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[2..8].copy_from_slice(&mac);
            UserPtr::new(place).write(bytes)?;
        }
    }
    Ok(0)
}

/// A `sockaddr_in` without a port.
fn sockaddr(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

fn padded_name(link: InterfaceId) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    bytes[..link.name().len()].copy_from_slice(link.name().as_bytes());
    bytes
}

fn name(request: u64) -> SysResult {
    let number = UserPtr::<u32>::new(request + NAME_BYTES as u64).read()?;
    let link = InterfaceId::by_number(number).ok_or(Errno::ENODEV)?;
    UserPtr::new(request).write(padded_name(link))?;
    Ok(0)
}

/// Interfaces with their addresses, as many as there is room for: a `struct ifconf` has the room's length and address,
/// the latter null to ask how much is needed.
fn list(argument: u64) -> SysResult {
    let room = UserPtr::<i32>::new(argument).read()?;
    let place = UserPtr::<u64>::new(argument + 8).read()?;
    let fitting = if place == 0 { usize::MAX } else { room.max(0) as usize / REQUEST_BYTES };
    let mut count = 0;
    for (link, address) in InterfaceId::all().filter_map(|link| Some((link, link.ipv4()?))).take(fitting) {
        if place != 0 {
            let mut value = [0; VALUE_BYTES];
            value[..16].copy_from_slice(&sockaddr(address.address()));
            let at = place + (count * REQUEST_BYTES) as u64;
            UserPtr::new(at).write(padded_name(link))?;
            UserPtr::new(at + NAME_BYTES as u64).write(value)?;
        }
        count += 1;
    }
    UserPtr::new(argument).write((count * REQUEST_BYTES) as i32)?;
    Ok(0)
}
