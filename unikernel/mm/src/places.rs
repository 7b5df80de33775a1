//! Where things are in the app's address space, out of random numbers: places that an attacker cannot foretell (ASLR).
//!
//! ```text
//!   0x5555_5555_4000  + 16 TiB    a position-independent program
//!   behind the program + 4 TiB    the break
//!                  end - 1 TiB    the vDSO
//!           below that - 4 TiB    the first stack's top
//!      below the stack - 1 TiB    mappings, growing down
//! ```
//!
//! The spans are powers of two of pages, so that every bit of a number counts.

use crate::PAGE_BYTES;

/// Position-independent programs are from here on (Linux: `ELF_ET_DYN_BASE`), far above the low addresses.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Bits of the place of such a program, in pages. Of one that is aligned to 2 MiB, 23 are left.
const PROGRAM_BITS: u32 = 32;
/// Bits of the distance from a program to its break. Its addresses are known to whoever knows the program's, so it has its
/// own, and more than Linux (13).
const BREAK_BITS: u32 = 30;
/// The break is below here, where mappings, stack and vDSO are never.
const BREAK_END: u64 = 0x7900_0000_0000;
/// Bits of the place of the vDSO, whose address says nothing of the mappings' then, nor theirs of its code's.
const VDSO_BITS: u32 = 28;
/// Room for the vDSO itself and the clock's page before it.
const VDSO_BYTES: u64 = 16 * PAGE_BYTES;
/// Bits of the place of the first stack.
const STACK_BITS: u32 = 30;
/// Bits of the distance from the stack to the first mapping.
const MAPPINGS_BITS: u32 = 28;

/// Where a position-independent program begins, or somewhat above if its alignment asks for it.
pub const fn program_start(random: u64) -> u64 {
    PROGRAM_BASE + pages(PROGRAM_BITS, random)
}

/// Where the break of a program begins that ends at `program_end`. A program with its own addresses may be so high that
/// there is less room.
pub const fn break_start(program_end: u64, random: u64) -> u64 {
    let room = BREAK_END.saturating_sub(program_end) / PAGE_BYTES;
    let bits = match room.checked_ilog2() {
        Some(bits) if bits < BREAK_BITS => bits,
        Some(_) => BREAK_BITS,
        None => 0,
    };
    program_end + pages(bits, random)
}

/// Where the vDSO ends, in an address space that ends at `space_end`. It has a span of its own, above all that grows.
pub const fn vdso_end(space_end: u64, random: u64) -> u64 {
    space_end - pages(VDSO_BITS, random)
}

/// Where the first stack ends, in an address space that ends at `space_end`.
pub const fn stack_end(space_end: u64, random: u64) -> u64 {
    // Below the vDSO with its pages, wherever it is.
    space_end - (PAGE_BYTES << VDSO_BITS) - VDSO_BYTES - pages(STACK_BITS, random)
}

/// Where the highest mapping ends, below the stack with what it may grow by.
pub const fn mappings_end(stack_start: u64, random: u64) -> u64 {
    stack_start - pages(MAPPINGS_BITS, random)
}

const fn pages(bits: u32, random: u64) -> u64 {
    (random & ((1 << bits) - 1)) * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    const SPACE_END: u64 = 0x7fff_ffff_f000;
    const BOOTS: usize = 4096;

    /// A stream of random numbers (SplitMix64: Steele, Lea and Flood, 2014).
    struct Stream(u64);

    impl Stream {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ word >> 31
        }
    }

    /// Program, break, stack, mappings and vDSO of a boot.
    fn boot(random: &mut Stream) -> [u64; 5] {
        let program = program_start(random.next());
        let stack = stack_end(SPACE_END, random.next());
        [
            program,
            break_start(program + 0x12_3000, random.next()),
            stack,
            mappings_end(stack - (9 << 20), random.next()),
            vdso_end(SPACE_END, random.next()),
        ]
    }

    /// The least surprise of one bit in so many boots: how probable the likelier of its values is, in bits.
    fn least_entropy_of_a_bit(places: &[u64], bit: u32) -> f64 {
        let ones = places.iter().filter(|place| *place >> bit & 1 == 1).count();
        let likelier = ones.max(places.len() - ones) as f64 / places.len() as f64;
        // There is no logarithm without `std`: near a half, its first terms.
        1.0 - (2.0 * likelier - 1.0) / core::f64::consts::LN_2
    }

    #[test]
    fn places_have_the_entropy_that_is_promised() {
        let mut random = Stream(1);
        let boots: Vec<[u64; 5]> = (0..BOOTS).map(|_| boot(&mut random)).collect();
        for (index, (name, least)) in
            [("program", 32), ("break", 30), ("stack", 30), ("mappings", 28), ("vDSO", 28)]
                .into_iter()
                .enumerate()
        {
            let places: Vec<u64> = boots.iter().map(|boot| boot[index]).collect();
            let bits: f64 = (12..12 + least).map(|bit| least_entropy_of_a_bit(&places, bit)).sum();
            let worst = (12..12 + least).map(|bit| least_entropy_of_a_bit(&places, bit)).fold(1.0, f64::min);
            assert!(worst > 0.9, "{name}: a bit has {worst} bits of entropy");
            assert!(bits > f64::from(least) * 0.97, "{name}: {bits} bits of entropy");
            // Of 2^28 places, two of so many boots are at one with a chance of 3 %; three pairs never.
            let different = places.iter().collect::<BTreeSet<_>>().len();
            assert!(different >= BOOTS - 2, "{name}: {different} places");
            // No two bits go together: as often equal as not.
            for low in 12..12 + least {
                for high in low + 1..12 + least {
                    let equal = places.iter().filter(|p| (*p >> low ^ *p >> high) & 1 == 0).count();
                    assert!(equal.abs_diff(BOOTS / 2) < BOOTS / 10, "{name}: bits {low} and {high}: {equal}");
                }
            }
        }
    }

    #[test]
    fn one_place_tells_nothing_of_another() {
        let mut random = Stream(2);
        let boots: Vec<[u64; 5]> = (0..BOOTS).map(|_| boot(&mut random)).collect();
        for (one, other) in [(0, 1), (0, 2), (1, 2), (2, 3), (1, 3), (2, 4), (3, 4)] {
            let distances: BTreeSet<u64> =
                boots.iter().map(|boot| boot[one].wrapping_sub(boot[other])).collect();
            assert!(distances.len() >= BOOTS - 2, "{one} and {other}: {} distances", distances.len());
        }
    }

    #[test]
    fn places_are_in_order_whatever_the_numbers() {
        for random in [0, u64::MAX] {
            let program = program_start(random).next_multiple_of(1 << 30);
            assert!(program >= PROGRAM_BASE);
            let heap = break_start(program + (1 << 40), random);
            assert!(heap + (1 << 40) < BREAK_END, "{heap:x}");
            let stack = stack_end(SPACE_END, random);
            assert!(
                stack + VDSO_BYTES <= vdso_end(SPACE_END, u64::MAX)
                    && vdso_end(SPACE_END, random) <= SPACE_END
            );
            assert!(mappings_end(stack - (9 << 20), random) > BREAK_END);
        }
    }

    #[test]
    fn break_of_a_high_program_stays_below_the_mappings() {
        for end in [BREAK_END - 0x5000, BREAK_END - 1, BREAK_END, SPACE_END] {
            let start = break_start(end, u64::MAX);
            assert!((end..=BREAK_END.max(end)).contains(&start), "{end:x} {start:x}");
        }
    }
}
