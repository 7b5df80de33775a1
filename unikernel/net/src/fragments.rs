//! Fragments on the way in, to [`reassembly`](crate::reassembly), and on the way out; and the extension headers of
//! IPv6 (RFC 8200 section 4), which are taken off before anybody looks at the packet.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::TxToken;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::filter::{Action, Protocol};
use crate::ingress::RxOrigin;
use crate::phy::HEADER_LEN;
use crate::reassembly::{Fragment, Key, Whole};
use crate::stack::{Stack, Verify};

/// Lengths of the headers.
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
/// Numbers of extension headers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Extension headers in one packet at most.
const MAX_EXTENSIONS: usize = 8;
/// The bit of IPv4 that says more fragments follow.
const MORE_V4: u16 = 0x2000;

/// True for a protocol number that is an extension header of IPv6.
pub(crate) fn is_extension(protocol: IpProtocol) -> bool {
    matches!(protocol.into(), HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// A packet behind its extension headers.
enum Inner<'p> {
    Whole(u8, &'p [u8]),
    /// Offset, whether more follow, the identification, the next header and the piece.
    Piece(usize, bool, u32, u8, &'p [u8]),
}

impl Stack {
    /// Takes in a fragment of IPv4.
    pub(crate) fn fragment_v4_in<T: TxToken>(
        &mut self,
        ip: &Ipv4Packet<&[u8]>,
        frame: &[u8],
        link: RxOrigin,
        token: T,
    ) {
        let key = Key {
            from: ip.src_addr().into(),
            to: ip.dst_addr().into(),
            protocol: ip.next_header().into(),
            ident: ip.ident().into(),
        };
        let fragment = Fragment {
            key,
            offset: ip.frag_offset().into(),
            has_more: ip.more_frags(),
            header: &[],
            payload: ip.payload(),
        };
        let Some((_, payload)) = self.fragment_in(&fragment, frame, link) else { return };
        let Ok(total) = u16::try_from(V4_HEADER + payload.len()) else { return self.counters.malformed += 1 };
        let mut packet = alloc::vec![0; V4_HEADER];
        packet.extend(payload);
        let mut whole = Ipv4Packet::new_unchecked(&mut packet);
        whole.set_version(4);
        whole.set_header_len(V4_HEADER as u8);
        whole.set_total_len(total);
        whole.set_hop_limit(ip.hop_limit());
        whole.set_dscp(ip.dscp());
        whole.set_ecn(ip.ecn());
        whole.set_next_header(ip.next_header());
        whole.set_src_addr(ip.src_addr());
        whole.set_dst_addr(ip.dst_addr());
        whole.fill_checksum();
        let frame = framed(frame, &packet);
        let verify = core::mem::replace(&mut self.verify, Verify::ALL);
        self.ipv4_in(&packet, &frame, link, token);
        self.verify = verify;
    }

    /// Takes in a packet of IPv6 with extension headers.
    pub(crate) fn extended_in<T: TxToken>(
        &mut self,
        ip: &Ipv6Packet<&[u8]>,
        frame: &[u8],
        link: RxOrigin,
        token: T,
    ) {
        let Some(inner) = skip_extensions(ip.next_header().into(), ip.payload()) else {
            return self.counters.malformed += 1;
        };
        let (protocol, payload) = match inner {
            Inner::Whole(protocol, payload) => (protocol, payload.to_vec()),
            Inner::Piece(offset, has_more, ident, next, payload) => {
                let key = Key { from: ip.src_addr().into(), to: ip.dst_addr().into(), protocol: 0, ident };
                let header = &[next];
                let fragment = Fragment { key, offset, has_more, header, payload };
                let Some((header, payload)) = self.fragment_in(&fragment, frame, link) else { return };
                (header.first().copied().unwrap_or(next), payload)
            }
        };
        let (Ok(len), false) = (u16::try_from(payload.len()), is_extension(protocol.into())) else {
            return self.counters.malformed += 1;
        };
        let mut packet = alloc::vec![0; V6_HEADER];
        packet.extend(payload);
        let mut whole = Ipv6Packet::new_unchecked(&mut packet);
        whole.set_version(6);
        whole.set_payload_len(len);
        whole.set_next_header(protocol.into());
        whole.set_hop_limit(ip.hop_limit());
        whole.set_traffic_class(ip.traffic_class());
        whole.set_src_addr(ip.src_addr());
        whole.set_dst_addr(ip.dst_addr());
        let frame = framed(frame, &packet);
        let verify = core::mem::replace(&mut self.verify, Verify::ALL);
        self.ipv6_in(&packet, &frame, link, token);
        self.verify = verify;
    }

    /// Puts a fragment to its datagram; the header and payload of a whole one come back.
    fn fragment_in(&mut self, fragment: &Fragment<'_>, frame: &[u8], link: RxOrigin) -> Option<Whole> {
        let is_nic = link != RxOrigin::Loopback;
        self.counters.fragments += 1;
        let Key { from, to, protocol, .. } = fragment.key;
        let is_ours = self.addresses.owns(to) || to.is_multicast() || self.addresses.is_broadcast(to);
        if !is_ours || (is_nic && self.addresses.is_martian(from)) {
            self.counters.not_for_us += 1;
            return None;
        }
        // Whose it is can be seen in the first fragment alone: one shard puts all datagrams together.
        if is_nic && self.hand_over_to_first(frame) {
            return None;
        }
        let protocol = if from.is_ipv4() { protocol } else { fragment.header[0] };
        let verdict = self.config.filter.judge_fragment(Protocol::of(protocol.into()), from);
        if is_nic && verdict == Action::Deny && !self.is_expected(from) {
            self.counters.filtered_fragments += 1;
            return None;
        }
        match self.reassembly.push(self.now, fragment) {
            Ok(Some(whole)) => {
                self.counters.reassembled += 1;
                Some(whole)
            }
            Ok(None) => None,
            Err(_) => {
                self.counters.reassembly_failed += 1;
                None
            }
        }
    }

    fn is_expected(&self, from: IpAddr) -> bool {
        self.udp.has_asked(from)
    }

    /// Queues a packet that is longer than its path carries, in pieces. `frame` has room for the link's header,
    /// which is written already.
    pub(crate) fn send_in_pieces(&mut self, frame: &[u8], mtu: usize) {
        let ident = (self.random)() as u32;
        let (link, packet) = frame.split_at(HEADER_LEN);
        let pieces = if packet[0] >> 4 == 4 {
            split_v4(link, packet, mtu, ident as u16)
        } else {
            split_v6(link, packet, mtu, ident)
        };
        self.counters.fragments_sent += pieces.len() as u64;
        self.outbox.extend(pieces);
    }
}

/// The frame of a packet that was changed, for whom it has to be handed over to.
fn framed(frame: &[u8], packet: &[u8]) -> Vec<u8> {
    frame.get(..HEADER_LEN).map_or_else(Vec::new, |link| [link, packet].concat())
}

/// Walks over the extension headers; none if they make no sense, or forbid to go on.
fn skip_extensions(mut next: u8, mut rest: &[u8]) -> Option<Inner<'_>> {
    for _ in 0..MAX_EXTENSIONS {
        match next {
            HOP_BY_HOP | DESTINATION | ROUTING => {
                let len = (usize::from(*rest.get(1)?) + 1) * 8;
                let header = rest.get(..len)?;
                let may_go_on = if next == ROUTING { header[3] == 0 } else { are_harmless(&header[2..]) };
                if !may_go_on {
                    return None;
                }
                (next, rest) = (header[0], &rest[len..]);
            }
            FRAGMENT => {
                let (header, piece) = rest.split_first_chunk::<FRAGMENT_HEADER>()?;
                let word = u16::from_be_bytes([header[2], header[3]]);
                let ident = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let (offset, has_more) = (usize::from(word & !7), word & 1 != 0);
                if offset == 0 && !has_more {
                    // Whole by itself, whatever else has its number (RFC 6946).
                    (next, rest) = (header[0], piece);
                    continue;
                }
                return Some(Inner::Piece(offset, has_more, ident, header[0], piece));
            }
            _ => return Some(Inner::Whole(next, rest)),
        }
    }
    None
}

/// True if all options can be skipped (RFC 8200 section 4.2).
fn are_harmless(mut options: &[u8]) -> bool {
    while let Some((&kind, rest)) = options.split_first() {
        if kind == 0 {
            options = rest;
            continue;
        }
        let Some(&len) = rest.first() else { return false };
        // The highest bits of an unknown kind say what to do with the packet; 0 is to go on.
        if kind >> 6 != 0 || rest.len() <= usize::from(len) {
            return false;
        }
        options = &rest[1 + usize::from(len)..];
    }
    true
}

fn split_v4(link: &[u8], packet: &[u8], mtu: usize, ident: u16) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(V4_HEADER);
    let most = (mtu - V4_HEADER) / 8 * 8;
    let piece = |(index, piece): (usize, &[u8])| {
        let offset = index * most;
        let has_more = offset + piece.len() < payload.len();
        let mut frame = [link, header, piece].concat();
        let flags = (offset / 8) as u16 | if has_more { MORE_V4 } else { 0 };
        let ip = &mut frame[HEADER_LEN..];
        ip[2..4].copy_from_slice(&((V4_HEADER + piece.len()) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&ident.to_be_bytes());
        ip[6..8].copy_from_slice(&flags.to_be_bytes());
        Ipv4Packet::new_unchecked(ip).fill_checksum();
        frame
    };
    payload.chunks(most).enumerate().map(piece).collect()
}

fn split_v6(link: &[u8], packet: &[u8], mtu: usize, ident: u32) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(V6_HEADER);
    let most = (mtu - V6_HEADER - FRAGMENT_HEADER) / 8 * 8;
    let piece = |(index, piece): (usize, &[u8])| {
        let offset = index * most;
        let has_more = offset + piece.len() < payload.len();
        let word = offset as u16 | u16::from(has_more);
        let mut extension = [0; FRAGMENT_HEADER];
        extension[0] = header[6];
        extension[2..4].copy_from_slice(&word.to_be_bytes());
        extension[4..].copy_from_slice(&ident.to_be_bytes());
        let mut frame = [link, header, &extension, piece].concat();
        let ip = &mut frame[HEADER_LEN..];
        ip[4..6].copy_from_slice(&((FRAGMENT_HEADER + piece.len()) as u16).to_be_bytes());
        ip[6] = FRAGMENT;
        frame
    };
    payload.chunks(most).enumerate().map(piece).collect()
}

/// What a destination's packets are split to: never less than its family allows.
pub(crate) fn destination_of(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::V4(Ipv4Packet::new_unchecked(packet.get(..V4_HEADER)?).dst_addr())),
        _ => {
            let octets: [u8; 16] = packet.get(24..V6_HEADER)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
    }
}
