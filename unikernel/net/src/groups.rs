//! Multicast groups (RFC 1112): who has joined which, and the reports that let routers and switches know: IGMPv2
//! (RFC 2236) and MLDv1 (RFC 2710), which routers of the later versions understand as well. One answer to a query
//! reports every group, after a random time.
//!
//! A datagram to a group goes to every socket on its port that is bound to the group or to no address, as long as
//! anybody here has joined the group, but for sockets that hear only what they have joined themselves (Linux:
//! `IP_MULTICAST_ALL`), or only some senders (RFC 4607; routers are asked for all of them, and others are dropped here).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::error::GroupError;
use crate::id::UdpId;
use crate::phy::HEADER_LEN;
use crate::route::group_mac;
use crate::stack::Stack;
use crate::wire;

/// Groups that one socket can join (Linux: `igmp_max_memberships`).
const MAX_MEMBERSHIPS: usize = 20;
/// Groups of the machine at most.
const MAX_GROUPS: usize = 256;
/// A report may get lost: it is sent twice, so far apart (RFC 2236 section 8.10).
const UNSOLICITED_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time that an answer to a query waits, whatever the query says.
const MAX_RESPONSE_MS: u64 = 10_000;
/// Groups that everybody is in, and that nobody reports.
const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Messages of IGMP and MLD.
const IGMP_QUERY: u8 = 0x11;
const IGMP_REPORT: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
/// An IPv4 header with the router alert option (RFC 2113).
const ALERT_V4_HEADER: usize = 24;
const ALERT_V4: [u8; 4] = [0x94, 4, 0, 0];
/// A hop-by-hop header with the same for IPv6 (RFC 2711), padded to eight bytes.
const ALERT_V6: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

/// Where a group is joined, and where datagrams for groups leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupLink {
    /// The network card.
    Nic,
    /// Within the machine.
    Loopback,
}

/// A group that a socket has joined.
pub(crate) type Membership = (IpAddr, GroupLink);

/// Every group that somebody here has joined.
#[derive(Default)]
pub(crate) struct Groups {
    /// How many sockets are in each.
    joined: Vec<(Membership, usize)>,
    /// Groups to report once more, and when.
    again: Option<(Instant, Vec<IpAddr>)>,
    /// When a query is to be answered.
    answer_at: Option<Instant>,
}

impl Groups {
    /// True if datagrams to `group` are for somebody here.
    pub(crate) fn has(&self, group: IpAddr) -> bool {
        group == IpAddr::V4(ALL_SYSTEMS)
            || group == IpAddr::V6(crate::icmpv6::ALL_NODES)
            || self.joined.iter().any(|((joined, _), _)| *joined == group)
    }

    /// When [`Stack::run_groups`] is next wanted.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.again.as_ref().map(|(at, _)| *at), self.answer_at].into_iter().flatten().min()
    }

    fn join(&mut self, membership: Membership) -> Result<bool, GroupError> {
        if let Some((_, count)) = self.joined.iter_mut().find(|(joined, _)| *joined == membership) {
            *count += 1;
            return Ok(false);
        }
        if self.joined.len() == MAX_GROUPS {
            return Err(GroupError::TooMany);
        }
        self.joined.push((membership, 1));
        Ok(true)
    }

    /// True if nobody is left.
    fn leave(&mut self, membership: Membership) -> bool {
        let Some(index) = self.joined.iter().position(|(joined, _)| *joined == membership) else {
            return false;
        };
        self.joined[index].1 -= 1;
        let is_last = self.joined[index].1 == 0;
        if is_last {
            self.joined.swap_remove(index);
        }
        is_last
    }
}

impl Stack {
    /// Joins a group, on the card if `link` says nothing and there is one.
    pub fn udp_join(&mut self, id: UdpId, group: IpAddr, link: Option<GroupLink>) -> Result<(), GroupError> {
        let link = self.group_link(link)?;
        let socket = self.udp.get_mut(id).ok_or(GroupError::BadId)?;
        if !group.is_multicast() {
            return Err(GroupError::NotAGroup);
        }
        if socket.groups.contains(&(group, link)) {
            return Err(GroupError::Already);
        }
        if socket.groups.len() == MAX_MEMBERSHIPS {
            return Err(GroupError::TooMany);
        }
        let is_first = self.groups.join((group, link))?;
        socket.groups.push((group, link));
        if is_first && link == GroupLink::Nic {
            self.report(group);
            let (_, again) = self.groups.again.get_or_insert((self.now + UNSOLICITED_INTERVAL, Vec::new()));
            again.push(group);
        }
        Ok(())
    }

    /// Leaves a group, on any link if `link` is none.
    pub fn udp_leave(&mut self, id: UdpId, group: IpAddr, link: Option<GroupLink>) -> Result<(), GroupError> {
        let socket = self.udp.get_mut(id).ok_or(GroupError::BadId)?;
        let is_it = |(joined, on): &Membership| *joined == group && link.is_none_or(|link| link == *on);
        let index = socket.groups.iter().position(is_it).ok_or(GroupError::NotJoined)?;
        let membership = socket.groups.swap_remove(index);
        self.left(membership);
        Ok(())
    }

    /// A socket is no longer in a group.
    pub(crate) fn left(&mut self, membership: Membership) {
        if self.groups.leave(membership) && membership.1 == GroupLink::Nic {
            self.done(membership.0);
        }
    }

    /// The link that datagrams for groups take.
    pub(crate) fn group_link(&self, wanted: Option<GroupLink>) -> Result<GroupLink, GroupError> {
        match wanted {
            Some(GroupLink::Nic) if !self.has_nic => Err(GroupError::NoSuchLink),
            Some(link) => Ok(link),
            None if self.has_nic => Ok(GroupLink::Nic),
            None => Ok(GroupLink::Loopback),
        }
    }

    /// A router asks who is in which group: `longest_ms` is the time it gives for answers.
    pub(crate) fn query_in(&mut self, longest_ms: u64) {
        let wait_ms = (self.random)() % longest_ms.clamp(1, MAX_RESPONSE_MS);
        let at = self.now + Duration::from_millis(wait_ms);
        self.groups.answer_at = Some(self.groups.answer_at.map_or(at, |known| known.min(at)));
    }

    /// Takes in a message of IGMP.
    pub(crate) fn igmp_in(&mut self, message: &[u8]) {
        let Some(&[kind, tenths, ..]) = message.first_chunk::<8>() else {
            return self.counters.malformed += 1;
        };
        if wire::sum(message) != u16::MAX {
            return self.counters.bad_checksum += 1;
        }
        if kind == IGMP_QUERY {
            // Routers of the first version name no time: ten seconds are meant (RFC 2236 section 4).
            self.query_in(if tenths == 0 { MAX_RESPONSE_MS } else { u64::from(tenths) * 100 });
        }
    }

    /// Sends the reports that are due.
    pub(crate) fn run_groups(&mut self) {
        let now = self.now;
        if let Some((_, groups)) = self.groups.again.take_if(|(at, _)| *at <= now) {
            for group in groups {
                if self.groups.has(group) {
                    self.report(group);
                }
            }
        }
        if self.groups.answer_at.take_if(|at| *at <= now).is_some() {
            let joined = self.groups.joined.iter().filter(|((_, link), _)| *link == GroupLink::Nic);
            let nodes = self.addresses.net.ipv6.iter().map(|own| wire::solicited_node(own.address.address()));
            let all: Vec<IpAddr> =
                joined.map(|((group, _), _)| *group).chain(nodes.map(IpAddr::V6)).collect();
            all.into_iter().for_each(|group| self.report(group));
        }
    }

    /// Lets routers and switches know that somebody here is in a group.
    pub(crate) fn report(&mut self, group: IpAddr) {
        match group {
            IpAddr::V4(v4) => self.send_igmp(IGMP_REPORT, v4, v4),
            IpAddr::V6(v6) => self.send_mld(MLD_REPORT, v6, v6),
        }
    }

    fn done(&mut self, group: IpAddr) {
        match group {
            IpAddr::V4(v4) => self.send_igmp(IGMP_LEAVE, v4, ALL_ROUTERS_V4),
            IpAddr::V6(v6) => self.send_mld(MLD_DONE, v6, ALL_ROUTERS_V6),
        }
    }

    fn send_igmp(&mut self, kind: u8, group: Ipv4Addr, to: Ipv4Addr) {
        if group == ALL_SYSTEMS {
            return;
        }
        let own = self.addresses.net.ipv4.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |own| own.address.address());
        let mut packet = alloc::vec![0; ALERT_V4_HEADER + 8];
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        ip.set_version(4);
        ip.set_header_len(ALERT_V4_HEADER as u8);
        ip.set_total_len((ALERT_V4_HEADER + 8) as u16);
        ip.set_hop_limit(1);
        ip.set_next_header(IpProtocol::Igmp);
        ip.set_src_addr(own);
        ip.set_dst_addr(to);
        packet[20..ALERT_V4_HEADER].copy_from_slice(&ALERT_V4);
        packet[ALERT_V4_HEADER] = kind;
        packet[ALERT_V4_HEADER + 4..].copy_from_slice(&group.octets());
        let sum = !wire::sum(&packet[ALERT_V4_HEADER..]);
        packet[ALERT_V4_HEADER + 2..ALERT_V4_HEADER + 4].copy_from_slice(&sum.to_be_bytes());
        Ipv4Packet::new_unchecked(&mut packet).fill_checksum();
        self.send_to_group(to.into(), &packet);
    }

    fn send_mld(&mut self, kind: u8, group: Ipv6Addr, to: Ipv6Addr) {
        if group == crate::icmpv6::ALL_NODES {
            return;
        }
        let near = self.addresses.net.ipv6.iter().map(|own| own.address.address());
        let own = near.into_iter().find(Ipv6Addr::is_unicast_link_local).unwrap_or(Ipv6Addr::UNSPECIFIED);
        let mut packet = alloc::vec![0; 40 + ALERT_V6.len() + 24];
        let mut ip = Ipv6Packet::new_unchecked(&mut packet);
        ip.set_version(6);
        ip.set_payload_len((ALERT_V6.len() + 24) as u16);
        ip.set_next_header(IpProtocol::HopByHop);
        ip.set_hop_limit(1);
        ip.set_src_addr(own);
        ip.set_dst_addr(to);
        packet[40..48].copy_from_slice(&ALERT_V6);
        packet[48] = kind;
        packet[56..].copy_from_slice(&group.octets());
        Icmpv6Packet::new_unchecked(&mut packet[48..]).fill_checksum(&own, &to);
        self.send_to_group(to.into(), &packet);
    }

    fn send_to_group(&mut self, to: IpAddr, packet: &[u8]) {
        let header = wire::header(group_mac(to), self.config.mac, to.is_ipv4());
        let mut frame = alloc::vec![0; HEADER_LEN];
        frame.extend_from_slice(packet);
        self.send_frame(frame, header);
    }
}
