//! Frames, and what a card does to them: checksums are completed, large ones are cut, small ones merged (Virtual I/O Device
//! specification 1.2, sections 5.1.6.2 and 5.1.6.4).

use core::ops::Range;
use std::vec::Vec;

use unikernel_machine::checksum;
use unikernel_machine::packet::HEADER_BYTES;

/// Flags of a packet's header: the checksum is partial; it was verified.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// Kinds of large packets.
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 0x10;
/// The largest IP packet that cards merge to.
const MOST_BYTES: usize = 65_535;

/// A frame as a card gets it from its driver, and as it brings it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// The checksum is not complete: where the sum begins, and where from there it goes.
    pub partial: Option<(u16, u16)>,
    /// TCP payload of each of the segments that this is to be cut to.
    pub segment_bytes: Option<u16>,
}

/// Which features of a card bear on frames: checksums that are not complete, and large packets over IPv4 and IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offloads {
    pub(super) checksums: bool,
    pub(super) large: (bool, bool),
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put_word(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

/// The checksum of the internet (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Where a frame's TCP segment begins, and where its payload lies.
struct Tcp {
    start: usize,
    payload: Range<usize>,
}

impl Frame {
    /// One that needs nothing done to it.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { bytes, partial: None, segment_bytes: None }
    }

    /// What the driver hands over, header and frame.
    ///
    /// # Panics
    ///
    /// If the header is not as the specification has it, with these features.
    pub(super) fn from_driver(packet: &[u8], offloads: Offloads) -> Self {
        let (header, bytes) = packet.split_at_checked(HEADER_BYTES).expect("a packet has a header");
        let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        assert!(bytes.len() >= ETHERNET_BYTES, "a frame of {} bytes", bytes.len());
        assert!(header[0] & !NEEDS_CSUM == 0, "flags {:#x} of a packet that is sent", header[0]);
        let partial = (header[0] & NEEDS_CSUM != 0).then(|| (field(6), field(8)));
        if let Some((start, offset)) = partial {
            assert!(offloads.checksums, "the card does not complete checksums");
            assert!(
                usize::from(start) + usize::from(offset) + 2 <= bytes.len(),
                "a checksum behind the frame"
            );
        }
        let may_be_large = match header[1] {
            0 => true,
            GSO_TCPV4 => offloads.large.0 && bytes[12..14] == [8, 0],
            GSO_TCPV6 => offloads.large.1 && bytes[12..14] == [0x86, 0xdd],
            _ => false,
        };
        assert!(may_be_large, "a large packet of a kind that was not agreed on: {}", header[1]);
        let segment_bytes = (header[1] != 0).then(|| field(4));
        let frame = Self { bytes: bytes.to_vec(), partial, segment_bytes };
        if let Some(segment_bytes) = segment_bytes {
            let tcp = frame.tcp().expect("a large packet is TCP");
            assert!(partial == Some((tcp.start as u16, 16)), "checksum of a large packet");
            assert!(segment_bytes > 0, "segments without payload");
            assert_eq!(usize::from(field(2)), tcp.payload.start, "headers of a large packet");
        }
        frame
    }

    /// The same for the driver: the header, with a number of buffers that is still to be filled in, and the frame.
    pub(super) fn to_driver(&self, verifies: bool) -> Vec<u8> {
        let mut packet = std::vec![0; HEADER_BYTES];
        let mut put = |at: usize, value: u16| packet[at..at + 2].copy_from_slice(&value.to_le_bytes());
        if let Some((start, offset)) = self.partial {
            put(6, start);
            put(8, offset);
        }
        if let (Some(segment_bytes), Some(tcp)) = (self.segment_bytes, self.tcp()) {
            put(2, tcp.payload.start as u16);
            put(4, segment_bytes);
            packet[1] = if self.is_ipv4() { GSO_TCPV4 } else { GSO_TCPV6 };
        }
        packet[0] = match self.partial {
            Some(_) => NEEDS_CSUM,
            None if verifies && self.is_plausible() => DATA_VALID,
            None => 0,
        };
        packet.extend_from_slice(&self.bytes);
        packet
    }

    fn is_plausible(&self) -> bool {
        self.bytes.len() >= ETHERNET_BYTES && checksum::is_plausible(&self.bytes)
    }

    fn is_ipv4(&self) -> bool {
        self.bytes.get(12..14) == Some(&[8, 0])
    }

    /// A whole TCP segment over IPv4, or over IPv6 without extensions.
    fn tcp(&self) -> Option<Tcp> {
        let bytes = &self.bytes;
        let (start, end) = match bytes.get(12..14)? {
            [8, 0] if bytes.len() >= ETHERNET_BYTES + IPV4_BYTES => {
                let is_whole = word(bytes, 20) & 0x3fff == 0 && bytes[23] == 6;
                let start = ETHERNET_BYTES + usize::from(bytes[14] & 0xf) * 4;
                (is_whole.then_some(start)?, ETHERNET_BYTES + usize::from(word(bytes, 16)))
            }
            [0x86, 0xdd] if bytes.len() >= ETHERNET_BYTES + IPV6_BYTES && bytes[20] == 6 => {
                let start = ETHERNET_BYTES + IPV6_BYTES;
                (start, start + usize::from(word(bytes, 18)))
            }
            _ => return None,
        };
        let header_bytes = usize::from(bytes.get(start + 12)? >> 4) * 4;
        let payload = start + header_bytes..end;
        (payload.start <= end && end <= bytes.len()).then_some(Tcp { start, payload })
    }

    /// Both ends of a TCP or UDP flow over IPv4 or IPv6, those of the sender first; none for other frames.
    pub(super) fn flow(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let bytes = &self.bytes;
        let (addresses, protocol, ports) = match bytes.get(12..14)? {
            [8, 0] => (26..34, *bytes.get(23)?, ETHERNET_BYTES + usize::from(bytes.get(14)? & 0xf) * 4),
            [0x86, 0xdd] => (22..54, *bytes.get(20)?, ETHERNET_BYTES + IPV6_BYTES),
            _ => return None,
        };
        let (from, to) = bytes.get(addresses.clone())?.split_at(addresses.len() / 2);
        let ports = bytes.get(ports..ports + 4)?;
        matches!(protocol, 6 | 17).then(|| ([from, &ports[..2]].concat(), [to, &ports[2..]].concat()))
    }

    /// Sets the lengths of an IP packet to what there is, and its header's checksum.
    fn set_lengths(&mut self) {
        let len = self.bytes.len() - ETHERNET_BYTES;
        if !self.is_ipv4() {
            return put_word(&mut self.bytes, 18, len - IPV6_BYTES);
        }
        put_word(&mut self.bytes, 16, len);
        let header = ETHERNET_BYTES..ETHERNET_BYTES + usize::from(self.bytes[14] & 0xf) * 4;
        put_word(&mut self.bytes, 24, 0);
        let checksum = sum(&self.bytes[header]);
        put_word(&mut self.bytes, 24, checksum.into());
    }

    /// Completes the checksum.
    fn complete(&mut self) {
        let Some((start, offset)) = self.partial.take() else { return };
        let (start, offset) = (usize::from(start), usize::from(offset));
        let found = sum(&self.bytes[start..]);
        // In UDP zero says that there is none (RFC 768).
        let told = if found == 0 && offset == 6 { 0xffff } else { found };
        put_word(&mut self.bytes, start + offset, told.into());
    }

    /// The frames of which this consists on a wire, with their checksums.
    pub fn on_wire(mut self) -> Vec<Vec<u8>> {
        let cut = self.segment_bytes.take();
        let (Some(segment_bytes), Some(tcp)) = (cut, self.tcp()) else {
            self.complete();
            return std::vec![self.bytes];
        };
        let (head, payload) = (&self.bytes[..tcp.payload.start], &self.bytes[tcp.payload]);
        let pieces = payload.chunks(segment_bytes.into());
        let last = pieces.len().saturating_sub(1);
        let segment = |(index, piece): (usize, &[u8])| {
            let mut segment = Self::whole([head, piece].concat());
            let bytes = &mut segment.bytes;
            let sequence =
                number(bytes, tcp.start + 4).wrapping_add((index * usize::from(segment_bytes)) as u32);
            bytes[tcp.start + 4..tcp.start + 8].copy_from_slice(&sequence.to_be_bytes());
            if index < last {
                bytes[tcp.start + 13] &= !(FIN | PSH);
            }
            if bytes[12] == 8 {
                let id = usize::from(word(bytes, 18)) + index;
                put_word(bytes, 18, id);
            }
            segment.set_lengths();
            segment.begin_checksum();
            segment.complete();
            segment.bytes
        };
        pieces.enumerate().map(segment).collect()
    }

    fn begin_checksum(&mut self) {
        self.partial = checksum::begin(&mut self.bytes).map(|partial| (partial.start, partial.offset));
    }

    /// As cards with these features bring it: cut, or with its checksum completed, where it has to be.
    pub(super) fn acceptable(self, offloads: Offloads) -> Vec<Self> {
        let may_be_large = if self.is_ipv4() { offloads.large.0 } else { offloads.large.1 };
        let is_fine =
            (self.segment_bytes.is_none() || may_be_large) && (self.partial.is_none() || offloads.checksums);
        if is_fine { std::vec![self] } else { self.on_wire().into_iter().map(Self::whole).collect() }
    }

    /// Takes over the payload of the segment that follows on the same connection, if it does, as cards do that merge what they
    /// receive.
    pub(super) fn absorb(&mut self, next: &Self) -> bool {
        let (Some(own), Some(other)) = (self.tcp(), next.tcp()) else { return false };
        let is_vouched = next.is_plausible() && (self.partial.is_some() || self.is_plausible());
        let (len, more) = (own.payload.len(), other.payload.len());
        let segment_bytes = self.segment_bytes.map_or(len, usize::from);
        let is_mergeable = is_vouched
            && next.partial.is_none()
            && (own.start, own.payload.start) == (other.start, other.payload.start)
            && len > 0
            && len.is_multiple_of(segment_bytes)
            && (1..=segment_bytes).contains(&more)
            && self.bytes.len() == own.payload.end
            && self.bytes.len() + more <= MOST_BYTES;
        let (a, b) = (&self.bytes, &next.bytes);
        let (start, end) = (own.start, own.payload.start);
        // Addresses, ports, what is acknowledged, the window and the options are alike; the first is not pushed.
        let is_alike = is_mergeable
            && a[..14] == b[..14]
            && self.flow() == next.flow()
            && a[start + 8..start + 13] == b[start + 8..start + 13]
            && a[start + 14..start + 16] == b[start + 14..start + 16]
            && a[start + 20..end] == b[start + 20..end]
            && a[start + 13] == ACK
            && b[start + 13] & !PSH == ACK
            && number(a, start + 4).wrapping_add(len as u32) == number(b, start + 4);
        if is_alike {
            self.segment_bytes = Some(segment_bytes as u16);
            self.bytes[start + 13] = next.bytes[start + 13];
            self.bytes.extend_from_slice(&next.bytes[other.payload]);
            self.set_lengths();
            self.begin_checksum();
        }
        is_alike
    }
}
