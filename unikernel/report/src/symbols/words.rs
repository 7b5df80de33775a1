//! Names in few bytes: parts that many names have become one byte each, as in Linux's `kallsyms`. A name is read
//! without memory, for a crash may have left none.
//!
//! A part is made of ASCII characters and stands for a byte that is in no name; every other byte stands for itself. The most
//! frequent pair of bytes becomes a part, again and again, while bytes are left (byte pair encoding). So a part may
//! be long.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};

use arrayvec::ArrayVec;

/// Longer names are cut.
pub const NAME_BYTES: usize = 127;
/// Names of so many bytes, from all over the table, show which parts are frequent.
const SAMPLE_BYTES: usize = 32 << 10;
/// A pair that is rarer is not worth its place in the list.
const LEAST_USES: u32 = 4;
const BYTES: usize = 256;
/// Bytes that say where each part ends.
const ENDS_BYTES: usize = BYTES * 2;

/// What each byte of a name stands for.
#[derive(Debug)]
pub(super) struct Vocabulary {
    parts: Vec<Vec<u8>>,
    /// Which parts begin with a byte.
    by_first: Vec<Vec<u8>>,
}

impl Vocabulary {
    /// Finds the parts that these names have in common.
    pub(super) fn learn(names: &[&str]) -> Self {
        let mut parts: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let mut is_used = [false; BYTES];
        is_used[0] = true;
        names.iter().flat_map(|name| name.bytes()).for_each(|byte| is_used[usize::from(byte)] = true);
        let mut sample = sample(names);
        // What a pair may be made of: ASCII, and parts. A zero is between two names.
        let mut is_joinable: [bool; BYTES] = core::array::from_fn(|byte| (1..0x80).contains(&byte));
        for free in (1..=u8::MAX).filter(|byte| !is_used[usize::from(*byte)]) {
            let Some(pair) = most_frequent(&sample, &is_joinable) else { break };
            parts[usize::from(free)] = pair.map(|byte| parts[usize::from(byte)].clone()).concat();
            is_joinable[usize::from(free)] = true;
            replace(&mut sample, pair, free);
        }
        let mut by_first = vec![Vec::new(); BYTES];
        for byte in 0..=u8::MAX {
            by_first[usize::from(parts[usize::from(byte)][0])].push(byte);
        }
        Self { parts, by_first }
    }

    /// A name in as few bytes as can be.
    pub(super) fn shorten(&self, name: &str) -> Vec<u8> {
        let name = name.as_bytes();
        // For the rest of the name from each place on: how many bytes it takes, and the first of them.
        let mut rest = vec![(0, 0); name.len() + 1];
        for at in (0..name.len()).rev() {
            let fitting = self.by_first[usize::from(name[at])]
                .iter()
                .filter(|byte| name[at..].starts_with(&self.parts[usize::from(**byte)]));
            let costs = fitting.map(|&byte| (rest[at + self.parts[usize::from(byte)].len()].0 + 1, byte));
            rest[at] = costs.min().unwrap_or((usize::MAX / 2, name[at]));
        }
        let mut short = Vec::new();
        let mut at = 0;
        while at < name.len() {
            short.push(rest[at].1);
            at += self.parts[usize::from(rest[at].1)].len();
        }
        short
    }

    /// Where each part ends (16 bits each), and the parts.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut end = 0u16;
        let ends = self.parts.iter().flat_map(|part| {
            end += part.len() as u16;
            end.to_le_bytes()
        });
        let mut bytes: Vec<u8> = ends.collect();
        bytes.extend(self.parts.iter().flatten());
        bytes
    }
}

/// Every so many of the names, with zeros between them.
fn sample(names: &[&str]) -> Vec<u8> {
    let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
    let some = names.iter().step_by(bytes.div_ceil(SAMPLE_BYTES).max(1));
    some.flat_map(|name| name.bytes().chain([0])).collect()
}

/// The pair that is there most often; of several the one that is complete first.
fn most_frequent(text: &[u8], is_joinable: &[bool; BYTES]) -> Option<[u8; 2]> {
    let mut uses = vec![0u32; BYTES * BYTES];
    let mut most = (0, [0; 2]);
    for pair in text.array_windows::<2>() {
        if is_joinable[usize::from(pair[0])] && is_joinable[usize::from(pair[1])] {
            let uses = &mut uses[usize::from(u16::from_be_bytes(*pair))];
            *uses += 1;
            if *uses > most.0 {
                most = (*uses, *pair);
            }
        }
    }
    (most.0 >= LEAST_USES).then_some(most.1)
}

fn replace(text: &mut Vec<u8>, pair: [u8; 2], by: u8) {
    let mut written = 0;
    let mut at = 0;
    while at < text.len() {
        let is_pair = text[at..].starts_with(&pair);
        text[written] = if is_pair { by } else { text[at] };
        written += 1;
        at += if is_pair { pair.len() } else { 1 };
    }
    text.truncate(written);
}

/// The parts as they lie in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    ends: &'a [[u8; 2]],
    text: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Reads what [`Vocabulary::bytes`] wrote.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (ends, text) = bytes.split_at_checked(ENDS_BYTES)?;
        Some(Self { ends: ends.as_chunks().0, text })
    }

    fn part(&self, byte: u8) -> Option<&'a [u8]> {
        let end_of = |index: usize| self.ends.get(index).map(|&end| usize::from(u16::from_le_bytes(end)));
        let index = usize::from(byte);
        let start = index.checked_sub(1).map_or(Some(0), end_of)?;
        self.text.get(start..end_of(index)?)
    }
}

/// A function's name.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    short: &'a [u8],
    parts: Parts<'a>,
}

/// A name that was written out.
#[derive(Clone, Debug)]
pub struct NameText(ArrayVec<u8, NAME_BYTES>);

impl<'a> Name<'a> {
    pub(super) fn new(short: &'a [u8], parts: Parts<'a>) -> Self {
        Self { short, parts }
    }

    /// Writes it out. A damaged one ends early.
    pub fn text(&self) -> NameText {
        let mut text = ArrayVec::new();
        for &byte in self.short {
            let part = self.parts.part(byte).unwrap_or_default();
            if text.try_extend_from_slice(part).is_err() {
                break;
            }
        }
        NameText(text)
    }
}

impl NameText {
    /// The name, up to whatever is no text.
    pub fn as_str(&self) -> &str {
        self.0.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}
