//! The word of the owner's channel: where the kernel tells what goes on in the machine, and whom.
//!
//! ```text
//! observe  := "tcp:" port ":" network { "," network }
//! network  := address [ "/" length ]           as in rules of the packet filter; `0.0.0.0/0,::/0` for everybody
//! ```
//!
//! What is told there is nobody else's business, so there is no default for whom.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::error::ParseError;
use crate::filter::{FilterProtocol, FilterRule, parse_network};

pub(crate) const KEY: &str = "observe";

/// The owner's channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observe {
    /// The TCP port.
    pub port: u16,
    /// Who may connect to it: addresses and the lengths of their prefixes.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Observe {
    /// Reads what stands behind `observe=`.
    pub(crate) fn parse(value: &str) -> Result<Self, ParseError> {
        let expected =
            "a port and who may ask there, such as `tcp:9100:10.0.0.0/8` or `tcp:9100:10.0.2.2,fd00::/8`";
        read(value).ok_or_else(|| ParseError::BadValue(KEY, value.to_owned(), expected))
    }

    /// The rules that keep everybody else away from the port. They go before all others.
    pub(crate) fn rules(&self) -> Vec<FilterRule> {
        let rule = |source: Option<(IpAddr, u8)>| FilterRule {
            is_allowed: source.is_some(),
            protocol: Some(FilterProtocol::Tcp),
            ports: Some(self.port..=self.port),
            source,
        };
        self.networks.iter().copied().map(Some).chain([None]).map(rule).collect()
    }
}

fn read(value: &str) -> Option<Observe> {
    let (port, networks) = value.strip_prefix("tcp:")?.split_once(':')?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port > 0 && is_number)?;
    let networks = networks.split(',').map(parse_network).collect::<Option<Vec<_>>>()?;
    Some(Observe { port, networks })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_port_and_networks_are_read() {
        let observe = Observe::parse("tcp:9100:10.0.0.0/8,fd00::1").unwrap();
        assert_eq!(observe.port, 9100);
        assert_eq!(observe.networks, [("10.0.0.0".parse().unwrap(), 8), ("fd00::1".parse().unwrap(), 128)]);
    }

    #[test]
    fn others_are_denied_after_those_who_may() {
        let rules = Observe::parse("tcp:9100:10.0.0.0/8,fd00::/8").unwrap().rules();
        let told: Vec<_> = rules.iter().map(|rule| (rule.is_allowed, rule.source.is_some())).collect();
        assert_eq!(told, [(true, true), (true, true), (false, false)]);
        assert!(rules.iter().all(|rule| rule.ports == Some(9100..=9100)));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in [
            "",
            "tcp",
            "tcp:9100",
            "tcp:9100:",
            "tcp:0:10.0.0.1",
            "tcp:+1:10.0.0.1",
            "tcp:65536:10.0.0.1",
            "udp:1:::1",
            "tcp:1:x",
            "tcp:1:::1,",
            "tcp:1:1.2.3.4/33",
        ] {
            let error = Observe::parse(value).unwrap_err();
            assert!(format!("{error}").contains("tcp:9100:10.0.0.0/8"), "{value}");
        }
    }
}
