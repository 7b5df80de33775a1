//! Frames: made, mended so that their checksums are right, and judged. The code is of its own, as is that which it judges.

use std::net::Ipv4Addr;

use super::host::{OWN_MAC, PEER_MAC};

pub(super) const ETHERNET: usize = 14;
pub(super) const IPV4: usize = ETHERNET + 20;
const IPV6: usize = ETHERNET + 40;
pub(super) const ICMP: u8 = 1;
const IGMP: u8 = 2;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// The sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The sum of several pieces, of which all but the last have even lengths.
fn sum_of(pieces: &[&[u8]]) -> u16 {
    let total: u32 = pieces.iter().map(|piece| sum(piece)).sum();
    ((total & 0xffff) + (total >> 16)) as u16
}

/// What stands in a frame: where the segment lies, its protocol, and the sum of its pseudo-header. None if there is no
/// whole one, and for fragments.
struct Segment {
    start: usize,
    end: usize,
    protocol: u8,
    pseudo: u16,
}

fn segment(frame: &[u8]) -> Option<Segment> {
    let half = |at: usize| Some(usize::from(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?)));
    match half(12)? {
        0x0800 => {
            let header = usize::from(*frame.get(ETHERNET)? & 15) * 4;
            let total = half(ETHERNET + 2)?;
            let is_whole = half(ETHERNET + 6)? & 0x3fff == 0;
            if header < 20 || total < header || !is_whole || frame.len() < ETHERNET + total {
                return None;
            }
            let protocol = frame[ETHERNET + 9];
            let len = ((total - header) as u16).to_be_bytes();
            let pseudo = match protocol {
                ICMP | IGMP => 0,
                _ => sum_of(&[&frame[ETHERNET + 12..IPV4], &[0, protocol], &len]),
            };
            Some(Segment { start: ETHERNET + header, end: ETHERNET + total, protocol, pseudo })
        }
        0x86dd => {
            let len = half(ETHERNET + 4)?;
            let (mut start, end) = (IPV6, IPV6 + len);
            let mut protocol = *frame.get(ETHERNET + 6)?;
            frame.get(..end)?;
            // What may stand in front: options for each hop, for the destination.
            while matches!(protocol, 0 | 60) {
                let (next, words) = (*frame.get(start)?, *frame.get(start + 1)?);
                protocol = next;
                start += 8 + 8 * usize::from(words);
            }
            let len = u16::try_from(end.checked_sub(start)?).ok()?.to_be_bytes();
            let pseudo = sum_of(&[&frame[ETHERNET + 8..IPV6], &[0, protocol], &len]);
            Some(Segment { start, end, protocol, pseudo })
        }
        _ => None,
    }
}

/// Where a protocol has its checksum.
fn place(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | IGMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// Makes a frame's checksums right, as far as there are any.
pub(super) fn mend(frame: &mut [u8]) {
    if frame.len() >= IPV4 && frame[12..14] == [8, 0] {
        let end = ETHERNET + (usize::from(frame[ETHERNET] & 15) * 4).max(20);
        if let Some(header) = frame.get_mut(ETHERNET..end) {
            header[10..12].copy_from_slice(&[0, 0]);
            let sum = !(sum(header) as u16);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let Some(Segment { start, end, protocol, pseudo }) = segment(frame) else { return };
    let Some(at) = place(protocol).map(|at| start + at).filter(|at| at + 2 <= end) else { return };
    frame[at..at + 2].copy_from_slice(&[0, 0]);
    let sum = !sum_of(&[&pseudo.to_be_bytes(), &frame[start..end]]);
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What is wrong with a frame that the stack has sent.
pub(super) fn fault(frame: &[u8]) -> Option<&'static str> {
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(frame[ETHERNET] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            if frame[ETHERNET] >> 4 != 4 || header < 20 || total < header || ETHERNET + total != frame.len() {
                return Some("the lengths of an IPv4 packet");
            }
            if sum(&frame[ETHERNET..ETHERNET + header]) != 0xffff {
                return Some("the checksum of an IPv4 header");
            }
        }
        [0x86, 0xdd] => {
            let len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            if frame[ETHERNET] >> 4 != 6 || IPV6 + len != frame.len() {
                return Some("the length of an IPv6 packet");
            }
        }
        [0x08, 0x06] => return (frame.len() < 42).then_some("the length of an ARP packet"),
        _ => return Some("the kind of a frame"),
    }
    let Segment { start, end, protocol, pseudo } = segment(frame)?;
    let at = start + place(protocol)?;
    let is_without = protocol == UDP && frame.get(at..at + 2) == Some(&[0, 0]);
    let is_right = sum_of(&[&pseudo.to_be_bytes(), &frame[start..end]]) == 0xffff;
    (!is_right && !is_without).then_some("the checksum of a segment")
}

/// An Ethernet header from the peer.
pub(super) fn ethernet(to: [u8; 6], kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &PEER_MAC, &kind].concat()
}

/// An IPv4 packet as a frame from the peer, its checksums right.
pub(super) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(OWN_MAC, [8, 0]);
    frame.extend([0x45, 0]);
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 7]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend_from_slice(payload);
    mend(&mut frame);
    frame
}

/// That the peer has its address.
pub(super) fn arp_reply() -> Vec<u8> {
    use super::host::{OWN, PEER};
    let mut frame = ethernet(OWN_MAC, [8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(PEER_MAC);
    frame.extend(PEER.octets());
    frame.extend(OWN_MAC);
    frame.extend(OWN.octets());
    frame
}
