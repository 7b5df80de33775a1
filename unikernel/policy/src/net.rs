//! Which addresses an app may bind and connect to: the word `allow-net=`, about TCP and UDP.
//!
//! ```text
//! allow-net=bind:0.0.0.0:80,connect:10.0.0.0/8:5432,connect:[2001:db8::]/32:443,bind:*:8000-8099
//!
//! rules   := "none" | rule { "," rule }
//! rule    := ( "bind" | "connect" ) ":" network ":" ports
//! network := "*" | address [ "/" length ]     an IPv6 address in brackets
//! ports   := "*" | port | port "-" port       both ends included
//! ```
//!
//! To send a datagram to an address is to connect to it.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use crate::NONE;

/// What is done with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetAction {
    /// A socket is bound to it.
    Bind,
    /// A connection is made to it, or a datagram sent.
    Connect,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetRule {
    action: NetAction,
    /// An address and the length of its prefix; `None` for all.
    network: Option<(IpAddr, u8)>,
    ports: RangeInclusive<u16>,
}

/// Reads the word's value; `None` if it has another form. No rule allows nothing.
pub fn parse(text: &str) -> Option<Vec<NetRule>> {
    if text == NONE {
        return Some(Vec::new());
    }
    text.split(',').map(NetRule::parse).collect()
}

impl NetRule {
    fn parse(text: &str) -> Option<Self> {
        let (action, place) = text.split_once(':')?;
        let action = match action {
            "bind" => NetAction::Bind,
            "connect" => NetAction::Connect,
            _ => return None,
        };
        let (network, ports) = place.rsplit_once(':')?;
        let network = if network == "*" { None } else { Some(parse_network(network)?) };
        Some(Self { action, network, ports: parse_ports(ports)? })
    }

    /// True if the rule allows this. An IPv4 address that is written as one of IPv6 is the IPv4 address.
    pub fn allows(&self, action: NetAction, address: IpAddr, port: u16) -> bool {
        let is_within = self.network.is_none_or(|network| contains(network, address.to_canonical()));
        self.action == action && is_within && self.ports.contains(&port)
    }
}

fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = match address.strip_prefix('[') {
        Some(inner) => IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(most);
    (len <= most).then_some((address, len))
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    if text == "*" {
        return Some(0..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

fn contains((network, len): (IpAddr, u8), address: IpAddr) -> bool {
    let differ = |a: u128, b: u128, bits: u32| {
        let shift = bits - u32::from(len).min(bits);
        a.checked_shr(shift).unwrap_or(0) != b.checked_shr(shift).unwrap_or(0)
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            !differ(network.to_bits().into(), address.to_bits().into(), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => !differ(network.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rules: &str, action: NetAction, address: &str, port: u16) -> bool {
        let rules = parse(rules).unwrap();
        rules.iter().any(|rule| rule.allows(action, address.parse().unwrap(), port))
    }

    #[test]
    fn addresses_are_compared_by_their_prefix() {
        let rules = "bind:0.0.0.0:80,connect:10.0.0.0/8:5432,connect:[2001:db8::]/32:443,bind:*:8000-8099";
        assert!(
            allows(rules, NetAction::Bind, "0.0.0.0", 80) && !allows(rules, NetAction::Bind, "0.0.0.0", 81)
        );
        assert!(!allows(rules, NetAction::Bind, "::", 80) && allows(rules, NetAction::Bind, "::", 8099));
        assert!(allows(rules, NetAction::Connect, "10.9.8.7", 5432));
        assert!(allows(rules, NetAction::Connect, "::ffff:10.9.8.7", 5432), "the same address");
        assert!(!allows(rules, NetAction::Connect, "11.0.0.0", 5432));
        assert!(!allows(rules, NetAction::Connect, "0.0.0.0", 80), "that is a rule for binding");
        assert!(allows(rules, NetAction::Connect, "2001:db8:1::1", 443));
        assert!(!allows(rules, NetAction::Connect, "2001:db9::1", 443));
        assert!(allows("connect:0.0.0.0/0:*", NetAction::Connect, "1.2.3.4", 0));
        assert!(!allows("connect:0.0.0.0/0:*", NetAction::Connect, "::1", 0));
        assert!(allows("connect:[::]/0:*", NetAction::Connect, "::1", 65_535));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse("none"), Some(Vec::new()), "but this allows nothing");
        for text in [
            "",
            "none,none",
            "bind",
            "bind:80",
            "bind:*",
            "listen:*:80",
            "bind:*:80-",
            "bind:*:90-80",
            "bind:10.0.0.0/33:80",
            "bind:::80",
            "bind:[::]/129:1",
            "bind:*:+80",
            "bind:host:80",
            "bind:*:65536",
            "bind:*:80,",
            "bind:*: 80",
            "bind:*:",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
