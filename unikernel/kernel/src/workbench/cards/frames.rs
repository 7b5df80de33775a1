//! Frames that a host on the cable writes by hand.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};

use super::lan::{HOST, HOST_MAC};
use super::{MAC, OWN};

/// The router of the link.
pub(super) const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The name server that DHCP tells of.
pub(super) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// A packet of IPv4 from the host, whose payload `emit` writes.
pub(super) fn ipv4(
    (to_mac, to): ([u8; 6], Ipv4Addr),
    protocol: IpProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: HOST.into(),
        dst_addr: to,
        next_header: protocol,
        payload_len: len,
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + 20 + len];
    frame[..6].copy_from_slice(&to_mac);
    frame[6..12].copy_from_slice(&HOST_MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    header.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &ChecksumCapabilities::default());
    emit(&mut frame[34..]);
    frame
}

/// A datagram.
pub(super) fn udp(to: ([u8; 6], Ipv4Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
    ipv4(to, IpProtocol::Udp, 8 + payload.len(), |bytes| {
        let (from, to) = (Ipv4Addr::from(HOST).into(), to.1.into());
        repr.emit(
            &mut UdpPacket::new_unchecked(bytes),
            &from,
            &to,
            payload.len(),
            |room| room.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
    })
}

/// An echo request (RFC 792).
pub(super) fn ping(payload: &[u8]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 1, data: payload };
    ipv4((MAC, OWN.into()), IpProtocol::Icmp, repr.buffer_len(), |bytes| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    })
}

/// What a DHCP server answers to a frame that asks one for an address.
pub(super) fn dhcp_answer(frame: &[u8], lease: Ipv4Addr) -> Option<Vec<u8>> {
    if frame.get(12..14)? != [8, 0] || frame[23] != 17 || frame.get(36..38)? != [0, 67] {
        return None;
    }
    let request = DhcpPacket::new_checked(&frame[42..]).expect("a message of DHCP");
    let request = DhcpRepr::parse(&request).expect("a message of DHCP");
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    let answer = DhcpRepr {
        message_type,
        your_ip: lease,
        server_ip: HOST.into(),
        server_identifier: Some(HOST.into()),
        router: Some(HOST.into()),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        dns_servers: Some([NAME_SERVER].into_iter().collect()),
        lease_duration: Some(1000),
        ..request
    };
    let mut bytes = vec![0; answer.buffer_len()];
    answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).expect("a message of DHCP");
    Some(udp(([0xff; 6], Ipv4Addr::BROADCAST), (67, 68), &bytes))
}

/// An ICMPv6 message of the router for everybody.
pub(super) fn icmpv6(message: &[u8]) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let header = Ipv6Repr {
        src_addr: ROUTER,
        dst_addr: all,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.len(),
        hop_limit: 255,
    };
    let mut frame = vec![0; 14 + 40];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&HOST_MAC);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    header.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    frame.extend_from_slice(message);
    Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&ROUTER, &all);
    frame
}

/// The router's advertisement of 2001:db8::/64 (RFC 4861, section 4.2), on-link and autonomous, for an hour.
pub(super) fn advertisement() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800_u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend([3600_u32, 1800, 0].into_iter().flat_map(u32::to_be_bytes));
    message.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
    icmpv6(&message)
}
