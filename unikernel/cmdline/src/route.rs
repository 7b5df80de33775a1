//! Addresses and routes as words: `ip=`, `gw=` and `route=`.
//!
//! ```text
//! ip=dhcp | ip=none | ip=10.0.2.15/24          IPv4: one of them
//! ip=2001:db8::15/64                           IPv6: as many as wanted, beside what routers advertise
//! slaac=off                                    routers' advertisements are not asked for and not believed
//! gw=10.0.2.2  gw=2001:db8::1                  default routers
//! route=10.1.0.0/16:10.0.2.1                   a network and the router that leads there
//! route=2001:db8:1::/48:2001:db8::1@100        the same with a metric; the least goes first
//! ```

use core::net::IpAddr;

use crate::filter::parse_network;

/// A route of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destinations: an address and the length of their prefix.
    pub network: (IpAddr, u8),
    /// The router.
    pub gateway: IpAddr,
    /// Among routes to the same network, the least goes first.
    pub metric: u32,
}

/// What a route looks like, for messages.
pub(crate) const EXPECTED: &str = "network/length:router[@metric], such as `10.1.0.0/16:10.0.2.1`";

impl Route {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (text, metric) = match text.split_once('@') {
            Some((text, metric)) => (text, metric.parse().ok()?),
            None => (text, 0),
        };
        // The network of IPv6 has colons, so its length comes first.
        let (address, rest) = text.split_once('/')?;
        let (len, gateway) = rest.split_once(':')?;
        let network = parse_network(&text[..address.len() + 1 + len.len()])?;
        let gateway: IpAddr = gateway.parse().ok()?;
        (network.0.is_ipv4() == gateway.is_ipv4()).then_some(Self { network, gateway, metric })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let route = Route::parse("10.1.0.0/16:10.0.2.1").unwrap();
        assert_eq!((route.network.1, route.gateway, route.metric), (16, "10.0.2.1".parse().unwrap(), 0));
        let route = Route::parse("2001:db8:1::/48:2001:db8::1@100").unwrap();
        assert_eq!(route.network, ("2001:db8:1::".parse().unwrap(), 48));
        assert_eq!((route.gateway, route.metric), ("2001:db8::1".parse().unwrap(), 100));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.1.0.0:10.0.2.1",
            "10.1.0.0/33:10.0.2.1",
            "10.1.0.0/16",
            "10.1.0.0/16:fe80::1",
            "10.1.0.0/16:10.0.2.1@x",
            "::/0:",
        ] {
            assert_eq!(Route::parse(text), None, "{text}");
        }
    }
}
