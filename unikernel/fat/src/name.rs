//! Names: long ones, in UTF-16 and in pieces before an entry, and short ones, in code page 437, as Linux takes them.

use alloc::string::String;
use alloc::vec::Vec;

use unikernel_vfs::Error;

use crate::entry::Slot;
use crate::geometry::u16_at;

/// UTF-16 units of a long name in one slot, at these offsets.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const MAX_PARTS: usize = 20;
const MAX_UNITS: usize = 255;
/// Set in the number of the part that comes first, which is the name's last.
const FIRST: u8 = 0x40;
/// A unit becomes at most so many bytes of UTF-8.
const UNIT_BYTES: usize = 3;
/// Which parts of a short name are meant in small letters.
const SMALL_STEM: u8 = 0x08;
const SMALL_EXTENSION: u8 = 0x10;
/// Stands for 0xe5 as a short name's first byte, for that means a free slot.
const KANJI: u8 = 0x05;
/// What code page 437 has from 0x80 on.
const CODE_PAGE: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The parts of a long name that were met so far. They come from the last to the first.
pub(crate) struct LongName {
    units: Vec<u16>,
    /// How many there are in all, and the number of the one that came last; 0 without a name.
    parts: usize,
    number: usize,
    /// Of the short name that shall follow.
    checksum: u8,
}

impl LongName {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut units = Vec::new();
        units.try_reserve_exact(MAX_PARTS * UNITS.len()).map_err(|_| Error::NoMemory)?;
        units.resize(MAX_PARTS * UNITS.len(), 0);
        Ok(Self { units, parts: 0, number: 0, checksum: 0 })
    }

    pub(crate) fn clear(&mut self) {
        self.parts = 0;
    }

    /// Takes a part; one that does not fit what came before ends the name.
    pub(crate) fn add(&mut self, slot: &Slot) {
        let number = usize::from(slot[0] & !FIRST);
        if slot[0] & FIRST != 0 {
            self.parts = if number <= MAX_PARTS { number } else { 0 };
            self.checksum = slot[13];
        } else if number + 1 != self.number || self.checksum != slot[13] {
            self.parts = 0;
        }
        if number == 0 {
            self.parts = 0;
        }
        if self.parts == 0 {
            return;
        }
        self.number = number;
        let part = &mut self.units[(number - 1) * UNITS.len()..number * UNITS.len()];
        for (unit, at) in part.iter_mut().zip(UNITS) {
            *unit = u16_at(slot, at);
        }
    }

    /// Makes `text` the name of the entry that follows, if it has one by which it can be found.
    pub(crate) fn text(&self, short: &[u8; 11], text: &mut String) -> Result<bool, Error> {
        if self.parts == 0 || self.number != 1 || self.checksum != checksum(short) {
            return Ok(false);
        }
        let units = &self.units[..self.parts * UNITS.len()];
        let len = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        if len > MAX_UNITS {
            return Ok(false);
        }
        let units = units[..len].iter().copied();
        let characters = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        set(text, characters)?;
        Ok(is_usable(text))
    }
}

/// Makes `text` the short name, if it is one by which the entry can be found.
pub(crate) fn short_text(name: &[u8; 11], case: u8, text: &mut String) -> Result<bool, Error> {
    let (stem, extension) = name.split_at(8);
    let stem = characters(stem.trim_ascii_end(), case & SMALL_STEM != 0, true);
    let dot = extension.trim_ascii_end().first().map(|_| '.');
    let extension = characters(extension.trim_ascii_end(), case & SMALL_EXTENSION != 0, false);
    set(text, stem.chain(dot).chain(extension))?;
    Ok(is_usable(text))
}

/// The text of a label.
pub(crate) fn label_text(label: &[u8; 11], text: &mut String) -> Result<(), Error> {
    set(text, characters(label.trim_ascii_end(), false, true))
}

fn characters(bytes: &[u8], is_small: bool, is_start: bool) -> impl Iterator<Item = char> {
    bytes.iter().enumerate().map(move |(at, byte)| {
        let byte = if is_start && at == 0 && *byte == KANJI { 0xe5 } else { *byte };
        let high = usize::from(byte).checked_sub(0x80).and_then(|index| CODE_PAGE.chars().nth(index));
        let character = high.unwrap_or(byte.into());
        if is_small { single(character.to_lowercase(), character) } else { character }
    })
}

fn set(text: &mut String, characters: impl Iterator<Item = char>) -> Result<(), Error> {
    text.clear();
    text.try_reserve(MAX_UNITS * UNIT_BYTES).map_err(|_| Error::NoMemory)?;
    text.extend(characters);
    Ok(())
}

/// False for what a path cannot name, or names otherwise.
fn is_usable(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

/// True for names that are the same in any case of letters. Only letters that have one counterpart count. As on Linux and Windows,
/// dots at the end do not.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let fold = |character: char| single(character.to_uppercase(), character);
    let [one, other] = [one, other].map(|name| name.trim_end_matches('.').chars().map(fold));
    one.eq(other)
}

fn single(mut characters: impl ExactSizeIterator<Item = char>, or: char) -> char {
    if characters.len() == 1 { characters.next().unwrap_or(or) } else { or }
}

/// What the parts of a long name have of the short one.
pub(crate) fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}
