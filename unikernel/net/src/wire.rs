//! Packets read and written by hand: what the front must know of a segment before it reaches its
//! flow, and the few frames which the stack itself sends.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol, HardwareAddress, IPV4_HEADER_LEN,
    IPV6_HEADER_LEN, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, NdiscRepr, TCP_HEADER_LEN, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UDP_HEADER_LEN, UdpPacket, UdpRepr,
};

use crate::phy::{HEADER_LEN, Header};
use crate::route::group_mac;
use crate::timewait::Final;

/// The Ethernet header of an IP packet.
pub(crate) fn header(to: EthernetAddress, from: EthernetAddress, is_ipv4: bool) -> Header {
    typed_header(to, from, if is_ipv4 { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 })
}

fn typed_header(to: EthernetAddress, from: EthernetAddress, protocol: EthernetProtocol) -> Header {
    let mut header = [0; HEADER_LEN];
    header[..6].copy_from_slice(&to.0);
    header[6..12].copy_from_slice(&from.0);
    header[12..].copy_from_slice(&u16::from(protocol).to_be_bytes());
    header
}

/// An IP packet for `payload_len` bytes of `protocol`, with `headroom` bytes in front of it.
pub(crate) fn ip_packet(
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    (payload_len, hop_limit, headroom): (usize, u8, usize),
    checksums: &ChecksumCapabilities,
) -> (Vec<u8>, usize) {
    let ip = IpRepr::new(from.into(), to.into(), protocol, payload_len, hop_limit);
    let mut packet = vec![0; headroom + ip.buffer_len()];
    ip.emit(&mut packet[headroom..], checksums);
    (packet, headroom + ip.header_len())
}

/// A TCP segment of which everything but the ports and numbers is blank.
pub(crate) const PLAIN_SEGMENT: TcpRepr<'static> = TcpRepr {
    src_port: 0,
    dst_port: 0,
    control: TcpControl::None,
    seq_number: TcpSeqNumber(0),
    ack_number: None,
    window_len: 0,
    window_scale: None,
    max_seg_size: None,
    sack_permitted: false,
    sack_ranges: [None; 3],
    timestamp: None,
    payload: &[],
};

/// A TCP segment as an IP packet, behind `headroom` blank bytes; the ports are those of the addresses.
pub(crate) fn tcp_packet(
    from: SocketAddr,
    to: SocketAddr,
    repr: &TcpRepr<'_>,
    headroom: usize,
    checksums: &ChecksumCapabilities,
) -> Vec<u8> {
    let repr = TcpRepr { src_port: from.port(), dst_port: to.port(), ..*repr };
    let (from, to) = (from.ip(), to.ip());
    let (mut packet, start) =
        ip_packet((from, to), IpProtocol::Tcp, (repr.buffer_len(), 64, headroom), checksums);
    let mut tcp = TcpPacket::new_unchecked(&mut packet[start..]);
    repr.emit(&mut tcp, &from.into(), &to.into(), checksums);
    packet
}

/// The hop limit of packets if nobody has said anything (RFC 1700).
pub(crate) const HOP_LIMIT: u8 = 64;

/// Bytes of our IP and TCP headers for packets from `local`.
#[inline]
pub(crate) fn headers_len(local: SocketAddr) -> usize {
    if local.is_ipv4() { IPV4_HEADER_LEN + TCP_HEADER_LEN } else { IPV6_HEADER_LEN + TCP_HEADER_LEN }
}

/// What the headers of all segments of a connection have in common.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) hop_limit: u8,
}

/// What the headers of one of them say, of an acknowledgement without options.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) sequence: TcpSeqNumber,
    pub(crate) acknowledged: TcpSeqNumber,
    /// As it stands in the header.
    pub(crate) window: u16,
    pub(crate) is_pushed: bool,
    /// The urgent pointer; 0 for none.
    pub(crate) urgent: u16,
}

impl Plan {
    /// Writes the headers in front of the payload, which is in its place in `packet`.
    #[inline]
    pub(crate) fn write(&self, ends: &Ends, packet: &mut [u8], checksums: &ChecksumCapabilities) {
        let start = headers_len(ends.local) - TCP_HEADER_LEN;
        match (ends.local.ip(), ends.remote.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => write_v4(packet, (from, to), ends.hop_limit, checksums),
            (IpAddr::V6(from), IpAddr::V6(to)) => write_v6(packet, (from, to), ends.hop_limit),
            // Both ends of a connection are of one kind.
            _ => return,
        }
        let Some(header) = packet[start..].first_chunk_mut::<TCP_HEADER_LEN>() else { return };
        *header = self.tcp_header(ends);
        if checksums.tcp.tx() {
            let (from, to) = (ends.local.ip().into(), ends.remote.ip().into());
            TcpPacket::new_unchecked(&mut packet[start..]).fill_checksum(&from, &to);
        }
    }

    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        const ACK: u8 = 0x10;
        const PSH: u8 = 8;
        const URG: u8 = 0x20;
        ACK | if self.is_pushed { PSH } else { 0 } | if self.urgent > 0 { URG } else { 0 }
    }

    #[inline]
    fn tcp_header(&self, ends: &Ends) -> [u8; TCP_HEADER_LEN] {
        let ([a, b], [c, d]) = (ends.local.port().to_be_bytes(), ends.remote.port().to_be_bytes());
        let [e, f, g, h] = self.sequence.0.to_be_bytes();
        let [i, j, k, l] = self.acknowledged.0.to_be_bytes();
        let ([m, n], [o, p]) = (self.window.to_be_bytes(), self.urgent.to_be_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, 0x50, self.flags(), m, n, 0, 0, o, p]
    }
}

fn write_v4(packet: &mut [u8], (from, to): (Ipv4Addr, Ipv4Addr), hops: u8, checksums: &ChecksumCapabilities) {
    let [high, low] = (packet.len() as u16).to_be_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (from.octets(), to.octets());
    // Not to be fragmented (RFC 791 section 3.1).
    let mut header = [0x45, 0, high, low, 0, 0, 0x40, 0, hops, 6, 0, 0, a, b, c, d, e, f, g, h];
    if checksums.ipv4.tx() {
        let words = header.as_chunks::<4>().0.iter();
        let sum: u64 = words.map(|word| u64::from(u32::from_be_bytes(*word))).sum();
        header[10..12].copy_from_slice(&(!folded(sum)).to_be_bytes());
    }
    if let Some(place) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() {
        *place = header;
    }
}

fn write_v6(packet: &mut [u8], (from, to): (Ipv6Addr, Ipv6Addr), hops: u8) {
    let [high, low] = ((packet.len() - IPV6_HEADER_LEN) as u16).to_be_bytes();
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, 6, hops]);
    packet[8..24].copy_from_slice(&from.octets());
    packet[24..40].copy_from_slice(&to.octets());
}

/// The acknowledgement that a connection in TIME-WAIT answers with, as an IP packet.
pub(crate) fn final_ack(
    local: SocketAddr,
    remote: SocketAddr,
    last: Final,
    checksums: &ChecksumCapabilities,
) -> Vec<u8> {
    let (seq_number, ack_number) = (last.send_next, Some(last.receive_next));
    tcp_packet(local, remote, &TcpRepr { seq_number, ack_number, ..PLAIN_SEGMENT }, 0, checksums)
}

/// The TCP part of an IP packet that smoltcp has made: without IP options or extension headers.
#[inline]
pub(crate) fn tcp_of(packet: &[u8]) -> Option<&[u8]> {
    packet.get(tcp_offset(packet)..).filter(|tcp| tcp.len() >= TCP_HEADER_LEN)
}

/// Where the TCP header begins in an IP packet that smoltcp has made.
#[inline]
pub(crate) fn tcp_offset(packet: &[u8]) -> usize {
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    if is_ipv4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

/// A UDP datagram as a frame with room for the Ethernet header; `fill` writes the payload.
pub(crate) fn datagram<E>(
    from: SocketAddr,
    to: SocketAddr,
    (len, hop_limit): (usize, u8),
    checksums: &ChecksumCapabilities,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let sizes = (UDP_HEADER_LEN + len, hop_limit, HEADER_LEN);
    let (mut frame, start) = ip_packet((from.ip(), to.ip()), IpProtocol::Udp, sizes, checksums);
    fill(&mut frame[start + UDP_HEADER_LEN..])?;
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let mut udp = UdpPacket::new_unchecked(&mut frame[start..]);
    repr.emit(&mut udp, &from.ip().into(), &to.ip().into(), len, |_| (), checksums);
    Ok(frame)
}

/// The question who has `wanted` (RFC 826), as a frame.
pub(crate) fn arp_request(mac: EthernetAddress, own: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: own,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: wanted,
    };
    let mut frame = vec![0; HEADER_LEN + repr.buffer_len()];
    frame[..HEADER_LEN].copy_from_slice(&typed_header(
        EthernetAddress::BROADCAST,
        mac,
        EthernetProtocol::Arp,
    ));
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[HEADER_LEN..]));
    frame
}

/// The answer to who has an address of ours, `own`, for `asker`: the header of a frame and the packet.
pub(crate) fn arp_reply(
    own: (EthernetAddress, Ipv4Addr),
    asker: (EthernetAddress, Ipv4Addr),
) -> (Header, Vec<u8>) {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: own.0,
        source_protocol_addr: own.1,
        target_hardware_addr: asker.0,
        target_protocol_addr: asker.1,
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut packet));
    (typed_header(asker.0, own.0, EthernetProtocol::Arp), packet)
}

/// The question who has an IPv6 address (RFC 4861 section 4.3), as a frame.
pub(crate) fn neighbor_solicit(mac: EthernetAddress, own: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let to = solicited_node(wanted);
    let lladdr = Some(HardwareAddress::Ethernet(mac).into());
    let repr = NdiscRepr::NeighborSolicit { target_addr: wanted, lladdr };
    ndisc((mac, group_mac(to.into())), own, to, repr)
}

/// A message of neighbour discovery, as a frame from the first of `macs` to the second.
pub(crate) fn ndisc(
    (mac, to_mac): (EthernetAddress, EthernetAddress),
    own: Ipv6Addr,
    to: Ipv6Addr,
    repr: NdiscRepr<'_>,
) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let checksums = ChecksumCapabilities::default();
    let sizes = (repr.buffer_len(), 255, HEADER_LEN);
    let (mut frame, start) = ip_packet((own.into(), to.into()), IpProtocol::Icmpv6, sizes, &checksums);
    repr.emit(&own, &to, &mut Icmpv6Packet::new_unchecked(&mut frame[start..]), &checksums);
    frame[..HEADER_LEN].copy_from_slice(&header(to_mac, mac, false));
    frame
}

/// The ones' complement sum of `bytes` (RFC 1071); all ones over a message with its right checksum.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A sum of 32-bit words as one of 16-bit words: the halves are added to each other, where the carry of the lower
/// sum goes into the upper one, which is the answer.
#[inline]
pub(crate) fn folded(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The group that a station with `address` listens to (RFC 4291 section 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | low[6] & 0xff, low[7])
}
