//! What stands in front of a packet to and from a network card (Virtual I/O Device specification 1.2, section
//! 5.1.6, `struct virtio_net_hdr`), and how a packet that the card has spread over several buffers is put
//! together. The card's words are checked here before they become lengths.

use alloc::vec::Vec;

use crate::checksum::PartialChecksum;
use crate::ring::Completion;

/// Bytes of the header: of a modern card, and of any that may merge buffers.
pub const HEADER_BYTES: usize = 12;
/// Bytes of a legacy card's header without merging.
pub const LEGACY_HEADER_BYTES: usize = 10;

/// Flags: the checksum is partial; the checksum was verified.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// Kinds of packets that are to be cut.
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Where a header says how many buffers the packet takes.
const NUM_BUFFERS: usize = 10;

/// How a packet with more than one segment's payload is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TsoParams {
    /// Payload of each segment but the last, in bytes.
    pub segment_bytes: u16,
    /// All headers of the packet, which each segment gets.
    pub header_bytes: u16,
    /// Over IPv4, else IPv6.
    pub is_ipv4: bool,
}

/// The header of a packet that goes out: a checksum to complete, perhaps cuts to make.
#[inline]
pub fn outgoing(partial: Option<PartialChecksum>, cut: Option<TsoParams>) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let mut put = |at: usize, value: u16| bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    if let Some(cut) = cut {
        put(2, cut.header_bytes);
        put(4, cut.segment_bytes);
    }
    if let Some(partial) = partial {
        put(6, partial.start);
        put(8, partial.offset);
        bytes[0] = NEEDS_CSUM;
    }
    if let Some(cut) = cut {
        bytes[1] = if cut.is_ipv4 { GSO_TCPV4 } else { GSO_TCPV6 };
    }
    bytes
}

/// True if the card vouches for the checksum of the packet behind this header.
#[inline]
pub fn is_vouched_for(header: &[u8]) -> bool {
    header.first().is_some_and(|flags| flags & (NEEDS_CSUM | DATA_VALID) != 0)
}

/// How many buffers the packet behind this header takes; 0 is nonsense, and so is a header that is cut off.
#[inline]
pub fn buffers(header: &[u8]) -> u16 {
    header.get(NUM_BUFFERS..).and_then(<[u8]>::first_chunk).map_or(0, |count| u16::from_le_bytes(*count))
}

/// Takes the buffers of a packet in `count` buffers, a number that nobody has checked yet, into `parts`, which has
/// room for `parts.capacity()`. All of them are given back together (section 5.1.6.4.1), so one that is missing
/// never comes. False if the device has told nonsense; what it gave back is in `parts` all the same.
pub fn collect(
    parts: &mut Vec<Completion>,
    first: Completion,
    count: u16,
    mut take: impl FnMut() -> Option<Completion>,
) -> bool {
    parts.clear();
    parts.push(first);
    let most = parts.capacity().min(count.into());
    while parts.len() < most {
        let Some(part) = take() else { break };
        parts.push(part);
    }
    parts.len() == usize::from(count)
}

/// The length of a packet that is to be copied together; none if it is more than `most`.
pub fn gathered_len(parts: &[Completion], most: usize) -> Option<usize> {
    parts.iter().try_fold(0_usize, |len, part| len.checked_add(part.len as usize).filter(|len| *len <= most))
}

/// The length of a packet whose parts lie one behind the other in memory, so that it can be read where it is:
/// adjacent buffers, all full but the last. None if they do not.
#[inline]
pub fn contiguous_len(parts: &[Completion], buffer_bytes: usize) -> Option<usize> {
    let (last, full) = parts.split_last()?;
    let first = parts[0].buffer;
    let is_next =
        |(index, part): (usize, &Completion)| usize::from(part.buffer) == usize::from(first) + index;
    let is_contiguous = parts.iter().enumerate().all(is_next)
        && full.iter().all(|part| part.len as usize == buffer_bytes)
        && last.len as usize <= buffer_bytes;
    is_contiguous.then_some(full.len() * buffer_bytes + last.len as usize)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    fn parts(parts: &[(u16, u32)]) -> Vec<Completion> {
        parts.iter().map(|&(buffer, len)| Completion { buffer, len }).collect()
    }

    #[test]
    fn plain_packet_has_a_blank_header() {
        assert_eq!(outgoing(None, None), [0; HEADER_BYTES]);
    }

    #[test]
    fn partial_checksum_is_told_as_the_specification_has_it() {
        let header = outgoing(Some(PartialChecksum { start: 34, offset: 16 }), None);
        assert_eq!(header, [NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
    }

    #[test]
    fn cut_is_told_with_the_headers_and_the_segment() {
        let partial = Some(PartialChecksum { start: 34, offset: 16 });
        let cut = TsoParams { segment_bytes: 1460, header_bytes: 54, is_ipv4: true };
        let header = outgoing(partial, Some(cut));
        assert_eq!(header, [1, GSO_TCPV4, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 0, 0]);
        let header = outgoing(partial, Some(TsoParams { is_ipv4: false, ..cut }));
        assert_eq!(header[1], GSO_TCPV6);
    }

    #[test]
    fn number_of_buffers_is_read_and_missing_words_are_nonsense() {
        let mut header = [0; HEADER_BYTES];
        assert_eq!(buffers(&header), 0);
        header[10..].copy_from_slice(&[0x21, 0x01]);
        assert_eq!(buffers(&header), 0x121);
        assert_eq!(buffers(&header[..11]), 0);
        assert_eq!(buffers(&[]), 0);
    }

    #[test]
    fn packet_in_adjacent_full_buffers_is_read_where_it_is() {
        assert_eq!(contiguous_len(&parts(&[(4, 90)]), 2048), Some(90));
        assert_eq!(contiguous_len(&parts(&[(4, 2048), (5, 2048), (6, 1)]), 2048), Some(4097));
    }

    #[test]
    fn packet_in_scattered_or_half_filled_buffers_is_not() {
        for scattered in
            [&[(4, 2048), (6, 9)][..], &[(255, 2048), (0, 9)], &[(4, 2047), (5, 9)], &[(5, 2048), (4, 9)]]
        {
            assert_eq!(contiguous_len(&parts(scattered), 2048), None, "{scattered:?}");
        }
        assert_eq!(contiguous_len(&parts(&[(4, 2049)]), 2048), None);
        assert_eq!(contiguous_len(&[], 2048), None);
    }

    proptest! {
        /// However many buffers the device claims, no more are taken than there are, none is lost, and a claim is
        /// believed only if it comes true.
        #[test]
        fn claims_are_believed_when_they_come_true(claim: u16, given in 1usize..64, room in 1usize..48) {
            let all: Vec<Completion> =
                (0..given).map(|at| Completion { buffer: at as u16, len: 2048 }).collect();
            let mut left = all[1..].iter().copied();
            let mut collected = Vec::with_capacity(room);
            let room = collected.capacity();
            let is_believed = collect(&mut collected, all[0], claim, || left.next());
            let most = usize::from(claim).clamp(1, given.min(room));
            prop_assert_eq!(&collected[..], &all[..most]);
            prop_assert_eq!(left.len(), given - most);
            prop_assert_eq!(is_believed, usize::from(claim) == most);
            prop_assert_eq!(collected.capacity(), room);
        }
    }

    #[test]
    fn packet_that_is_too_long_is_not_gathered() {
        let parts = parts(&[(9, 2048), (3, 2048), (4, 7)]);
        assert_eq!(gathered_len(&parts, 4103), Some(4103));
        assert_eq!(gathered_len(&parts, 4102), None);
        let lies = [Completion { buffer: 0, len: u32::MAX }; 4];
        assert_eq!(gathered_len(&lies, 65_562), None);
    }

    #[test]
    fn vouching_is_either_flag() {
        assert!(is_vouched_for(&[NEEDS_CSUM]) && is_vouched_for(&[DATA_VALID]));
        assert!(!is_vouched_for(&[4]) && !is_vouched_for(&[]));
    }
}
