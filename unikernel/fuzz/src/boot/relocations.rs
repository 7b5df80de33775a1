//! The table by which a program moves itself: what was checked can be applied, and moves back.

use unikernel_elf::relocations::{apply, check};

use crate::input::Input;

const LINKED: core::ops::RangeInclusive<u64> = 0x1000..=0x8fff_ffff;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let distance = input.word().into();
    let mut words = [[0; 8], [0; 8]];
    words.as_flattened_mut().iter_mut().for_each(|word| *word = u64::from(input.half()));
    let mut code = input.array::<32>();
    let table = input.rest();
    let before = (words, code);
    let [first, second] = &mut words;
    let is_good = check(table, [first.as_slice(), second.as_slice()], &code, &LINKED).is_ok();
    if apply(table, [first, second], &mut code, &LINKED, distance).is_err() {
        assert!((words, code) == before, "a table that was refused has changed something");
        return;
    }
    assert!(is_good);
    let wide = 0..=u64::MAX;
    let [first, second] = &mut words;
    // Overlapping places in the code could be moved twice; `encode` makes none, and none is accepted.
    apply(table, [first, second], &mut code, &wide, distance.wrapping_neg()).expect("it moves back");
    assert!((words, code) == before);
}
