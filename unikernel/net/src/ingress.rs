//! The way in: from a frame to the table that its packet belongs to. Whatever does not pass is
//! dropped and counted.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::phy::TxToken;
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message,
    Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket,
};

use crate::fragments::{destination_of, is_extension};
use crate::groups::GroupLink;
use crate::icmp_errors::Complaint;
use crate::id::UdpId;
use crate::phy::{HEADER_LEN, Header, Inbound};
use crate::segment::{Bad, Segment, without_bad_options};
use crate::stack::Stack;
use crate::udp::Datagram;
use crate::udp_control::Arrival;
use crate::wire;

/// Where a packet came from, and so where an answer to it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RxOrigin {
    Loopback,
    /// The NIC: the header of an answer, which returns to the station that sent the packet.
    Nic(Header),
}

impl RxOrigin {
    pub(crate) fn header(self) -> Option<Header> {
        match self {
            Self::Loopback => None,
            Self::Nic(header) => Some(header),
        }
    }
}

/// An IP packet and what its header says.
pub(crate) struct IpPacket<'p> {
    pub(crate) packet: &'p [u8],
    pub(crate) payload: &'p [u8],
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: IpProtocol,
}

impl IpPacket<'_> {
    /// What the header says of a datagram.
    fn arrival(&self, from: SocketAddr, link: RxOrigin, at: Instant) -> Arrival {
        let byte = |index: usize| self.packet.get(index).copied().unwrap_or(0);
        let (traffic_class, hop_limit) = match self.to {
            IpAddr::V4(_) => (byte(1), byte(8)),
            IpAddr::V6(_) => (byte(0) << 4 | byte(1) >> 4, byte(7)),
        };
        let link = if link == RxOrigin::Loopback { GroupLink::Loopback } else { GroupLink::Nic };
        let to = self.to;
        Arrival { from, to, local: to, traffic_class, hop_limit, link, at, drops: 0, segment: None }
    }
}

/// Packets up to this length go whole on every path of IPv4.
const LEAST_PATH: usize = 576;
/// The UDP ports of a DHCP server and its client.
const DHCP_SERVER_PORT: u16 = 67;
const DHCP_CLIENT_PORT: u16 = 68;

impl Stack {
    /// Takes in a frame that lies where the NIC has put it; `token` is the room for an immediate answer.
    ///
    /// A NIC that is faulty or malicious may change a frame while it is looked at. [`Self::fast_path_rx`] reads each length
    /// once and depends on nothing else. Parsers that check a header and read it again get a copy.
    ///
    /// Both callers get the quick branch into their own loop: with an observer there are two, and the compiler made a
    /// call of it, 12 instructions a frame.
    #[inline(always)]
    pub(crate) fn frame_from_nic<T: TxToken>(&mut self, frame: &[u8], token: T) {
        if !self.counted_in(frame) {
            self.copied_in(frame, token);
        }
    }

    /// Takes in a frame that parsers read more than once.
    #[inline(never)]
    fn copied_in<T: TxToken>(&mut self, frame: &[u8], token: T) {
        let mut copy = core::mem::take(&mut self.copy);
        copy.clear();
        if copy.try_reserve(frame.len()).is_ok() {
            copy.extend_from_slice(frame);
            self.slow_path_rx(&copy, token);
        } else {
            self.counters.rx_no_memory += 1;
        }
        self.copy = copy;
    }

    /// Takes in a frame that nobody changes meanwhile.
    pub(crate) fn frame_in<T: TxToken>(&mut self, frame: &[u8], token: T) {
        if !self.counted_in(frame) {
            self.slow_path_rx(frame, token);
        }
    }

    /// Counts a frame, and takes it in if it is what its connection expects next. True if it was.
    #[inline(always)]
    fn counted_in(&mut self, frame: &[u8]) -> bool {
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += frame.len() as u64;
        self.fast_path_rx(frame)
    }

    fn slow_path_rx<T: TxToken>(&mut self, frame: &[u8], token: T) {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            self.counters.malformed += 1;
            return;
        };
        let to = ethernet.dst_addr();
        if to != self.config.mac && to.is_unicast() {
            self.counters.not_for_us += 1;
            return;
        }
        let from = ethernet.src_addr();
        let packet = &frame[HEADER_LEN..];
        match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                let link = RxOrigin::Nic(wire::header(from, self.config.mac, true));
                self.ipv4_in(packet, frame, link, token);
            }
            EthernetProtocol::Ipv6 => {
                let link = RxOrigin::Nic(wire::header(from, self.config.mac, false));
                self.ipv6_in(packet, frame, link, token);
            }
            EthernetProtocol::Arp => self.arp_in(packet, frame, token),
            EthernetProtocol::Unknown(kind) => match untagged(frame, kind) {
                // It is counted already.
                Some(frame) if self.fast_path_rx(&frame) => {}
                Some(frame) => self.slow_path_rx(&frame, token),
                None => self.counters.unknown_protocol += 1,
            },
        }
    }

    /// Takes in a packet that this machine sent to itself.
    pub(crate) fn looped_in(&mut self, packet: &[u8]) {
        // The queue is lent out while the packet is handled, because the answer goes there too.
        let mut loopback = core::mem::replace(&mut self.loopback, crate::phy::Loopback::new(0));
        let token = loopback.reply_token();
        match packet.first().map(|first| first >> 4) {
            Some(4) => self.ipv4_in(packet, &[], RxOrigin::Loopback, token),
            Some(6) => self.ipv6_in(packet, &[], RxOrigin::Loopback, token),
            _ => self.counters.malformed += 1,
        }
        self.loopback = loopback;
    }

    pub(crate) fn ipv4_in<T: TxToken>(&mut self, packet: &[u8], frame: &[u8], link: RxOrigin, token: T) {
        let ip = match Ipv4Packet::new_checked(packet) {
            Ok(ip) if ip.version() == 4 => ip,
            _ => return self.counters.malformed += 1,
        };
        let is_nic = link != RxOrigin::Loopback;
        if is_nic && self.verify.ip && !ip.verify_checksum() {
            return self.counters.bad_checksum += 1;
        }
        if ip.more_frags() || ip.frag_offset() != 0 {
            return self.fragment_v4_in(&ip, frame, link, token);
        }
        let protocol = ip.next_header();
        let (from, to) = (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()));
        let payload = ip.payload();
        if protocol == IpProtocol::Udp && is_nic && is_for_dhcp(payload) {
            if self.hand_over_to_first(frame) {
                return;
            }
            return self.dhcp_in(&ip, frame, token);
        }
        let ip = IpPacket { packet, payload, from, to, protocol };
        self.ip_in(&ip, frame, link, token);
    }

    pub(crate) fn ipv6_in<T: TxToken>(&mut self, packet: &[u8], frame: &[u8], link: RxOrigin, token: T) {
        let ip = match Ipv6Packet::new_checked(packet) {
            Ok(ip) if ip.version() == 6 => ip,
            _ => return self.counters.malformed += 1,
        };
        let protocol = ip.next_header();
        if is_extension(protocol) {
            return self.extended_in(&ip, frame, link, token);
        }
        let (from, to) = (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()));
        let ip = IpPacket { packet, payload: ip.payload(), from, to, protocol };
        self.ip_in(&ip, frame, link, token);
    }

    #[inline]
    fn ip_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], link: RxOrigin, token: T) {
        let is_nic = link != RxOrigin::Loopback;
        if is_nic && (self.addresses.is_martian(ip.from) || ip.to.is_loopback()) {
            return self.counters.not_for_us += 1;
        }
        let is_ours = self.addresses.owns(ip.to);
        let is_group = !is_ours && (ip.to.is_multicast() || self.addresses.is_broadcast(ip.to));
        if !is_ours && !is_group {
            return self.counters.not_for_us += 1;
        }
        match ip.protocol {
            IpProtocol::Tcp if is_ours => {
                let verify = is_nic && self.verify.tcp;
                match Segment::parse(ip.packet, ip.payload, ip.from, ip.to, verify) {
                    Ok(segment) if self.hand_over_segment(frame, segment.local, segment.remote) => {}
                    Ok(segment) if self.denies_segment(segment.local, segment.remote, link) => {}
                    Ok(segment) => self.segment_in(&segment, link, token),
                    Err(Bad::Options) => self.mended_in(ip, frame, link, token),
                    Err(bad) => self.count_bad(bad),
                }
            }
            _ if is_nic && self.hand_over_to_first(frame) => {}
            IpProtocol::Icmpv6 => self.icmpv6_in(ip, frame, link, token),
            IpProtocol::Udp => self.udp_in(ip, is_group, link, token),
            IpProtocol::Icmp if is_ours => self.icmp_in(ip, frame, link, token),
            IpProtocol::Igmp if is_nic => self.igmp_in(ip.payload),
            _ if self.denies_packet(ip.protocol, ip.from, link) => {}
            _ if is_group => self.counters.unknown_protocol += 1,
            _ => {
                self.counters.unknown_protocol += 1;
                self.send_rst_or_unreachable(ip.packet, link, token);
            }
        }
    }

    /// Takes in a segment whose options make no sense: without those (Linux: `tcp_parse_options`). Nobody knows which a peer
    /// has that sends them, but it would wait for an answer for ever.
    #[cold]
    fn mended_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], link: RxOrigin, token: T) {
        let Some((packet, start)) = without_bad_options(ip) else { return self.counters.malformed += 1 };
        let mended = IpPacket { packet: &packet, payload: &packet[start..], ..*ip };
        self.ip_in(&mended, frame, link, token);
    }

    pub(crate) fn count_bad(&mut self, bad: Bad) {
        match bad {
            Bad::Malformed | Bad::Options => self.counters.malformed += 1,
            Bad::Checksum => self.counters.bad_checksum += 1,
        }
    }

    /// Lets smoltcp answer a packet that no socket wants: a reset, an unreachable, an echo.
    pub(crate) fn send_rst_or_unreachable<T: TxToken>(&mut self, packet: &[u8], link: RxOrigin, token: T) {
        let (interface, traffic) = match link {
            RxOrigin::Loopback => (&mut self.interfaces.loopback, None),
            RxOrigin::Nic(_) => (&mut self.interfaces.link, Some(&self.traffic)),
        };
        let mut inbound = Inbound::new(packet, token, link.header(), traffic);
        interface.poll_ingress_single(self.now, &mut inbound, &mut self.nobody);
    }

    fn udp_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, is_group: bool, link: RxOrigin, token: T) {
        let Ok(udp) = UdpPacket::new_checked(ip.payload) else { return self.counters.malformed += 1 };
        let verify = self.verify.udp && link != RxOrigin::Loopback;
        if verify && !udp.verify_checksum(&ip.from.into(), &ip.to.into()) {
            return self.counters.bad_checksum += 1;
        }
        let from = SocketAddr::new(ip.from, udp.src_port());
        let to = SocketAddr::new(ip.to, udp.dst_port());
        if self.denies_datagram(to, from, link) {
            return;
        }
        let mut arrival = ip.arrival(from, link, self.now);
        if is_group {
            arrival.local = self.addresses.source_for(ip.from).unwrap_or(ip.to);
            return self.group_datagram_in(to, &arrival, udp.payload());
        }
        let Some(id) = self.udp.lookup(to, from) else {
            self.counters.udp_no_port += 1;
            return self.send_rst_or_unreachable(ip.packet, link, token);
        };
        self.queue_datagram(id, &arrival, udp.payload());
    }

    /// A datagram for a group, or for everybody, goes to everyone who listens.
    fn group_datagram_in(&mut self, to: SocketAddr, arrival: &Arrival, data: &[u8]) {
        if to.ip().is_multicast() && !self.groups.has(to.ip()) {
            return self.counters.not_for_us += 1;
        }
        let ids = self.udp.listeners(to, arrival.from);
        self.counters.udp_no_port += u64::from(ids.is_empty());
        ids.into_iter().for_each(|id| self.queue_datagram(id, arrival, data));
    }

    fn queue_datagram(&mut self, id: UdpId, arrival: &Arrival, data: &[u8]) {
        let (limit, batch) = (self.config.udp_rx_bytes, self.batch);
        let has_memory = (self.config.has_memory)(data.len());
        let Some(socket) = self.udp.get_mut(id) else { return };
        if has_memory && socket.push(Datagram::new(*arrival, data, batch), limit) {
            self.notify_udp(id);
        } else {
            self.counters.udp_full += 1;
        }
    }

    fn icmp_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], link: RxOrigin, token: T) {
        let Ok(icmp) = Icmpv4Packet::new_checked(ip.payload) else { return self.counters.malformed += 1 };
        if link != RxOrigin::Loopback && !icmp.verify_checksum() {
            return self.counters.bad_checksum += 1;
        }
        if icmp.msg_type() == Icmpv4Message::EchoRequest {
            if !self.denies_packet(IpProtocol::Icmp, ip.from, link) {
                self.echo(ip, link, token);
            }
            return;
        }
        let complaint = Complaint::parse_v4(ip.from, ip.payload);
        complaint.iter().for_each(|complaint| self.icmp_error_rx(complaint, frame));
    }

    fn arp_in<T: TxToken>(&mut self, packet: &[u8], frame: &[u8], token: T) {
        if self.hand_over_to_first(frame) {
            return;
        }
        let repr = ArpPacket::new_checked(packet).and_then(|arp| ArpRepr::parse(&arp));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: mac,
            source_protocol_addr: from,
            target_protocol_addr: to,
            ..
        }) = repr
        else {
            return self.counters.malformed += 1;
        };
        if !self.addresses.is_own_v4(to) || self.addresses.is_own_v4(from) {
            return self.counters.not_for_us += 1;
        }
        // Whoever is asked may answer, wherever its address lies.
        let is_local = self.addresses.is_on_link(from.into()) || self.neighbors.has_heard_of(from.into());
        let is_known_operation = matches!(operation, ArpOperation::Request | ArpOperation::Reply);
        if is_local && is_known_operation && mac.is_unicast() {
            self.learn_neighbor(from.into(), mac);
        }
        if self.hand_over_to_others(frame) {
            return;
        }
        if operation == ArpOperation::Request && mac.is_unicast() {
            let (header, answer) = wire::arp_reply((self.config.mac, to), (mac, from));
            return self.answer(&answer, RxOrigin::Nic(header), token);
        }
        self.control.process(self.now, frame, token, &self.traffic);
    }

    /// Takes in what a DHCP server says.
    #[cold]
    fn dhcp_in<T: TxToken>(&mut self, ip: &Ipv4Packet<&[u8]>, frame: &[u8], token: T) {
        let (ends, Ok(udp)) = ((ip.src_addr(), ip.dst_addr()), UdpPacket::new_checked(ip.payload())) else {
            return self.counters.malformed += 1;
        };
        if self.verify.udp && !udp.verify_checksum(&ends.0.into(), &ends.1.into()) {
            return self.counters.bad_checksum += 1;
        }
        if udp.src_port() != DHCP_SERVER_PORT || frame.len() < HEADER_LEN {
            return self.counters.not_for_us += 1;
        }
        let message = (&frame[..HEADER_LEN], ends, udp.payload());
        let lease = self.addresses.net.ipv4.as_ref();
        self.control.dhcp_in(self.now, message, lease, token, &self.traffic);
        self.apply_lease();
    }

    pub(crate) fn learn_neighbor(&mut self, address: IpAddr, mac: EthernetAddress) {
        let released = self.neighbors.learn(self.now, address, mac);
        let header = wire::header(mac, self.config.mac, address.is_ipv4());
        for id in released.flows {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.path = crate::flow::Path::Link(header);
            }
            self.mark_dirty(id);
        }
        for frame in released.frames {
            self.send_frame(frame, header);
        }
    }

    /// Queues a frame, whose header is still blank, for the NIC.
    pub(crate) fn send_frame(&mut self, mut frame: Vec<u8>, header: Header) {
        frame[..HEADER_LEN].copy_from_slice(&header);
        let packet = &frame[HEADER_LEN..];
        if packet.len() > LEAST_PATH {
            let to = destination_of(packet);
            let mtu = to.map_or(self.ip_mtu, |to| self.path_mtu(to));
            if packet.len() > mtu {
                return self.send_in_pieces(&frame, mtu);
            }
        }
        self.push_outbox(frame);
    }

    /// The largest packet that goes to `to` whole.
    pub(crate) fn path_mtu(&self, to: IpAddr) -> usize {
        self.pmtu.mtu(self.now, to).map_or(self.ip_mtu, |mtu| mtu.min(self.ip_mtu))
    }

    pub(crate) fn push_outbox(&mut self, frame: Vec<u8>) {
        if self.outbox.len() < self.config.queue_packets {
            self.outbox.push_back(frame);
        } else {
            self.counters.queue_full += 1;
        }
    }
}

/// A frame without its tag, if that has a priority alone: VLAN 0 is none (IEEE 802.1Q section 6.9).
#[cold]
fn untagged(frame: &[u8], kind: u16) -> Option<Vec<u8>> {
    const TAGS: [u16; 2] = [0x8100, 0x88a8];
    const VLAN: u16 = 0xfff;
    let tag = frame.get(HEADER_LEN..HEADER_LEN + 2).filter(|_| TAGS.contains(&kind))?;
    let is_priority = u16::from_be_bytes([tag[0], tag[1]]) & VLAN == 0;
    let inner = frame.get(HEADER_LEN + 2..HEADER_LEN + 4)?;
    // A second tag would be looked at again, and so on.
    let is_last = !TAGS.contains(&u16::from_be_bytes([inner[0], inner[1]]));
    (is_priority && is_last).then(|| [&frame[..HEADER_LEN - 2], &frame[HEADER_LEN + 2..]].concat())
}

/// True for what a DHCP server sends to its client.
fn is_for_dhcp(payload: &[u8]) -> bool {
    payload.get(2..4) == Some(&DHCP_CLIENT_PORT.to_be_bytes())
}
