//! ICMPv6: neighbour discovery (RFC 4861), router advertisements, echo. Errors go to `errors`, reports of group
//! membership to `groups`.

use core::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::TxToken;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, HardwareAddress, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Cidr,
    NdiscNeighborFlags, NdiscRepr,
};

use crate::config::{Ipv6Address, NetConfig};
use crate::icmp_errors::Complaint;
use crate::ingress::{IpPacket, RxOrigin};
use crate::route::group_mac;
use crate::slaac::{Ask, Prefix};
use crate::stack::Stack;
use crate::wire;

/// All stations, and all routers, of the link (RFC 4291 section 2.7.1).
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What proves that a packet has not come through a router (RFC 4861 section 6.1).
const ON_LINK_HOPS: u8 = 255;
/// Offset of the hop limit in an IPv6 header.
const HOP_LIMIT: usize = 7;
/// Where options begin: in a router's advertisement, and in messages about neighbours.
const ROUTER_OPTIONS: usize = 16;
const NEIGHBOR_OPTIONS: usize = 24;
/// Types of options.
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;

impl Stack {
    /// Takes in an ICMPv6 packet.
    pub(crate) fn icmpv6_in<T: TxToken>(
        &mut self,
        ip: &IpPacket<'_>,
        frame: &[u8],
        link: RxOrigin,
        token: T,
    ) {
        let (IpAddr::V6(from), IpAddr::V6(to), 8..) = (ip.from, ip.to, ip.payload.len()) else {
            return self.counters.malformed += 1;
        };
        // Type, code and checksum are there; each message looks after the rest.
        let icmp = Icmpv6Packet::new_unchecked(ip.payload);
        if link != RxOrigin::Loopback && !icmp.verify_checksum(&from, &to) {
            return self.counters.bad_checksum += 1;
        }
        let is_near =
            link != RxOrigin::Loopback && ip.packet[HOP_LIMIT] == ON_LINK_HOPS && icmp.msg_code() == 0;
        match icmp.msg_type() {
            Icmpv6Message::EchoRequest if self.addresses.owns(ip.to) || self.is_member_of(to) => {
                if !self.denies_packet(IpProtocol::Icmpv6, ip.from, link) {
                    self.echo(ip, link, token);
                }
            }
            Icmpv6Message::NeighborSolicit if is_near => self.solicited(ip.payload, from, frame),
            Icmpv6Message::NeighborAdvert if is_near => self.neighbor_advertised(ip.payload, frame),
            Icmpv6Message::RouterAdvert if is_near && from.is_unicast_link_local() => {
                self.router_advertised(ip.payload, from);
            }
            Icmpv6Message::MldQuery if ip.payload.len() >= 24 => {
                self.query_in(u64::from(u16::from_be_bytes([ip.payload[4], ip.payload[5]])));
            }
            _ if icmp.msg_type().is_error() && self.addresses.owns(ip.to) => {
                let complaint = Complaint::parse_v6(ip.from, ip.payload);
                complaint.iter().for_each(|complaint| self.icmp_error_rx(complaint, frame));
            }
            _ => self.counters.unknown_protocol += 1,
        }
    }

    /// Somebody asks who has an address (RFC 4861 section 7.2.3).
    fn solicited(&mut self, message: &[u8], from: Ipv6Addr, frame: &[u8]) {
        let Some(target) = target_of(message) else { return self.counters.malformed += 1 };
        if !self.addresses.has(target.into()) {
            return self.counters.not_for_us += 1;
        }
        let asker = EthernetFrame::new_unchecked(frame).src_addr();
        let names_itself = option(message, NEIGHBOR_OPTIONS, SOURCE_ADDRESS).is_some();
        if names_itself && asker.is_unicast() && !from.is_unspecified() {
            self.learn_neighbor(from.into(), asker);
        }
        if self.hand_over_to_others(frame) {
            return;
        }
        let is_optimistic = self.autoconf.as_ref().is_some_and(|autoconf| autoconf.is_optimistic(target));
        if from.is_unspecified() {
            // Another station would like to have the address.
            if is_optimistic && asker != self.config.mac {
                return self.give_up(target);
            }
            return self.advertise(
                target,
                ALL_NODES,
                group_mac(ALL_NODES.into()),
                NdiscNeighborFlags::OVERRIDE,
            );
        }
        let mut flags = NdiscNeighborFlags::SOLICITED;
        // Others may know better whose it is (RFC 4429 section 3.3).
        flags.set(NdiscNeighborFlags::OVERRIDE, !is_optimistic);
        self.advertise(target, from, asker, flags);
    }

    fn advertise(&mut self, target: Ipv6Addr, to: Ipv6Addr, mac: EthernetAddress, flags: NdiscNeighborFlags) {
        let lladdr = Some(HardwareAddress::Ethernet(self.config.mac).into());
        let repr = NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr };
        let frame = wire::ndisc((self.config.mac, mac), target, to, repr);
        self.push_outbox(frame);
    }

    /// A station says of itself where it is.
    fn neighbor_advertised(&mut self, message: &[u8], frame: &[u8]) {
        let Some(target) = target_of(message) else { return self.counters.malformed += 1 };
        if self.addresses.has(target.into()) {
            if EthernetFrame::new_unchecked(frame).src_addr() != self.config.mac {
                self.give_up(target);
            }
            return;
        }
        let named = option(message, NEIGHBOR_OPTIONS, TARGET_ADDRESS).and_then(|option| option.get(2..8));
        let mac = named.map_or(EthernetFrame::new_unchecked(frame).src_addr(), EthernetAddress::from_bytes);
        // Only who was asked for: nobody fills the table unasked.
        if mac.is_unicast() && self.neighbors.has_heard_of(target.into()) {
            self.learn_neighbor(target.into(), mac);
        }
        self.hand_over_to_others(frame);
    }

    fn give_up(&mut self, address: Ipv6Addr) {
        if self.autoconf.as_mut().is_some_and(|autoconf| autoconf.duplicate(address)) {
            log::warn!("another station has {address}: it is given up");
            self.counters.duplicate_addresses += 1;
            self.renew_ipv6();
        }
    }

    fn router_advertised(&mut self, message: &[u8], from: Ipv6Addr) {
        let now = self.now;
        let (Some(autoconf), Some(head)) = (&mut self.autoconf, message.first_chunk::<ROUTER_OPTIONS>())
        else {
            return;
        };
        let prefixes = options(message, ROUTER_OPTIONS).filter_map(prefix);
        autoconf.advertised(now, from, u16::from_be_bytes([head[6], head[7]]), prefixes);
        self.renew_ipv6();
    }

    /// Asks what autoconfiguration wants to know, and takes over what has changed.
    pub(crate) fn run_autoconf(&mut self) {
        let now = self.now;
        let Some(autoconf) = &mut self.autoconf else { return };
        let asks = autoconf.run(now);
        for ask in asks {
            let frame = match ask {
                Ask::Probe(address) => {
                    let to = wire::solicited_node(address);
                    // Switches that listen to reports must let the answers through (RFC 4862 section 5.4.2).
                    self.report(to.into());
                    let repr = NdiscRepr::NeighborSolicit { target_addr: address, lladdr: None };
                    let macs = (self.config.mac, group_mac(to.into()));
                    wire::ndisc(macs, Ipv6Addr::UNSPECIFIED, to, repr)
                }
                Ask::Router => {
                    let macs = (self.config.mac, group_mac(ALL_ROUTERS.into()));
                    let repr = NdiscRepr::RouterSolicit { lladdr: None };
                    wire::ndisc(macs, Ipv6Addr::UNSPECIFIED, ALL_ROUTERS, repr)
                }
            };
            self.push_outbox(frame);
        }
        self.renew_ipv6();
    }

    /// Takes over the addresses and routes of autoconfiguration.
    pub(crate) fn renew_ipv6(&mut self) {
        let Some(autoconf) = &self.autoconf else { return };
        let ipv6 = autoconf.addresses(self.now);
        let is_known =
            |own: &&Ipv6Address| self.addresses.net.ipv6.iter().any(|known| known.address == own.address);
        for own in ipv6.iter().filter(|own| !is_known(own) && !own.address.address().is_unicast_link_local())
        {
            log::info!("address {}", own.address);
        }
        self.set_net(NetConfig { ipv6, ..self.addresses.net.clone() });
    }
}

fn target_of(message: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = message.get(8..NEIGHBOR_OPTIONS)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets)).filter(|target| !target.is_multicast())
}

/// The options of a message, each whole, with its type and length; ends at the first that makes no sense.
fn options(message: &[u8], start: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = message.get(start..).unwrap_or_default();
    core::iter::from_fn(move || {
        let len = usize::from(*rest.get(1)?) * 8;
        if len == 0 || len > rest.len() {
            return None;
        }
        let (option, others) = rest.split_at(len);
        rest = others;
        Some(option)
    })
}

fn option(message: &[u8], start: usize, kind: u8) -> Option<&[u8]> {
    options(message, start).find(|option| option[0] == kind)
}

fn prefix(option: &[u8]) -> Option<Prefix> {
    let bytes: &[u8; 32] = option.try_into().ok().filter(|bytes: &&[u8; 32]| bytes[0] == PREFIX)?;
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let octets: [u8; 16] = bytes[16..].try_into().ok()?;
    if bytes[2] > 128 {
        return None;
    }
    Some(Prefix {
        network: Ipv6Cidr::new(Ipv6Addr::from(octets), bytes[2]),
        is_on_link: bytes[3] & 0x80 != 0,
        is_autonomous: bytes[3] & 0x40 != 0,
        valid_seconds: word(4),
        preferred_seconds: word(8),
    })
}
