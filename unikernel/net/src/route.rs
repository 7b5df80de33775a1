//! Whose address is it, and which way does it lie: our own addresses and the routing decision,
//! which for a machine with one NIC is loopback, on-link, or the gateway.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::EthernetAddress;

use crate::config::{Ipv4Config, NetConfig};

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

/// The addresses of this machine.
pub(crate) struct Addresses {
    pub(crate) net: NetConfig,
    /// Our IPv4 address and the broadcast address of its network, read with each packet.
    own_v4: Option<Ipv4Addr>,
    broadcast_v4: Option<Ipv4Addr>,
}

impl Addresses {
    pub(crate) fn new(mac: EthernetAddress, has_nic: bool) -> Self {
        let net = NetConfig { ipv4: None, ipv6: has_nic.then(|| link_local(mac)) };
        Self { net, own_v4: None, broadcast_v4: None }
    }

    pub(crate) fn set_ipv4(&mut self, config: Option<Ipv4Config>) {
        self.own_v4 = config.as_ref().map(|config| config.address.address());
        self.broadcast_v4 = config.as_ref().and_then(|config| config.address.broadcast());
        self.net.ipv4 = config;
    }

    /// True for an address that is ours, loopback included.
    #[inline]
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.is_own_v4(v4) || v4.is_loopback(),
            IpAddr::V6(v6) => self.net.ipv6 == Some(v6) || v6.is_loopback(),
        }
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
            IpAddr::V4(v4) => {
                self.is_own_v4(v4) || v4.is_loopback() || v4.is_multicast() || self.is_broadcast(source)
            }
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_loopback() || self.net.ipv6 == Some(v6),
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
        match destination {
            IpAddr::V4(v4) => self.route_v4(v4, self.net.ipv4.as_ref()?),
            IpAddr::V6(v6) => v6.is_unicast_link_local().then_some(Route::Neighbor(destination)),
        }
    }

    fn route_v4(&self, destination: Ipv4Addr, config: &Ipv4Config) -> Option<Route> {
        if destination.is_unspecified() {
            return None;
        }
        if config.address.contains_addr(&destination) {
            return Some(Route::Neighbor(destination.into()));
        }
        config.gateway.map(|gateway| Route::Neighbor(gateway.into()))
    }

    /// The address to send from towards `destination`.
    pub(crate) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        if destination.is_loopback() || self.owns(destination) {
            return Some(destination);
        }
        match destination {
            IpAddr::V4(_) => Some(self.net.ipv4.as_ref()?.address.address().into()),
            IpAddr::V6(_) => self.net.ipv6.map(IpAddr::V6),
        }
    }
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
fn link_local(mac: EthernetAddress) -> Ipv6Addr {
    let m = mac.0;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(m[0] ^ 2, m[1]), word(m[2], 0xff), word(0xfe, m[3]), word(m[4], m[5]))
}

/// The hardware address of a group (RFC 1112 section 6.4, RFC 2464 section 7) or of everyone.
fn group_mac(address: IpAddr) -> EthernetAddress {
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
