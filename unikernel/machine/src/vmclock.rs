//! The page of a "vmclock" device: what a hypervisor says of the machine's clock and of breaks in its life (Linux,
//! `include/uapi/linux/vmclock-abi.h`; QEMU 10's `vmclock`, Firecracker's VMClock). Two of its numbers are of use here:
//! one changes whenever the clock cannot be relied on, as after a move to another host, the other whenever the machine
//! goes on from a saved state.

/// Bytes that are looked at: the structure without what later versions may append.
pub const BYTES: usize = 112;

/// Offset of a number that the hypervisor changes whenever it writes the page, so that one look at it tells whether
/// another is worth while.
pub const SEQUENCE: usize = 12;

/// "VCLK".
const MAGIC: u32 = 0x4b4c_4356;
const VERSION: u16 = 1;
/// Offsets of fields.
const SIZE: usize = 4;
const VERSION_AT: usize = 8;
const DISRUPTION: usize = 16;
const FLAGS: usize = 24;
const GENERATION: usize = 104;
/// The structure before there was a generation in it.
const SHORT_BYTES: u32 = 104;
/// The flag that says that there is.
const HAS_GENERATION: u64 = 1 << 8;

/// What a page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// Changes with every break.
    pub disruption: u64,
    /// Changes when the machine goes on from a saved state; 0 without that field.
    pub generation: u64,
}

impl State {
    /// The state as bytes, which differ if the states do.
    pub fn bytes(self) -> [u8; 16] {
        (u128::from(self.disruption) << 64 | u128::from(self.generation)).to_le_bytes()
    }
}

/// True if the bytes are those of such a page, in a version that is known.
pub fn is_page(page: &[u8; BYTES]) -> bool {
    dword(page, 0) == MAGIC && dword(page, SIZE) >= SHORT_BYTES && dword(page, VERSION_AT) as u16 == VERSION
}

/// What the page says. `read` reads the page; it is read once more if the hypervisor writes meanwhile, and `None` is the
/// answer if that does not end or it is no such page any more.
pub fn state(read: impl Fn() -> [u8; BYTES]) -> Option<State> {
    const TRIES: usize = 16;
    (0..TRIES).find_map(|_| {
        let (page, again) = (read(), read());
        let sequence = dword(&page, SEQUENCE);
        let is_whole = sequence & 1 == 0 && dword(&again, SEQUENCE) == sequence && is_page(&page);
        let has_generation =
            qword(&page, FLAGS) & HAS_GENERATION != 0 && dword(&page, SIZE) as usize >= BYTES;
        is_whole.then(|| State {
            disruption: qword(&page, DISRUPTION),
            generation: if has_generation { qword(&page, GENERATION) } else { 0 },
        })
    })
}

fn dword(page: &[u8; BYTES], at: usize) -> u32 {
    qword(page, at & !7).wrapping_shr(8 * (at as u32 & 4)) as u32
}

fn qword(page: &[u8; BYTES], at: usize) -> u64 {
    page.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// As Firecracker writes it: 4 KiB, version 1, no counter, both flags.
    fn page(sequence: u32, disruption: u64, generation: u64) -> [u8; BYTES] {
        let mut page = [0; BYTES];
        page[..8].copy_from_slice(b"VCLK\0\x10\0\0");
        page[8..12].copy_from_slice(&[1, 0, 0xff, 0]);
        page[12..16].copy_from_slice(&sequence.to_le_bytes());
        page[16..24].copy_from_slice(&disruption.to_le_bytes());
        page[24..32].copy_from_slice(&(3_u64 << 8).to_le_bytes());
        page[104..].copy_from_slice(&generation.to_le_bytes());
        page
    }

    #[test]
    fn numbers_are_read_and_differ_as_bytes() {
        let read = state(|| page(2, 7, 9)).unwrap();
        assert_eq!(read, State { disruption: 7, generation: 9 });
        assert_ne!(read.bytes(), State { disruption: 9, generation: 7 }.bytes());
    }

    #[test]
    fn generation_that_is_not_there_is_zero() {
        let mut old = page(0, 7, 9);
        old[25] = 0;
        assert_eq!(state(|| old), Some(State { disruption: 7, generation: 0 }));
        let mut short = page(0, 7, 9);
        short[4..8].copy_from_slice(&104_u32.to_le_bytes());
        assert_eq!(state(|| short), Some(State { disruption: 7, generation: 0 }));
    }

    #[test]
    fn page_is_read_again_while_it_is_written() {
        let reads = Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            // Odd, then changed between the two looks, then at rest.
            [page(1, 7, 0), page(1, 7, 0), page(2, 8, 0), page(4, 9, 0)][reads.get().min(4) - 1]
        };
        assert_eq!(state(read), Some(State { disruption: 9, generation: 0 }));
        assert_eq!(state(|| page(1, 7, 9)), None, "a writer that never ends");
    }

    #[test]
    fn something_else_is_no_page() {
        for (at, byte) in [(0, 0), (8, 2), (4, 0x20)] {
            let mut other = page(0, 7, 9);
            other[at] = byte;
            other[5] = if at == 4 { 0 } else { other[5] };
            assert!(!is_page(&other) && state(|| other).is_none(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), BYTES)) {
            let noise: [u8; BYTES] = bytes.try_into().unwrap();
            let _ = state(|| noise);
        }
    }
}
