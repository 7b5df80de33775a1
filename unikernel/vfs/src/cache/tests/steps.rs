//! What a sequence does.

use std::vec::Vec;

use super::model::CELLS;
use super::random::Random;

/// One call of an app, or what the kernel does of its own. Offsets and lengths are cells, but for pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Write { file: usize, first: usize, count: usize, has_fault: bool },
    Append { file: usize, count: usize },
    Read { file: usize, first: usize, count: usize },
    Store { file: usize, first: usize },
    Resize { file: usize, size: usize },
    Punch { file: usize, first: usize, count: usize },
    Allocate { file: usize, first: usize, count: usize, keeps_size: bool },
    Open { file: usize },
    Sync { file: usize, opened: usize },
    WriteBack { file: usize, first_page: u64, last_page: u64 },
    WriteBackAll,
    Commit,
    Evict { pages: usize },
    Forget { file: usize, first_page: u64, pages: u64 },
}

/// Files of a sequence.
pub(super) const FILES: usize = 2;

/// `count` steps.
pub(super) fn steps(random: &mut Random, count: usize) -> Vec<Step> {
    (0..count).map(|_| step(random)).collect()
}

fn step(random: &mut Random) -> Step {
    let file = random.below(FILES as u64) as usize;
    let first = random.below(CELLS as u64 - 1) as usize;
    let long = random.below((CELLS - first) as u64) as usize + 1;
    let short = (random.below(8) as usize + 1).min(CELLS - first);
    let count = if random.below(2) == 0 { long } else { short };
    let page = random.below(6);
    match random.below(26) {
        0..=5 => Step::Write { file, first, count, has_fault: random.below(8) == 0 },
        6 => Step::Append { file, count: short },
        7..=9 => Step::Read { file, first, count: long },
        10..=12 => Step::Store { file, first },
        13 => Step::Resize { file, size: first },
        14 => Step::Resize { file, size: random.below(2) as usize * CELLS / 2 },
        15 => Step::Punch { file, first, count },
        16 => Step::Allocate { file, first, count, keeps_size: random.below(2) == 0 },
        17 => Step::Open { file },
        18..=21 => Step::Sync { file, opened: random.below(3) as usize },
        22 => Step::WriteBack { file, first_page: page, last_page: page + random.below(3) },
        23 if random.below(2) == 0 => Step::WriteBackAll,
        23 => Step::Commit,
        24 => Step::Evict { pages: random.below(12) as usize + 1 },
        _ => Step::Forget { file, first_page: page, pages: random.below(6) + 1 },
    }
}
