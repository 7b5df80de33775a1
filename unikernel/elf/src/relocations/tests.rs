//! Tables that are whole, and tables that are not.

use super::*;
use alloc::vec;
use proptest::prelude::*;

const LINKED: RangeInclusive<u64> = 0xffff_ffff_8040_0000..=0xffff_ffff_8080_0000;
/// From there to anywhere in the last 2 GiB.
const DISTANCES: RangeInclusive<u64> = 0..=0x7f70_0000;

/// Words of which those in the second list are addresses.
fn area() -> impl Strategy<Value = (Vec<u64>, Vec<u32>)> {
    proptest::collection::vec((any::<bool>(), LINKED), 0..400).prop_map(|words| {
        let places = (0..).zip(&words).filter(|(_, (is_address, _))| *is_address);
        let places = places.map(|(index, _)| index).collect();
        (words.into_iter().map(|(_, word)| word).collect(), places)
    })
}

/// Code with addresses at the listed places.
fn code() -> impl Strategy<Value = (Vec<u8>, Vec<u32>)> {
    proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), LINKED), 0..40).prop_map(
        |parts| {
            let (mut code, mut places) = (Vec::new(), Vec::new());
            for (before, address) in parts {
                code.extend(before);
                places.push(code.len() as u32);
                code.extend((address as u32).to_le_bytes());
            }
            (code, places)
        },
    )
}

#[test]
fn numbers_take_no_more_bytes_than_they_need() {
    let places: Vec<u32> = vec![0, 1, 130, 131 + 0x4000];
    assert_eq!(encode([&places, &[]], &[]), [4, 0, 0, 0x80, 1, 0x80, 0x80, 1, 0, 0]);
    assert_eq!(encode([&[], &[]], &[3, 8]), [0, 0, 2, 3, 1]);
}

#[test]
fn damage_is_told() {
    let words = [*LINKED.start(); 3];
    let code = (*LINKED.start() as u32).to_le_bytes();
    let check = |table: &[u8]| check(table, [&words, &words], &code, &LINKED);
    assert_eq!(check(&[1, 2, 1, 0, 1, 0]), Ok(3));
    assert_eq!(check(&[]), Err(Damaged), "nothing");
    assert_eq!(check(&[0, 0]), Err(Damaged), "two lists");
    assert_eq!(check(&[0, 0, 0, 0]), Err(Damaged), "something behind");
    assert_eq!(check(&[1, 3, 0, 0]), Err(Damaged), "behind the area");
    assert_eq!(check(&[2, 2, 0, 0, 0]), Err(Damaged), "the second behind it");
    assert_eq!(check(&[0, 0, 1, 1]), Err(Damaged), "not whole in the code");
    assert_eq!(check(&[2, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]), Err(Damaged), "more than 32 bits in all");
    assert_eq!(check(&[1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0]), Err(Damaged), "more than 32 bits");
    assert_eq!(check(&[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 0]), Err(Damaged), "too many bytes");
    assert_eq!(check(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Damaged), "promised and not there");
    let outside = [*LINKED.end() + 1];
    assert_eq!(super::check(&[1, 0, 0, 0], [&outside, &[]], &code, &LINKED), Err(Damaged));
    assert_eq!(super::check(&[0, 0, 1, 0], [&[], &[]], &[0; 4], &LINKED), Err(Damaged));
}

#[test]
fn address_in_code_has_to_fit() {
    let mut code = (*LINKED.start() as u32).to_le_bytes();
    let before = code;
    // Behind the end, which is the beginning of the first 2 GiB, all the way through them, and below the last.
    for (distance, is_there) in [
        (0x7fbf_ffff, true),
        (0x7fc0_0000, true),
        (0xffbf_ffff, true),
        (0xffc0_0000, false),
        (1 << 32, false),
    ] {
        let mut moved = code;
        let outcome = apply(&[0, 0, 1, 0], [&mut [], &mut []], &mut moved, &LINKED, distance);
        assert_eq!(outcome.is_ok(), is_there, "{distance:x}");
    }
    let below = 0_u64.wrapping_sub(0x40_0001);
    assert_eq!(apply(&[0, 0, 1, 0], [&mut [], &mut []], &mut code, &LINKED, below), Err(Damaged));
    assert_eq!(code, before);
}

proptest! {
    #[test]
    fn what_is_listed_moves_and_nothing_else(areas in [area(), area()], code in code(), distance in DISTANCES) {
        let [(mut first, first_places), (mut second, second_places)] = areas;
        let (mut code, code_places) = code;
        let (old_first, old_second, old_code) = (first.clone(), second.clone(), code.clone());
        let table = encode([&first_places, &second_places], &code_places);
        prop_assert_eq!(
            check(&table, [&first, &second], &code, &LINKED),
            Ok(first_places.len() + second_places.len() + code_places.len())
        );
        apply(&table, [&mut first, &mut second], &mut code, &LINKED, distance).unwrap();
        for (old, new, places) in [(old_first, first, first_places), (old_second, second, second_places)] {
            for (index, (old, new)) in (0..).zip(old.iter().zip(&new)) {
                let moved = if places.contains(&index) { distance } else { 0 };
                prop_assert_eq!(old.wrapping_add(moved), *new);
            }
        }
        for place in code_places {
            let place = place as usize;
            let address = |code: &[u8]| extended(*code[place..].first_chunk().unwrap());
            prop_assert_eq!(address(&old_code) + distance, address(&code));
            code[place..place + SHORT_BYTES].copy_from_slice(&old_code[place..place + SHORT_BYTES]);
        }
        prop_assert_eq!(old_code, code);
    }

    #[test]
    fn damaged_table_changes_nothing(
        (mut words, places) in area(),
        (mut code, code_places) in code(),
        at: prop::sample::Index,
        byte: u8,
        distance in DISTANCES,
    ) {
        let mut table = encode([&places, &[]], &code_places);
        let at = at.index(table.len());
        table[at] = byte;
        let before = (words.clone(), code.clone());
        if apply(&table, [&mut words, &mut []], &mut code, &LINKED, distance).is_err() {
            prop_assert_eq!(before, (words, code));
        }
    }

    #[test]
    fn any_bytes_are_a_table_or_none(
        table in proptest::collection::vec(any::<u8>(), 0..64),
        mut words in proptest::collection::vec(LINKED, 0..300),
        (mut code, _) in code(),
    ) {
        let before = (words.clone(), code.clone());
        let is_good = check(&table, [&words, &words], &code, &LINKED);
        let mut others = words.clone();
        let applied = apply(&table, [&mut words, &mut others], &mut code, &LINKED, 0x1000);
        prop_assert_eq!(is_good.is_ok(), applied.is_ok());
        if applied.is_err() {
            prop_assert_eq!(before, (words, code));
        }
    }
}
