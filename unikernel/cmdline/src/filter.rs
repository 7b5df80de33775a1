//! The words of the packet filter. `allow=` and `deny=` are rules, asked in the order in which they stand; the
//! first that matches decides. `filter=deny` denies what no rule names; `filter=allow`, the default, allows it.
//!
//! ```text
//! rule     := protocol [ "/" ports ] [ ":" network ]
//! protocol := "tcp" | "udp" | "icmp" | "any"
//! ports    := port | port "-" port             local ports, both ends included; not with icmp
//! network  := address [ "/" length ]           where packets come from, IPv4 or IPv6
//! ```
//!
//! So `filter=deny allow=tcp/80:10.0.0.0/8 allow=icmp` serves one network on one port and answers pings.

use core::net::IpAddr;
use core::ops::RangeInclusive;

/// A protocol that rules can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterProtocol {
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `icmp`, that of IPv6 too.
    Icmp,
}

/// One rule of the packet filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterRule {
    /// `allow=` or `deny=`.
    pub is_allowed: bool,
    /// The protocol; none for `any`.
    pub protocol: Option<FilterProtocol>,
    /// Local ports.
    pub ports: Option<RangeInclusive<u16>>,
    /// The network that packets come from: an address and the length of its prefix.
    pub source: Option<(IpAddr, u8)>,
}

/// What a rule looks like, for messages.
pub(crate) const EXPECTED: &str = "a rule such as `tcp/80`, `udp/53:10.0.0.0/8` or `any:2001:db8::/32`";

impl FilterRule {
    /// Reads what stands behind `allow=` or `deny=`.
    pub(crate) fn parse(text: &str, is_allowed: bool) -> Option<Self> {
        let (what, source) = match text.split_once(':') {
            Some((what, network)) => (what, Some(parse_network(network)?)),
            None => (text, None),
        };
        let (name, ports) = match what.split_once('/') {
            Some((name, ports)) => (name, Some(parse_ports(ports)?)),
            None => (what, None),
        };
        let protocol = match name {
            "tcp" => Some(FilterProtocol::Tcp),
            "udp" => Some(FilterProtocol::Udp),
            "icmp" if ports.is_none() => Some(FilterProtocol::Icmp),
            "any" => None,
            _ => return None,
        };
        Some(Self { is_allowed, protocol, ports, source })
    }
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// Reads an address with an optional prefix length.
pub(crate) fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(most);
    (len <= most).then_some((address, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule = FilterRule::parse("tcp/80-90:10.0.0.0/8", true).unwrap();
        assert_eq!(
            (rule.is_allowed, rule.protocol, rule.ports),
            (true, Some(FilterProtocol::Tcp), Some(80..=90))
        );
        assert_eq!(rule.source, Some(("10.0.0.0".parse().unwrap(), 8)));
        let rule = FilterRule::parse("any:2001:db8::/32", false).unwrap();
        assert_eq!((rule.protocol, rule.ports), (None, None));
        assert_eq!(rule.source, Some(("2001:db8::".parse().unwrap(), 32)));
        assert_eq!(
            FilterRule::parse("udp/53:::1", true).unwrap().source,
            Some(("::1".parse().unwrap(), 128))
        );
        assert_eq!(FilterRule::parse("any/53", true).unwrap().ports, Some(53..=53));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "tcp/",
            "tcp/0x50",
            "tcp/90-80",
            "icmp/8",
            "sctp",
            "tcp:10.0.0.0/33",
            "tcp:",
            "tcp/80:host",
            "tcp/65536",
        ] {
            assert_eq!(FilterRule::parse(text, true), None, "{text}");
        }
    }
}
