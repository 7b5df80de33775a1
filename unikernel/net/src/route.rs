//! Whose address is it, and which way does it lie: our own addresses and the route table, searched for the
//! longest prefix.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr};

use crate::config::{Config, Ipv4Config, Ipv6Address, NetConfig, RouteEntry};

/// The way to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// To ourselves.
    Loopback,
    /// To every station, or to a group: the hardware address follows from the IP address.
    Multicast(EthernetAddress),
    /// To a neighbour: the destination itself, or the gateway.
    Neighbor(IpAddr),
}

/// The addresses of this machine and its route table.
pub(crate) struct Addresses {
    pub(crate) net: NetConfig,
    /// Our IPv4 address and the broadcast address of its network, read with each packet.
    own_v4: Option<Ipv4Addr>,
    broadcast_v4: Option<Ipv4Addr>,
    /// Routes that were given.
    given: Vec<RouteEntry>,
    /// Addresses of the machine's other cards.
    siblings: Vec<IpAddr>,
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            net: NetConfig::default(),
            own_v4: None,
            broadcast_v4: None,
            given: config.routes.clone(),
            siblings: Vec::new(),
        }
    }

    /// Takes over new addresses; `learnt` are the routes of IPv6, none to take those of `net`. True if
    /// anything has changed.
    pub(crate) fn change(&mut self, mut net: NetConfig, learnt: Option<Vec<RouteEntry>>) -> bool {
        if let Some(learnt) = learnt {
            net.routes = learnt;
            net.routes.extend(&self.given);
            net.routes.extend(net.ipv4.iter().flat_map(routes_of));
            // The sort is stable: among equals, what was given or learnt first goes first. (So is `sort_by_key`, which takes 4 KiB
            // of the stack.)
            net.routes.sort_by_cached_key(|route| (Reverse(route.network.prefix_len()), route.metric));
        }
        self.own_v4 = net.ipv4.as_ref().map(|config| config.address.address());
        self.broadcast_v4 = net.ipv4.as_ref().and_then(|config| config.address.broadcast());
        let has_changed = self.net != net;
        self.net = net;
        has_changed
    }

    /// Takes over the addresses of the machine's other cards: they are ours, whichever card a packet for them
    /// comes to (RFC 1122 section 3.3.4.2, the "weak" model, which is Linux's).
    pub(crate) fn set_siblings(&mut self, siblings: Vec<IpAddr>) {
        self.siblings = siblings;
    }

    /// True for an address of this card, as opposed to the machine's.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.is_own_v4(v4),
            IpAddr::V6(v6) => self.is_own_v6(v6),
        }
    }

    #[inline]
    fn is_own_v6(&self, address: Ipv6Addr) -> bool {
        self.net.ipv6.iter().any(|own| own.address.address() == address)
    }

    /// True for an address that is ours, loopback included.
    #[inline]
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.has(address) || self.siblings.contains(&address)
    }

    #[inline]
    pub(crate) fn is_own_v4(&self, address: Ipv4Addr) -> bool {
        self.own_v4 == Some(address)
    }

    /// True for the limited broadcast address and that of our network.
    #[inline]
    pub(crate) fn is_broadcast(&self, address: IpAddr) -> bool {
        let IpAddr::V4(v4) = address else { return false };
        v4.is_broadcast() || self.broadcast_v4 == Some(v4)
    }

    /// True for a source that no packet from the NIC can have (RFC 1122 section 3.2.1.3).
    #[inline]
    pub(crate) fn is_martian(&self, source: IpAddr) -> bool {
        match source {
            IpAddr::V4(v4) => v4.is_multicast() || self.owns(source) || self.is_broadcast(source),
            IpAddr::V6(v6) => v6.is_multicast() || self.owns(source),
        }
    }

    /// The way to `destination`, or none.
    pub(crate) fn route(&self, destination: IpAddr) -> Option<Route> {
        if self.owns(destination) {
            return Some(Route::Loopback);
        }
        if destination.is_multicast() || self.is_broadcast(destination) {
            return Some(Route::Multicast(group_mac(destination)));
        }
        let route = self.entry_for(destination)?;
        Some(Route::Neighbor(route.gateway.unwrap_or(destination)))
    }

    /// The most specific route, of those with the least metric.
    pub(crate) fn entry_for(&self, destination: IpAddr) -> Option<&RouteEntry> {
        if destination.is_unspecified() {
            return None;
        }
        let address = destination.into();
        self.net.routes.iter().find(|route| {
            route.network.address().version() == IpAddress::version(&address)
                && route.network.contains_addr(&address)
        })
    }

    /// True for an address that is reached without a router.
    pub(crate) fn is_on_link(&self, address: IpAddr) -> bool {
        self.entry_for(address).is_some_and(|route| route.gateway.is_none())
    }

    /// The address to send from towards `destination`.
    pub(crate) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        if destination.is_loopback() || self.owns(destination) {
            return Some(destination);
        }
        match destination {
            IpAddr::V4(_) => Some(self.net.ipv4.as_ref()?.address.address().into()),
            IpAddr::V6(v6) => self.source_v6(v6).map(IpAddr::V6),
        }
    }

    /// The best of our addresses (RFC 6724 section 5): of the same scope, not deprecated, and with the longest
    /// prefix in common.
    fn source_v6(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let is_near = |address: Ipv6Addr| {
            address.is_unicast_link_local() || (address.is_multicast() && address.segments()[0] & 0xf <= 2)
        };
        let rank = |own: &&Ipv6Address| {
            let address = own.address.address();
            let common = (address.to_bits() ^ destination.to_bits()).leading_zeros();
            (is_near(address) == is_near(destination), !own.is_deprecated, common)
        };
        self.net.ipv6.iter().max_by_key(rank).map(|own| own.address.address())
    }
}

/// The routes that an IPv4 address brings.
fn routes_of(config: &Ipv4Config) -> impl Iterator<Item = RouteEntry> + use<'_> {
    let on_link = RouteEntry { network: IpCidr::Ipv4(config.address.network()), gateway: None, metric: 0 };
    let everywhere = IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Addr::UNSPECIFIED, 0));
    let default = config.gateway.map(|gateway| RouteEntry {
        network: everywhere,
        gateway: Some(gateway.into()),
        metric: 0,
    });
    // A router outside of our network is a neighbour all the same: a cloud gives an address with a network of its own.
    let gateways = default.iter().chain(&config.routes).filter_map(|route| route.gateway);
    let is_outside = |gateway: &IpAddr| {
        let is_on_link = |route: &&RouteEntry| route.gateway.is_none();
        !on_link.network.contains_addr(&(*gateway).into())
            && !config
                .routes
                .iter()
                .filter(is_on_link)
                .any(|route| route.network.contains_addr(&(*gateway).into()))
    };
    let to_gateways: Vec<RouteEntry> = gateways.filter(is_outside).map(host_route).collect();
    [Some(on_link), default].into_iter().flatten().chain(config.routes.iter().copied()).chain(to_gateways)
}

/// The route to a neighbour.
fn host_route(neighbor: IpAddr) -> RouteEntry {
    let prefix_len = if neighbor.is_ipv4() { 32 } else { 128 };
    RouteEntry { network: IpCidr::new(neighbor.into(), prefix_len), gateway: None, metric: 0 }
}

/// "Any" as a destination is this machine (ip(7), `INADDR_ANY`).
pub(crate) fn here_if_unspecified(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        _ => to,
    }
}

/// The link-local address made from the hardware address (RFC 4291 appendix A).
pub(crate) fn link_local(mac: EthernetAddress) -> Ipv6Addr {
    let m = mac.0;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(m[0] ^ 2, m[1]), word(m[2], 0xff), word(0xfe, m[3]), word(m[4], m[5]))
}

/// The hardware address of a group (RFC 1112 section 6.4, RFC 2464 section 7) or of everyone.
pub(crate) fn group_mac(address: IpAddr) -> EthernetAddress {
    match address {
        IpAddr::V4(v4) if v4.is_multicast() => {
            let [_, b, c, d] = v4.octets();
            EthernetAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V4(_) => EthernetAddress::BROADCAST,
        IpAddr::V6(v6) => {
            let o = v6.octets();
            EthernetAddress([0x33, 0x33, o[12], o[13], o[14], o[15]])
        }
    }
}
