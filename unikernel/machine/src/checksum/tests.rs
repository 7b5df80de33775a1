extern crate std;

use proptest::prelude::*;
use std::vec::Vec;

use super::*;

/// The plain definition (RFC 1071): 16-bit words, carries added back, odd byte padded.
fn reference(parts: &[&[u8]]) -> u16 {
    let mut total = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
    }
    total as u16
}

fn ipv4(protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0; 12];
    frame.extend(IPV4);
    let total = (20 + segment.len()) as u16;
    frame.extend([0x45, 0, (total >> 8) as u8, total as u8, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([10, 0, 2, 15, 10, 0, 2, 1]);
    frame.extend(segment);
    frame
}

fn ipv6(protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0; 12];
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0, (segment.len() >> 8) as u8, segment.len() as u8, protocol, 64]);
    frame.extend((0..32).map(|byte| byte * 7));
    frame.extend(segment);
    frame
}

/// What the device does with a partial checksum: sums from `start` on and puts the result there.
fn complete(frame: &mut [u8], partial: PartialChecksum) {
    let start = usize::from(partial.start);
    let checksum = !reference(&[&frame[start..]]);
    let at = start + usize::from(partial.offset);
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn syn_is_begun_here_and_completed_by_the_device() {
    let mut segment = [0; 20];
    segment[..14].copy_from_slice(&[0xbc, 0x4e, 0x1e, 0x61, 0, 6, 0xd6, 1, 0, 0, 0, 0, 0x50, 2]);
    let mut frame = ipv4(TCP, &segment);
    let partial = begin(&mut frame).unwrap();
    assert_eq!(partial, PartialChecksum { start: 34, offset: 16 });
    assert!(!is_plausible(&frame), "a partial checksum is not a whole one");
    complete(&mut frame, partial);
    assert!(is_plausible(&frame));
}

#[test]
fn udp_without_checksum_is_believed() {
    assert!(is_plausible(&ipv4(UDP, &[1, 2, 3, 4, 0, 9, 0, 0, 99])));
}

#[test]
fn other_protocols_and_fragments_are_left_alone() {
    let mut fragment = ipv4(TCP, &[0; 40]);
    fragment[20] = 0x20;
    for mut frame in [ipv4(1, &[8; 40]), fragment, std::vec![0; 60]] {
        assert_eq!(begin(&mut frame), None);
        assert!(is_plausible(&frame));
    }
}

proptest! {
    #[test]
    fn completed_frames_are_plausible_and_damaged_ones_are_not(
        mut segment in proptest::collection::vec(any::<u8>(), 20..200),
        is_tcp: bool,
        is_v4: bool,
        damaged: proptest::sample::Index,
        bit in 0u8..8,
    ) {
        let protocol = if is_tcp { TCP } else { UDP };
        segment[4] = 1;
        let mut frame = if is_v4 { ipv4(protocol, &segment) } else { ipv6(protocol, &segment) };
        let partial = begin(&mut frame).unwrap();
        complete(&mut frame, partial);
        prop_assert!(is_plausible(&frame));
        let at = usize::from(partial.start) + damaged.index(segment.len());
        frame[at] ^= 1 << bit;
        let checksum_at = usize::from(partial.start + partial.offset);
        let has_none = !is_tcp && frame[checksum_at..checksum_at + 2] == [0, 0];
        prop_assert!(has_none || !is_plausible(&frame));
    }

    #[test]
    fn sum_is_the_plain_definition(bytes: Vec<u8>) {
        prop_assert_eq!(fold(sum(&bytes)), reference(&[&bytes]));
    }

    /// Whatever came over the wire, looking at it does not panic.
    #[test]
    fn noise_does_no_harm(mut frame: Vec<u8>, kind in 0u8..3) {
        if frame.len() >= 14 {
            match kind {
                0 => frame[12..14].copy_from_slice(&IPV4),
                1 => frame[12..14].copy_from_slice(&IPV6),
                _ => {}
            }
        }
        let _ = is_plausible(&frame);
        let _ = begin(&mut frame);
    }
}
