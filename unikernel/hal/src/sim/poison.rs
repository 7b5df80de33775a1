//! Memory that nobody has written since it was given out or given back is full of a pattern: the kernel's objects, frames, and the part of
//! its stacks that a system call begins with. Where such bytes come to the app, a machine fails: they stand for what was there before.
//!
//! So each test of the kernel, each scenario and each input of the fuzzer that makes a call looks for bytes of the kernel's in what the
//! call answers. A run of fewer than [`LEAST`] is not seen: that structures have no gaps is what the types say ([`crate::user::NoPadding`]).

use core::mem::MaybeUninit;
use core::ptr;

/// It is repeated. No byte is in it twice, so a byte says where in it a piece begins; and no test of ours has two of them in a row.
pub const PATTERN: [u8; 8] = [0xa7, 0x5e, 0xc3, 0x91, 0xe8, 0xb4, 0x8d, 0xf2];
/// So many bytes of it in a row are no accident: not even random bytes have them in the tests that there are.
pub const LEAST: usize = 5;
/// So much of a stack is filled at each entry. Frames of a call that is not compiled for speed reach further down, and what lies there is
/// older.
const STACK_BYTES: usize = 16 << 10;

/// Fills `bytes` at `start`.
///
/// # Safety
///
/// They are writable memory that nobody relies on.
pub(crate) unsafe fn fill(start: *mut u8, bytes: usize) {
    // SAFETY: by the caller.
    let (whole, rest) = unsafe { core::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), bytes) }
        .as_chunks_mut::<{ PATTERN.len() }>();
    whole.fill(PATTERN.map(MaybeUninit::new));
    rest.copy_from_slice(&PATTERN.map(MaybeUninit::new)[..rest.len()]);
}

/// Fills the empty part of a kernel's stack, which ends at `top`.
///
/// # Safety
///
/// Nothing runs on the stack, and what is below `top` belongs to nobody.
pub(super) unsafe fn fill_stack(top: u64) {
    let start = ptr::with_exposed_provenance_mut::<u8>(top as usize - STACK_BYTES);
    // SAFETY: by the caller; a stack is much larger.
    unsafe { fill(start, STACK_BYTES) };
}

/// Looks at what comes to the app.
///
/// # Panics
///
/// If the kernel never wrote it.
pub fn check(bytes: &[u8]) {
    // Each piece of the pattern has a byte whose place is a multiple of that, and few others have such bytes.
    let suspects = (0..bytes.len()).step_by(LEAST).filter(|&at| next(bytes[at]).is_some());
    let starts = suspects.flat_map(|at| at.saturating_sub(LEAST - 1)..=at);
    let found = starts.into_iter().find(|&at| bytes.get(at..at + LEAST).is_some_and(is_pattern));
    if let Some(at) = found {
        let around = &bytes[at..bytes.len().min(at + 64)];
        panic!(
            "bytes of the kernel's come to the app, at {at} of {}: {}",
            bytes.len(),
            around.escape_ascii()
        );
    }
}

/// True for a piece of the pattern.
fn is_pattern(piece: &[u8]) -> bool {
    let follows = |pair: &[u8]| next(pair[0]) == Some(pair[1]);
    piece.windows(2).all(follows)
}

/// The byte behind one of the pattern's.
fn next(byte: u8) -> Option<u8> {
    let place = PATTERN.iter().position(|&own| own == byte)?;
    Some(PATTERN[(place + 1) % PATTERN.len()])
}
