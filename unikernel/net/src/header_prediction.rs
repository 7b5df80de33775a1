//! Header prediction (Van Jacobson, 4.4BSD's `tcp_input`): nearly every frame is the next segment of a connection that
//! is well known, from the station that the last one came from, with nothing out of the ordinary in its headers. A
//! few comparisons and one look into the table of flows tell; whether the addresses are ours, whether the filter allows
//! them, and whose shard it is was settled when the connection was made.
//!
//! Everything else goes the long way ([`crate::ingress`]), which is right for these frames, too: a test compares the two.

use smoltcp::wire::{IPV4_HEADER_LEN, IpAddress, Ipv4Address, TCP_HEADER_LEN, TcpPacket, TcpSeqNumber};

use crate::flow::Path;
use crate::key::FlowKey;
use crate::phy::HEADER_LEN;
use crate::segment::Heard;
use crate::stack::Stack;
use crate::wire;

/// Where the TCP header begins behind Ethernet's and IPv4's, without options.
const TCP: usize = HEADER_LEN + IPV4_HEADER_LEN;
/// All three.
const HEADERS: usize = TCP + TCP_HEADER_LEN;

/// The headers, from the first byte of the frame on.
struct Headers<'f>(&'f [u8; HEADERS]);

impl Headers<'_> {
    #[inline]
    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// True for an acknowledgement, perhaps pushed, without options, in a whole IPv4 packet without options.
    #[inline]
    fn are_usual(&self) -> bool {
        const IPV4: u16 = 0x0800;
        const TCP: u8 = 6;
        // All but "don't fragment" (RFC 791 section 3.1).
        const FRAGMENT: u16 = !0x4000;
        // Five words of header, and of the flags ACK with or without PSH (RFC 9293 section 3.1).
        const ACK: u16 = 0x5010;
        const PSH: u16 = 8;
        self.half(12) == IPV4
            && self.half(14) == 0x4500
            && self.half(20) & FRAGMENT == 0
            && self.0[23] == TCP
            && self.half(46) & !PSH == ACK
    }

    /// True if the IPv4 header's checksum is right.
    #[inline]
    fn is_sound(&self) -> bool {
        // In the order of bytes that the machine has: all ones are all ones in any (RFC 1071 section 2).
        let word =
            |at: usize| u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]);
        let sum: u64 = [14, 18, 22, 26, 30].iter().map(|at| u64::from(word(*at))).sum();
        wire::folded(sum) == 0xffff
    }

    /// True if the checksum of the segment is right.
    fn are_true_of(&self, segment: &[u8]) -> bool {
        let address = |at| IpAddress::Ipv4(Ipv4Address::from_bits(self.word(at)));
        TcpPacket::new_unchecked(segment).verify_checksum(&address(26), &address(30))
    }
}

impl Stack {
    /// Takes in a frame if it is one that was to be expected. If not, it has had no effect.
    #[inline]
    pub(crate) fn fast_path_rx(&mut self, frame: &[u8]) -> bool {
        let Some(headers) = frame.first_chunk().map(Headers) else { return false };
        if !headers.are_usual() || self.verify.ip && !headers.is_sound() {
            return false;
        }
        let end = HEADER_LEN + usize::from(headers.half(16));
        let Some(payload) = frame.get(HEADERS..end) else { return false };
        if self.verify.tcp && !headers.are_true_of(&frame[TCP..end]) {
            return false;
        }
        let key = FlowKey::from_v4(headers.word(26), headers.word(30), headers.word(34));
        let Some(id) = self.flows.find(self.seed.hash(&key), &key) else { return false };
        let Some(flow) = self.flows.get(id) else { return false };
        let Path::Link(ours) = &flow.path else { return false };
        // Our header for the peer is the peer's for us, the other way round.
        let is_from_there = headers.0[6..12] == ours[..6] && headers.0[..6] == ours[6..12];
        let heard = Heard {
            sequence: TcpSeqNumber(headers.word(38) as i32),
            ack_number: TcpSeqNumber(headers.word(42) as i32),
            window: headers.half(48),
            len: payload.len(),
        };
        is_from_there
            && flow.engine.is_none()
            && !flow.has_board()
            && flow.is_next(&heard)
            && self.next_in(id, &heard, payload, None, false)
    }
}
