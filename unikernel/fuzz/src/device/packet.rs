//! What stands in front of a received packet, the buffers it says it takes, and the checksums in it; a disk's claims about itself.

use unikernel_machine::checksum::{begin, is_plausible};
use unikernel_machine::disk::{Claims, Limits, Memory, REQUEST_BYTES};
use unikernel_machine::packet::{
    HEADER_BYTES, buffers, collect, contiguous_len, gathered_len, is_vouched_for,
};
use unikernel_machine::ring::Completion;

use crate::input::Input;

const BUFFER_BYTES: usize = 2048;
const MOST_BYTES: usize = 65_562;
const MOST_BUFFERS: usize = 17;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => gather(input),
        1 => sum(input.rest()),
        _ => cut(input),
    }
}

/// Takes a packet out of buffers, as the driver does.
fn gather(mut input: Input<'_>) {
    let header: [u8; HEADER_BYTES] = input.array();
    let _ = is_vouched_for(&header);
    let mut take = || {
        let is_there = !input.is_over();
        let (buffer, len) = (input.half(), u32::from(input.half()) << (input.byte() % 17));
        is_there.then_some(Completion { buffer, len })
    };
    let mut parts = Vec::with_capacity(MOST_BUFFERS);
    let Some(first) = take() else { return };
    let is_whole = collect(&mut parts, first, buffers(&header), take);
    assert!(!parts.is_empty() && parts.len() <= parts.capacity());
    assert!(!is_whole || parts.len() == usize::from(buffers(&header)));
    let sum: u64 = parts.iter().map(|part| u64::from(part.len)).sum();
    assert!(gathered_len(&parts, MOST_BYTES).is_none_or(|len| len as u64 == sum && len <= MOST_BYTES));
    if let Some(len) = contiguous_len(&parts, BUFFER_BYTES) {
        assert!(len as u64 == sum && len <= parts.len() * BUFFER_BYTES);
    }
}

/// Has the card complete a checksum, and verifies one.
fn sum(frame: &[u8]) {
    let mut begun = frame.to_vec();
    if let Some(partial) = begin(&mut begun) {
        let at = usize::from(partial.start) + usize::from(partial.offset);
        assert!(at + 2 <= frame.len(), "the card would write behind the frame");
        assert!(begun[..at] == frame[..at] && begun[at + 2..] == frame[at + 2..]);
    } else {
        assert!(begun == frame);
    }
    let _ = is_plausible(frame);
}

/// Cuts memory into requests to a disk that claims anything.
fn cut(mut input: Input<'_>) {
    let mut claim = || input.flag().then(|| input.word());
    let claims = Claims {
        block_bytes: claim(),
        max_part_bytes: claim(),
        max_parts: claim(),
        max_discard: claim(),
        max_write_zeroes: claim(),
        // Of the others the property tests of `Limits` know; the kept corpus has no bytes for them.
        ..Claims::default()
    };
    let Ok(limits) = Limits::new(claims, 64) else { return };
    assert!((512..=4096).contains(&limits.block_bytes) && limits.block_bytes.is_power_of_two());
    let mut transfers = Vec::new();
    let mut bytes = 0;
    while !input.is_over() && transfers.len() < 1000 {
        let (sector, address) = (limits.sectors(input.long() >> (input.byte() & 63)), input.long());
        let len = (u32::from(input.half()) << 3) / limits.block_bytes * limits.block_bytes;
        limits.add(&mut transfers, sector, Memory { address, len });
        bytes += u64::from(len);
    }
    assert_eq!(transfers.iter().map(|transfer| transfer.bytes()).sum::<u64>(), bytes);
    for transfer in &transfers {
        assert!(transfer.parts.len() <= limits.max_parts && transfer.bytes() <= REQUEST_BYTES.into());
        let is_good =
            |part: &Memory| part.len <= limits.max_part_bytes && part.len.is_multiple_of(limits.block_bytes);
        assert!(transfer.parts.iter().all(is_good));
    }
}
