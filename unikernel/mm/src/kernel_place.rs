//! Where the kernel runs: anywhere in its part of the address space, by pages.

use core::ops::Range;

use crate::PAGE_BYTES;

/// A place for `bytes` in `area` that does not touch `taken`; each page is as likely as the random number. None if there is no
/// room. All that is given is in whole pages.
pub fn choose(area: &Range<u64>, taken: &Range<u64>, bytes: u64, random: u64) -> Option<u64> {
    let free = [area.start..taken.start, taken.end..area.end].map(|free| {
        let room = free.end.checked_sub(free.start).and_then(|all| all.checked_sub(bytes));
        (free.start, room.map_or(0, |room| room / PAGE_BYTES + 1))
    });
    let [(first_start, first_count), (second_start, second_count)] = free;
    let index = random.checked_rem(first_count + second_count)?;
    Some(match index.checked_sub(first_count) {
        None => first_start + index * PAGE_BYTES,
        Some(index) => second_start + index * PAGE_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AREA: Range<u64> = 0xffff_ffff_8040_0000..0xffff_ffff_ffc0_0000;
    const TAKEN: Range<u64> = 0xffff_ffff_8040_0000..0xffff_ffff_8080_0000;
    const BYTES: u64 = 3 << 20;

    #[test]
    fn each_place_can_be_had() {
        let choose = |random| choose(&AREA, &TAKEN, BYTES, random);
        // There is no room for it in front.
        let count = (AREA.end - TAKEN.end - BYTES) / PAGE_BYTES + 1;
        assert!(count.ilog2() == 18 && count > 519_000, "{count}");
        assert_eq!(choose(0), Some(TAKEN.end));
        assert_eq!(choose(count - 1), Some(AREA.end - BYTES));
        assert_eq!(choose(count), Some(TAKEN.end));
        let in_front = TAKEN.end + (4 << 20)..TAKEN.end + (8 << 20);
        let choose = |random| super::choose(&AREA, &in_front, BYTES, random);
        let in_front_count = (in_front.start - AREA.start - BYTES) / PAGE_BYTES + 1;
        assert_eq!(choose(in_front_count - 1), Some(in_front.start - BYTES));
        assert_eq!(choose(in_front_count), Some(in_front.end));
    }

    #[test]
    fn without_room_there_is_no_place() {
        assert_eq!(choose(&TAKEN, &TAKEN, 4096, 7), None);
        assert_eq!(choose(&AREA, &TAKEN, 1 << 31, 7), None);
    }

    proptest! {
        #[test]
        fn places_are_free_pages(
            start in 0..(1_u64 << 18),
            taken_pages in 1..4096_u64,
            pages in 1..4096_u64,
            random: u64,
        ) {
            let start = AREA.start + start * PAGE_BYTES;
            let taken = start..start + taken_pages * PAGE_BYTES;
            let bytes = pages * PAGE_BYTES;
            let place = choose(&AREA, &taken, bytes, random).unwrap();
            prop_assert!(place >= AREA.start && place + bytes <= AREA.end && place.is_multiple_of(PAGE_BYTES));
            prop_assert!(place + bytes <= taken.start || place >= taken.end);
        }
    }
}
