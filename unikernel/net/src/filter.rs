//! The packet filter: which packets of strangers reach the tables of the stack at all.
//!
//! A [`Filter`] is a list of [`Rule`]s and an answer for what none of them names. The first rule that matches
//! decides. It is asked about packets from the NIC before any state is made for them: no connection, no record,
//! no answer. It is not asked about
//!
//! - what belongs to a conversation that exists: segments of a connection, datagrams from whom the socket has
//!   sent to lately ([`Asked`]), errors about something that was sent;
//! - what the machine itself lives from: ARP, NDP, DHCP, router advertisements;
//! - loopback.
//!
//! An open filter (no rule, everything allowed) costs one comparison a packet.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;

use smoltcp::wire::{IpCidr, IpProtocol};

use crate::ingress::RxOrigin;
use crate::stack::Stack;

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// It is taken in.
    #[default]
    Allow,
    /// It is dropped without an answer.
    Deny,
}

/// A protocol that rules can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6: what asks for an answer (echo).
    Icmp,
}

impl Protocol {
    /// The protocol of an IP header, if rules can name it.
    pub(crate) fn of(protocol: IpProtocol) -> Option<Self> {
        match protocol {
            IpProtocol::Tcp => Some(Self::Tcp),
            IpProtocol::Udp => Some(Self::Udp),
            IpProtocol::Icmp | IpProtocol::Icmpv6 => Some(Self::Icmp),
            _ => None,
        }
    }
}

/// One rule. What it leaves out matches everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What happens to the packets that it matches.
    pub verdict: Action,
    /// The protocol, or any, those without a name of their own included.
    pub protocol: Option<Protocol>,
    /// The local ports. A packet without ports does not match a rule that has some.
    pub ports: Option<RangeInclusive<u16>>,
    /// The network that the packet comes from.
    pub source: Option<IpCidr>,
}

impl Rule {
    fn names(&self, protocol: Option<Protocol>, source: IpAddr) -> bool {
        let is_protocol = self.protocol.is_none() || self.protocol == protocol;
        is_protocol && self.source.is_none_or(|network| contains(network, source))
    }

    fn matches(&self, protocol: Option<Protocol>, port: Option<u16>, source: IpAddr) -> bool {
        let is_port = self.ports.as_ref().is_none_or(|ports| port.is_some_and(|port| ports.contains(&port)));
        is_port && self.names(protocol, source)
    }
}

/// True if `address` is of `network`; never across families.
fn contains(network: IpCidr, address: IpAddr) -> bool {
    match (network, address) {
        (IpCidr::Ipv4(network), IpAddr::V4(address)) => network.contains_addr(&address),
        (IpCidr::Ipv6(network), IpAddr::V6(address)) => network.contains_addr(&address),
        _ => false,
    }
}

/// The rules in force.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Asked in this order.
    pub rules: Vec<Rule>,
    /// For what no rule matches.
    pub otherwise: Action,
}

impl Filter {
    /// True if nothing can be denied.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && self.otherwise == Action::Allow
    }

    /// What happens to a packet of a stranger. `port` is ours, for protocols that have ports.
    pub fn judge(&self, protocol: Option<Protocol>, port: Option<u16>, source: IpAddr) -> Action {
        let rule = self.rules.iter().find(|rule| rule.matches(protocol, port, source));
        rule.map_or(self.otherwise, |rule| rule.verdict)
    }

    /// What happens to a fragment, whose ports cannot be seen yet: it is denied only if that would be the
    /// answer for every port. The datagram is judged again when it is whole.
    pub fn judge_fragment(&self, protocol: Option<Protocol>, source: IpAddr) -> Action {
        for rule in self.rules.iter().filter(|rule| rule.names(protocol, source)) {
            match (rule.verdict, &rule.ports) {
                (Action::Allow, _) => return Action::Allow,
                (Action::Deny, None) => return Action::Deny,
                // The other ports are for the rules that follow.
                (Action::Deny, Some(_)) => {}
            }
        }
        self.otherwise
    }
}

/// Peers that a UDP socket has sent to lately: their answers are expected.
#[derive(Default)]
pub(crate) struct Asked(VecDeque<SocketAddr>);

/// As many as a resolver asks at a time, generously.
const ASKED_PEERS: usize = 32;

impl Asked {
    /// Takes note of a destination; the oldest gives way.
    pub(crate) fn note(&mut self, peer: SocketAddr) {
        if self.0.contains(&peer) {
            return;
        }
        if self.0.len() == ASKED_PEERS {
            self.0.pop_front();
        }
        self.0.push_back(peer);
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|peer| peer.ip() == address)
    }

    pub(crate) fn contains(&self, peer: SocketAddr) -> bool {
        self.0.contains(&peer)
    }
}

impl Stack {
    /// True if a segment is a stranger's whom the filter denies; counted.
    #[inline]
    pub(crate) fn denies_segment(&mut self, local: SocketAddr, remote: SocketAddr, link: RxOrigin) -> bool {
        if self.config.filter.is_open() || link == RxOrigin::Loopback || self.is_pair_used(local, remote) {
            return false;
        }
        let verdict = self.config.filter.judge(Some(Protocol::Tcp), Some(local.port()), remote.ip());
        self.counters.filtered_tcp += u64::from(verdict == Action::Deny);
        verdict == Action::Deny
    }

    /// True if a datagram is a stranger's whom the filter denies; counted.
    pub(crate) fn denies_datagram(&mut self, local: SocketAddr, remote: SocketAddr, link: RxOrigin) -> bool {
        if self.config.filter.is_open() || link == RxOrigin::Loopback {
            return false;
        }
        if self.config.filter.judge(Some(Protocol::Udp), Some(local.port()), remote.ip()) == Action::Allow {
            return false;
        }
        let socket = self.udp.lookup(local, remote).and_then(|id| self.udp.get(id));
        let is_expected = socket.is_some_and(|socket| socket.asked.contains(remote));
        self.counters.filtered_udp += u64::from(!is_expected);
        !is_expected
    }

    /// True if the filter denies a packet of a protocol without ports; counted.
    pub(crate) fn denies_packet(&mut self, protocol: IpProtocol, source: IpAddr, link: RxOrigin) -> bool {
        if self.config.filter.is_open() || link == RxOrigin::Loopback {
            return false;
        }
        let protocol = Protocol::of(protocol);
        let is_denied = self.config.filter.judge(protocol, None, source) == Action::Deny;
        match protocol {
            Some(Protocol::Icmp) => self.counters.filtered_icmp += u64::from(is_denied),
            _ => self.counters.filtered_other += u64::from(is_denied),
        }
        is_denied
    }
}
