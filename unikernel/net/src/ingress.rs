//! The way in: from a frame to the table that its packet belongs to. Whatever does not pass is
//! dropped and counted.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable,
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
    UdpPacket,
};

use crate::error::SocketError;
use crate::key::FlowKey;
use crate::phy::{HEADER_LEN, Header, Inbound};
use crate::stack::Stack;
use crate::udp::{Datagram, UdpSocket};
use crate::wire::{self, Bad, Segment};

/// Where a packet came from, and so where an answer to it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Loopback,
    /// The NIC: the header of an answer, which returns to the station that sent the packet.
    Nic(Header),
}

impl Link {
    pub(crate) fn header(self) -> Option<Header> {
        match self {
            Self::Loopback => None,
            Self::Nic(header) => Some(header),
        }
    }
}

/// An IP packet and what its header says.
struct IpPacket<'p> {
    packet: &'p [u8],
    payload: &'p [u8],
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
}

/// The UDP port of a DHCP client.
const DHCP_CLIENT_PORT: u16 = 68;

impl Stack {
    /// Takes in a frame from the NIC; `token` is the room for an immediate answer.
    pub(crate) fn frame_in<T: TxToken>(&mut self, frame: &[u8], token: T) {
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += frame.len() as u64;
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
                let link = Link::Nic(wire::header(from, self.config.mac, true));
                self.ipv4_in(packet, frame, link, token);
            }
            EthernetProtocol::Ipv6 => {
                let link = Link::Nic(wire::header(from, self.config.mac, false));
                self.ipv6_in(packet, frame, link, token);
            }
            EthernetProtocol::Arp => self.arp_in(packet, frame, token),
            EthernetProtocol::Unknown(_) => self.counters.unknown_protocol += 1,
        }
    }

    /// Takes in a packet that this machine sent to itself.
    pub(crate) fn looped_in(&mut self, packet: &[u8]) {
        // The queue is lent out while the packet is handled, because the answer goes there too.
        let mut loopback = core::mem::replace(&mut self.loopback, crate::phy::Loopback::new(0));
        let token = loopback.reply_token();
        match packet.first().map(|first| first >> 4) {
            Some(4) => self.ipv4_in(packet, &[], Link::Loopback, token),
            Some(6) => self.ipv6_in(packet, &[], Link::Loopback, token),
            _ => self.counters.malformed += 1,
        }
        self.loopback = loopback;
    }

    fn ipv4_in<T: TxToken>(&mut self, packet: &[u8], frame: &[u8], link: Link, token: T) {
        let ip = match Ipv4Packet::new_checked(packet) {
            Ok(ip) if ip.version() == 4 => ip,
            _ => return self.counters.malformed += 1,
        };
        let is_nic = link != Link::Loopback;
        if is_nic && self.verify.ip && !ip.verify_checksum() {
            return self.counters.bad_checksum += 1;
        }
        if ip.more_frags() || ip.frag_offset() != 0 {
            return self.counters.fragments += 1;
        }
        let protocol = ip.next_header();
        let (from, to) = (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()));
        let payload = ip.payload();
        if protocol == IpProtocol::Udp && is_nic && is_for_dhcp(payload) {
            if self.hand_over_to_first(frame) {
                return;
            }
            self.control.process(self.now, frame, token, &self.traffic);
            return self.apply_lease();
        }
        let ip = IpPacket { packet, payload, from, to, protocol };
        self.ip_in(&ip, frame, link, token);
    }

    fn ipv6_in<T: TxToken>(&mut self, packet: &[u8], frame: &[u8], link: Link, token: T) {
        let ip = match Ipv6Packet::new_checked(packet) {
            Ok(ip) if ip.version() == 6 => ip,
            _ => return self.counters.malformed += 1,
        };
        let protocol = ip.next_header();
        let (from, to) = (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()));
        let ip = IpPacket { packet, payload: ip.payload(), from, to, protocol };
        self.ip_in(&ip, frame, link, token);
    }

    #[inline]
    fn ip_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], link: Link, token: T) {
        let is_nic = link != Link::Loopback;
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
                    Ok(segment) => self.segment_in(&segment, link, token),
                    Err(bad) => self.count_bad(bad),
                }
            }
            _ if is_nic && self.hand_over_to_first(frame) => {}
            IpProtocol::Udp => self.udp_in(ip, is_group, link, token),
            IpProtocol::Icmp if is_ours => self.icmp_in(ip, frame, link, token),
            IpProtocol::Icmpv6 if is_nic => self.icmpv6_in(ip, frame, token),
            _ if is_group => self.counters.unknown_protocol += 1,
            _ => {
                self.counters.unknown_protocol += 1;
                self.answer_for_nobody(ip.packet, link, token);
            }
        }
    }

    pub(crate) fn count_bad(&mut self, bad: Bad) {
        match bad {
            Bad::Malformed => self.counters.malformed += 1,
            Bad::Checksum => self.counters.bad_checksum += 1,
        }
    }

    /// Lets smoltcp answer a packet that no socket wants: a reset, an unreachable, an echo.
    pub(crate) fn answer_for_nobody<T: TxToken>(&mut self, packet: &[u8], link: Link, token: T) {
        let (interface, traffic) = match link {
            Link::Loopback => (&mut self.interfaces.loopback, None),
            Link::Nic(_) => (&mut self.interfaces.link, Some(&self.traffic)),
        };
        let mut inbound = Inbound::new(packet, token, link.header(), traffic);
        interface.poll_ingress_single(self.now, &mut inbound, &mut self.nobody);
    }

    fn udp_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, is_group: bool, link: Link, token: T) {
        let Ok(udp) = UdpPacket::new_checked(ip.payload) else { return self.counters.malformed += 1 };
        let verify = self.verify.udp && link != Link::Loopback;
        if verify && !udp.verify_checksum(&ip.from.into(), &ip.to.into()) {
            return self.counters.bad_checksum += 1;
        }
        let from = SocketAddr::new(ip.from, udp.src_port());
        let to = SocketAddr::new(ip.to, udp.dst_port());
        let limit = self.config.udp_rx_bytes;
        let Some(id) = self.udp.lookup(to, from) else {
            self.counters.udp_no_port += 1;
            if !is_group {
                self.answer_for_nobody(ip.packet, link, token);
            }
            return;
        };
        let Some(socket) = self.udp.get_mut(id) else { return };
        if socket.push(Datagram { from, data: udp.payload().to_vec() }, limit) {
            self.notify_udp(id);
        } else {
            self.counters.udp_full += 1;
        }
    }

    fn icmp_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], link: Link, token: T) {
        let Ok(icmp) = Icmpv4Packet::new_checked(ip.payload) else { return self.counters.malformed += 1 };
        if icmp.msg_type() == Icmpv4Message::EchoRequest {
            return self.answer_for_nobody(ip.packet, link, token);
        }
        if link != Link::Loopback && self.hand_over_error(&icmp, frame) {
            return;
        }
        let checksums = match link {
            Link::Loopback => ChecksumCapabilities::ignored(),
            Link::Nic(_) => self.checksums.clone(),
        };
        if self.is_too_big_in(&icmp, checksums.icmpv4.rx()) {
            return;
        }
        let Ok(repr) = Icmpv4Repr::parse(&icmp, &checksums) else { return self.counters.malformed += 1 };
        if let Icmpv4Repr::DstUnreachable { reason, header, data } = repr
            && let Some(ports) = data.first_chunk::<4>()
        {
            let port = |index: usize| u16::from_be_bytes([ports[index], ports[index + 1]]);
            let local = SocketAddr::new(header.src_addr.into(), port(0));
            let remote = SocketAddr::new(header.dst_addr.into(), port(2));
            self.unreachable_in(header.next_header, local, remote, reason);
        }
    }

    /// Something we sent did not arrive. It ends a connection attempt and is reported by a
    /// connected UDP socket; an established connection goes on (RFC 1122 section 4.2.3.9).
    fn unreachable_in(
        &mut self,
        protocol: IpProtocol,
        local: SocketAddr,
        remote: SocketAddr,
        reason: Icmpv4DstUnreachable,
    ) {
        let error = match reason {
            Icmpv4DstUnreachable::PortUnreachable | Icmpv4DstUnreachable::ProtoUnreachable => {
                SocketError::Refused
            }
            Icmpv4DstUnreachable::FragRequired => return,
            _ => SocketError::HostUnreachable,
        };
        match protocol {
            IpProtocol::Tcp => {
                let key = FlowKey::new(local, remote);
                if let Some(id) = self.flows.find(self.seed.hash(&key), &key) {
                    self.fail_attempt(id, error);
                }
            }
            IpProtocol::Udp => {
                let Some(id) = self.udp.lookup(local, remote) else { return };
                let is_told = |socket: &&mut UdpSocket| socket.receives_errors || socket.peer == Some(remote);
                let Some(socket) = self.udp.get_mut(id).filter(is_told) else { return };
                socket.error = Some(error);
                self.notify_udp(id);
            }
            _ => {}
        }
    }

    /// NDP and ICMPv6 echo are the control interface's; what a neighbour says of itself is ours.
    fn icmpv6_in<T: TxToken>(&mut self, ip: &IpPacket<'_>, frame: &[u8], token: T) {
        let Ok(icmp) = Icmpv6Packet::new_checked(ip.payload) else { return self.counters.malformed += 1 };
        if icmp.msg_type() == Icmpv6Message::NeighborAdvert && ip.payload.len() >= 24 {
            let mac = EthernetFrame::new_unchecked(frame).src_addr();
            let IpAddr::V6(from) = ip.from else { return };
            if icmp.target_addr() == from && mac.is_unicast() {
                self.learn_neighbor(ip.from, mac);
            }
        }
        if self.hand_over_to_others(frame) {
            return;
        }
        self.control.process(self.now, frame, token, &self.traffic);
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
        let is_local = self.addresses.net.ipv4.as_ref().is_some_and(|own| own.address.contains_addr(&from));
        let is_known_operation = matches!(operation, ArpOperation::Request | ArpOperation::Reply);
        if is_local && is_known_operation && mac.is_unicast() {
            self.learn_neighbor(from.into(), mac);
        }
        if self.hand_over_to_others(frame) {
            return;
        }
        self.control.process(self.now, frame, token, &self.traffic);
    }

    fn learn_neighbor(&mut self, address: IpAddr, mac: EthernetAddress) {
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
        self.push_outbox(frame);
    }

    pub(crate) fn push_outbox(&mut self, frame: Vec<u8>) {
        if self.outbox.len() < self.config.queue_packets {
            self.outbox.push_back(frame);
        } else {
            self.counters.queue_full += 1;
        }
    }
}

/// True for what a DHCP server sends to its client.
fn is_for_dhcp(payload: &[u8]) -> bool {
    payload.get(2..4) == Some(&DHCP_CLIENT_PORT.to_be_bytes())
}
