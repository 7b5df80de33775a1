//! The headers of a flow's segments, written once and copied from then on: Ethernet, IPv4 and TCP, of which only lengths,
//! numbers, the window and checksums change.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IPV4_HEADER_LEN, Ipv4Packet, TCP_HEADER_LEN, TcpPacket, TcpSeqNumber};

use crate::phy::{HEADER_LEN, Header};
use crate::wire::{self, Ends, Plan};

const IP: usize = HEADER_LEN;
const TCP: usize = IP + IPV4_HEADER_LEN;
/// Bytes of all headers.
pub(crate) const HEADERS: usize = TCP + TCP_HEADER_LEN;
/// Where fields lie (RFC 791 section 3.1, RFC 9293 section 3.1).
const TOTAL_LEN: usize = IP + 2;
const HOP_LIMIT: usize = IP + 8;
const IP_CHECKSUM: usize = IP + 10;
const SEQUENCE: usize = TCP + 4;
const ACKNOWLEDGED: usize = TCP + 8;
const FLAGS: usize = TCP + 13;
const WINDOW: usize = TCP + 14;
const URGENT: usize = TCP + 18;

/// The headers of an acknowledgement, but for what changes.
pub(crate) struct Template {
    headers: [u8; HEADERS],
    /// The sum of the IPv4 header's words, without a length.
    ip_sum: u64,
}

impl Template {
    /// Makes the headers of segments between `ends`, behind an Ethernet header. None for IPv6.
    pub(crate) fn new(ethernet: &Header, ends: &Ends) -> Option<Self> {
        if !ends.local.is_ipv4() {
            return None;
        }
        let none = TcpSeqNumber(0);
        let plan = Plan { sequence: none, acknowledged: none, window: 0, is_pushed: false, urgent: 0 };
        let mut headers = [0; HEADERS];
        headers[..IP].copy_from_slice(ethernet);
        plan.write(ends, &mut headers[IP..], &ChecksumCapabilities::ignored());
        headers[TOTAL_LEN..][..2].fill(0);
        let words = headers[IP..TCP].as_chunks::<4>().0.iter();
        let ip_sum = words.map(|word| u64::from(u32::from_be_bytes(*word))).sum();
        Some(Self { headers, ip_sum })
    }

    /// True if it is still right for what may change while a connection lives.
    #[inline]
    pub(crate) fn is_for(&self, ethernet: &Header, hop_limit: u8) -> bool {
        self.headers[..IP] == *ethernet && self.headers[HOP_LIMIT] == hop_limit
    }

    /// Writes the headers of the segment that `plan` says, in front of the payload, which is in its place in
    /// `frame`.
    #[inline]
    pub(crate) fn write(&self, plan: &Plan, frame: &mut [u8], checksums: &ChecksumCapabilities) {
        let total_len = (frame.len() - IP) as u16;
        let Some(headers) = frame.first_chunk_mut::<HEADERS>() else { return };
        *headers = self.headers;
        headers[TOTAL_LEN..][..2].copy_from_slice(&total_len.to_be_bytes());
        if checksums.ipv4.tx() {
            // The length is the low half of the header's first word.
            let sum = !wire::folded(self.ip_sum + u64::from(total_len));
            headers[IP_CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        headers[SEQUENCE..][..4].copy_from_slice(&plan.sequence.0.to_be_bytes());
        headers[ACKNOWLEDGED..][..4].copy_from_slice(&plan.acknowledged.0.to_be_bytes());
        headers[FLAGS] = plan.flags();
        headers[WINDOW..][..2].copy_from_slice(&plan.window.to_be_bytes());
        headers[URGENT..][..2].copy_from_slice(&plan.urgent.to_be_bytes());
        if checksums.tcp.tx() {
            let ip = Ipv4Packet::new_unchecked(&frame[IP..TCP]);
            let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
            TcpPacket::new_unchecked(&mut frame[TCP..]).fill_checksum(&from, &to);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;
    use smoltcp::phy::Checksum;

    use super::*;

    proptest! {
        /// The two ways to write headers agree.
        #[test]
        fn a_copy_is_as_good_as_the_original(
            addresses in any::<([u8; 4], u16, [u8; 4], u16)>(), numbers in any::<(i32, i32, u16, u16)>(),
            is_pushed in any::<bool>(), hop_limit in 1u8.., is_summed in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (from, from_port, to, to_port) = addresses;
            let ends = Ends {
                local: SocketAddr::new(IpAddr::from(from), from_port),
                remote: SocketAddr::new(IpAddr::from(to), to_port),
                hop_limit,
            };
            let (sequence, acknowledged, window, urgent) = numbers;
            let (sequence, acknowledged) = (TcpSeqNumber(sequence), TcpSeqNumber(acknowledged));
            let plan = Plan { sequence, acknowledged, window, is_pushed, urgent };
            let mut checksums = ChecksumCapabilities::default();
            checksums.tcp = if is_summed { Checksum::Both } else { Checksum::None };
            let ethernet = [7; HEADER_LEN];
            let mut original = alloc::vec![0; HEADERS];
            original.extend(&payload);
            let mut copy = original.clone();
            original[..IP].copy_from_slice(&ethernet);
            plan.write(&ends, &mut original[IP..], &checksums);
            let template = Template::new(&ethernet, &ends).expect("IPv4");
            prop_assert!(template.is_for(&ethernet, hop_limit) && !template.is_for(&[8; HEADER_LEN], hop_limit));
            template.write(&plan, &mut copy, &checksums);
            prop_assert_eq!(copy, original);
        }
    }
}
