//! A received TCP segment: what the front must know of it before it reaches its flow. The fields that every
//! segment is judged by are read once.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IPV6_HEADER_LEN, TCP_HEADER_LEN, TcpOption, TcpPacket, TcpSeqNumber};

use crate::ingress::IpPacket;
use crate::key::FlowKey;
use crate::timewait::Final;

/// Where the flags are in the header, and which there are (RFC 9293 section 3.1).
const FLAGS: usize = 13;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
/// Payload of a segment for a peer that names no largest one (RFC 9293 section 3.7.1).
const USUAL_MSS: u16 = 536;
/// A smaller one is not believed: it would only make much work of few bytes (Linux: `tcp_min_snd_mss`).
const LEAST_MSS: u16 = 48;
/// The largest scale of windows (RFC 7323 section 2.3).
const LARGEST_SCALE: u8 = 14;

/// What a segment of an established connection says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) sequence: TcpSeqNumber,
    /// What the acknowledgement field says.
    pub(crate) ack_number: TcpSeqNumber,
    /// The window as it stands in the header.
    pub(crate) window: u16,
    /// Bytes of payload.
    pub(crate) len: usize,
}

/// A received segment.
pub(crate) struct Segment<'p> {
    /// The whole IP packet.
    pub(crate) packet: &'p [u8],
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    sequence: TcpSeqNumber,
    ack_number: TcpSeqNumber,
    window: u16,
    flags: u8,
    payload: &'p [u8],
    /// Header and payload.
    bytes: &'p [u8],
}

/// Why a packet is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bad {
    Malformed,
    Checksum,
    /// Everything else is right.
    Options,
}

impl<'p> Segment<'p> {
    /// Reads the segment that `packet` carries in `bytes`.
    #[inline]
    pub(crate) fn parse(
        packet: &'p [u8],
        bytes: &'p [u8],
        from: IpAddr,
        to: IpAddr,
        verify: bool,
    ) -> Result<Self, Bad> {
        let Some(head) = bytes.first_chunk::<TCP_HEADER_LEN>() else { return Err(Bad::Malformed) };
        let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let number = |at: usize| {
            TcpSeqNumber(i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]))
        };
        let header_len = usize::from(head[12] >> 4) * 4;
        if header_len < TCP_HEADER_LEN || header_len > bytes.len() || half(0) == 0 || half(2) == 0 {
            return Err(Bad::Malformed);
        }
        let segment = Self {
            packet,
            local: SocketAddr::new(to, half(2)),
            remote: SocketAddr::new(from, half(0)),
            sequence: number(4),
            ack_number: number(8),
            window: half(14),
            flags: head[FLAGS],
            payload: &bytes[header_len..],
            bytes,
        };
        if verify && !segment.tcp().verify_checksum(&from.into(), &to.into()) {
            return Err(Bad::Checksum);
        }
        if header_len > TCP_HEADER_LEN && segment.tcp().options_summary().is_err() {
            return Err(Bad::Options);
        }
        Ok(segment)
    }

    fn tcp(&self) -> TcpPacket<&'p [u8]> {
        TcpPacket::new_unchecked(self.bytes)
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey::new(self.local, self.remote)
    }

    #[inline]
    pub(crate) fn is_rst(&self) -> bool {
        self.has(RST)
    }

    #[inline]
    pub(crate) fn is_syn(&self) -> bool {
        self.has(SYN)
    }

    /// The number that an acknowledgement acknowledges, if the segment is one and nothing else.
    #[inline]
    pub(crate) fn pure_ack(&self) -> Option<TcpSeqNumber> {
        (self.flags & (FIN | SYN | RST | ACK) == ACK && self.payload.is_empty()).then_some(self.ack_number)
    }

    /// True for the first segment of a connection.
    pub(crate) fn is_opening(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }

    /// True for a segment that may begin a connection, or end a handshake.
    pub(crate) fn may_concern_listener(&self) -> bool {
        !self.has(RST) && self.has(SYN) != self.has(ACK)
    }

    /// The acknowledgement number, if the segment carries one.
    #[inline]
    pub(crate) fn ack(&self) -> Option<TcpSeqNumber> {
        self.has(ACK).then_some(self.ack_number)
    }

    /// True if the segment has an acknowledgement number, and neither SYN nor RST.
    #[inline]
    pub(crate) fn is_plain_ack(&self) -> bool {
        self.flags & (SYN | RST | ACK) == ACK
    }

    /// True for a segment of an established connection that goes on: an acknowledgement, perhaps with data.
    #[inline]
    pub(crate) fn is_in_stream(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == ACK
    }

    #[inline]
    pub(crate) fn heard(&self) -> Heard {
        let Self { sequence, ack_number, window, .. } = *self;
        Heard { sequence, ack_number, window, len: self.payload.len() }
    }

    /// True if the urgent pointer counts.
    #[inline]
    pub(crate) fn is_urgent(&self) -> bool {
        self.has(URG)
    }

    /// The number of the urgent byte. A pointer to the first byte counts for one behind it, as on Linux.
    pub(crate) fn urgent_number(&self) -> Option<TcpSeqNumber> {
        let pointer = usize::from(self.tcp().urgent_at());
        self.is_urgent().then(|| self.sequence + pointer.saturating_sub(1))
    }

    /// What the acknowledgement field says.
    #[inline]
    pub(crate) fn ack_number(&self) -> TcpSeqNumber {
        self.ack_number
    }

    /// The number of its first byte.
    #[inline]
    pub(crate) fn sequence(&self) -> TcpSeqNumber {
        self.sequence
    }

    /// The window as it stands in the header.
    #[inline]
    pub(crate) fn window(&self) -> u16 {
        self.window
    }

    /// The payload.
    #[inline]
    pub(crate) fn payload(&self) -> &'p [u8] {
        self.payload
    }

    /// Bytes of payload.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// True if the peer says that nothing follows.
    #[inline]
    pub(crate) fn has_fin(&self) -> bool {
        self.has(FIN)
    }

    /// The packet with a segment that does not end the stream.
    pub(crate) fn without_fin(&self) -> Vec<u8> {
        let mut packet = self.packet.to_vec();
        let at = match self.packet[0] >> 4 {
            4 => usize::from(self.packet[0] & 0xf) * 4,
            _ => IPV6_HEADER_LEN,
        } + FLAGS;
        packet[at] &= !FIN;
        packet
    }

    /// True if there are options.
    #[inline]
    pub(crate) fn has_options(&self) -> bool {
        self.bytes.len() - self.payload.len() > TCP_HEADER_LEN
    }

    /// The blocks that the peer has, as its selective acknowledgement names them (RFC 2018 section 3).
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (TcpSeqNumber, TcpSeqNumber)> {
        let ranges = self.tcp().selective_ack_ranges().unwrap_or_default();
        let number = |number: u32| TcpSeqNumber(number.cast_signed());
        ranges.into_iter().flatten().map(move |(left, right)| (number(left), number(right)))
    }

    /// The payload that the peer takes in one segment, for the first segment of a connection.
    pub(crate) fn mss(&self) -> usize {
        let named = self.tcp().options_summary().ok().and_then(|options| options.max_segment_size);
        named.filter(|mss| *mss != 0).unwrap_or(USUAL_MSS).max(LEAST_MSS).into()
    }

    /// The scale of the peer's windows and whether it takes selective acknowledgements, of a SYN.
    pub(crate) fn offers(&self) -> (Option<u8>, bool) {
        let options = self.tcp().options_summary().unwrap_or_default();
        (options.window_scale.map(|scale| scale.min(LARGEST_SCALE)), options.sack_permitted)
    }

    /// The sequence numbers after this segment, which acknowledges all that we sent.
    pub(crate) fn last(&self) -> Final {
        Final { send_next: self.ack_number, receive_next: self.sequence + self.tcp().segment_len() }
    }
}

/// A packet with a segment whose options are those that can be read, and where the segment begins. An option of the wrong length
/// is left out; behind one that reaches over the end of the header there is nothing.
pub(crate) fn without_bad_options(ip: &IpPacket<'_>) -> Option<(Vec<u8>, usize)> {
    const NOTHING: u8 = 1;
    let mut packet = ip.packet.to_vec();
    let start = match ip.from {
        IpAddr::V4(_) => usize::from(packet.first()? & 0xf) * 4,
        IpAddr::V6(_) => IPV6_HEADER_LEN,
    };
    let segment = packet.get_mut(start..)?.get_mut(..ip.payload.len())?;
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    let mut rest = segment.get_mut(TCP_HEADER_LEN..header_len)?;
    while let Some(kind) = rest.first().copied().filter(|kind| *kind != 0) {
        let len = if kind == NOTHING { 1 } else { rest.get(1).copied().unwrap_or(0).into() };
        if len == 0 || (len == 1 && kind != NOTHING) || len > rest.len() {
            rest.fill(0);
            break;
        }
        let (option, tail) = rest.split_at_mut(len);
        if TcpOption::parse(option).is_err() {
            option.fill(NOTHING);
        }
        rest = tail;
    }
    let mut tcp = TcpPacket::new_unchecked(segment);
    tcp.fill_checksum(&ip.from.into(), &ip.to.into());
    let can_be_read = TcpPacket::new_unchecked(&*tcp.into_inner()).options_summary().is_ok();
    can_be_read.then_some((packet, start))
}
