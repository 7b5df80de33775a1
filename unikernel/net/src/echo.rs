//! Echo (RFC 792, RFC 4443 section 4): who asks gets back what was sent, in fragments if it came in some.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol};

use crate::icmpv6::ALL_NODES;
use crate::ingress::{IpPacket, RxOrigin};
use crate::phy::HEADER_LEN;
use crate::stack::Stack;
use crate::wire;

/// Types of the answer.
const REPLY_V4: u8 = 0;
const REPLY_V6: u8 = 129;

impl Stack {
    /// True for a group of whose members we are one, whether the app knows or not.
    pub(crate) fn is_member_of(&self, group: Ipv6Addr) -> bool {
        let is_asked = |own: Ipv6Addr| wire::solicited_node(own) == group;
        group == ALL_NODES
            || self.groups.has(group.into())
            || self.addresses.net.ipv6.iter().any(|own| is_asked(own.address.address()))
    }

    /// Answers an echo request, whose checksum is right.
    pub(crate) fn echo<T: TxToken>(&mut self, ip: &IpPacket<'_>, link: RxOrigin, token: T) {
        // To a group an answer comes from one of our addresses.
        let own = if ip.to.is_multicast() { self.addresses.source_for(ip.from) } else { Some(ip.to) };
        let (Some(own), false) = (own, ip.from.is_unspecified()) else { return };
        if self.outbox.len() >= self.config.queue_packets {
            return self.counters.queue_full += 1;
        }
        let headroom = if link == RxOrigin::Loopback { 0 } else { HEADER_LEN };
        let frame = reply(own, ip, headroom);
        match link {
            RxOrigin::Nic(header) if frame.len() - HEADER_LEN > self.path_mtu(ip.from) => {
                self.send_frame(frame, header);
            }
            _ => self.answer(&frame[headroom..], link, token),
        }
    }
}

/// The answer from `own` to a request, behind so much room.
fn reply(own: IpAddr, ip: &IpPacket<'_>, headroom: usize) -> Vec<u8> {
    let (protocol, kind) = match own {
        IpAddr::V4(_) => (IpProtocol::Icmp, REPLY_V4),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, REPLY_V6),
    };
    let sizes = (ip.payload.len(), wire::HOP_LIMIT, headroom);
    // No device completes the checksums of ICMP.
    let checksums = ChecksumCapabilities::default();
    let (mut frame, start) = wire::ip_packet((own, ip.from), protocol, sizes, &checksums);
    let message = &mut frame[start..];
    message.copy_from_slice(ip.payload);
    message[0] = kind;
    match (own, ip.from) {
        (IpAddr::V6(own), IpAddr::V6(to)) => Icmpv6Packet::new_unchecked(message).fill_checksum(&own, &to),
        _ => Icmpv4Packet::new_unchecked(message).fill_checksum(),
    }
    frame
}
