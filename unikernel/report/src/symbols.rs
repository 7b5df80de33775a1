//! The table of function names, and the program's own. The build writes it into the last segment of an image, the kernel
//! finds names in it.
//!
//! All numbers are little-endian: the count of entries and the table's bytes (64 bits each), the bytes of the entries and of the
//! names' parts (32 bits each), then
//!
//! - a mark for every [`STEP`]th entry: its address, and where it begins among the entries (32 bits each). Of an address 32 bits
//!   are kept, of which the sign is extended: an app lies in the first 2 GiB, the kernel in the last;
//! - the entries, by ascending addresses: how far the address is from the one before (LEB128), the bytes of the name, the name
//!   ([`words`]). An empty name marks the end of a run of code, so that an address behind it belongs to nobody;
//! - the parts that names are made of;
//! - the program's name.

mod entries;
mod words;

use alloc::string::String;
use alloc::vec::Vec;

use entries::Entries;
pub use words::{NAME_BYTES, Name, NameText};
use words::{Parts, Vocabulary};

/// Bytes of the count and the size.
pub const HEADER_BYTES: usize = 16;
/// Entries from one mark to the next.
const STEP: usize = 32;

/// A function's address and name, or the end of a run of code and an empty name.
pub type Function = (u64, String);

/// Makes the table of a program. Of several names for one address, the first in the alphabet stays. An address in neither
/// the first nor the last 2 GiB, where no code can be linked, gets no name. Names are cut at [`NAME_BYTES`].
pub fn encode(mut functions: Vec<Function>, program: &str) -> Vec<u8> {
    functions.retain(|(address, _)| long(*address as u32) == *address);
    // At one address, a name comes before the end of the run of code that it follows.
    functions.sort_by(|a, b| (a.0, a.1.is_empty(), &a.1).cmp(&(b.0, b.1.is_empty(), &b.1)));
    functions.dedup_by_key(|(address, _)| *address);
    let names: Vec<&str> = functions.iter().map(|(_, name)| cut(name)).collect();
    let vocabulary = Vocabulary::learn(&names);
    let (mut marks, mut entries) = (Vec::new(), Vec::new());
    let mut previous = 0;
    for (index, ((address, _), name)) in functions.iter().zip(&names).enumerate() {
        let address = *address as u32;
        if index % STEP == 0 {
            marks.extend([address, entries.len() as u32].into_iter().flat_map(u32::to_le_bytes));
        }
        entries::push(&mut entries, address - previous, &vocabulary.shorten(name));
        previous = address;
    }
    let parts = vocabulary.bytes();
    let lengths = [entries.len() as u32, parts.len() as u32].into_iter().flat_map(u32::to_le_bytes).collect();
    let rest: [Vec<u8>; 5] = [lengths, marks, entries, parts, program.into()];
    let bytes = HEADER_BYTES + rest.iter().map(Vec::len).sum::<usize>();
    let header = [functions.len(), bytes].map(|word| (word as u64).to_le_bytes());
    header.into_iter().flatten().chain(rest.into_iter().flatten()).collect()
}

/// What is kept of a name.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

/// A table, ready to be searched.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    marks: &'a [[u8; 8]],
    entries: &'a [u8],
    parts: Parts<'a>,
    program: &'a [u8],
}

/// A function around an address.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    /// Its demangled name.
    pub name: Name<'a>,
    /// Its first byte.
    pub start: u64,
}

impl<'a> Table<'a> {
    /// Reads a table's header. A count of zero, which an image has whose build added no table, is
    /// a table without names.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<8>()?;
        let (entries_bytes, rest) = rest.split_first_chunk()?;
        let (parts_bytes, rest) = rest.split_first_chunk()?;
        let marks = usize::try_from(u64::from_le_bytes(*count)).ok()?.div_ceil(STEP);
        let (marks, rest) = rest.split_at_checked(marks.checked_mul(8)?)?;
        let (entries, rest) = rest.split_at_checked(u32::from_le_bytes(*entries_bytes) as usize)?;
        let (parts, program) = rest.split_at_checked(u32::from_le_bytes(*parts_bytes) as usize)?;
        Some(Self { marks: marks.as_chunks().0, entries, parts: Parts::parse(parts)?, program })
    }

    /// The function around `address`, if it lies in code.
    pub fn find(&self, address: u64) -> Option<Symbol<'a>> {
        let index = self.marks.partition_point(|mark| long(mark_of(mark).0) <= address).checked_sub(1)?;
        let (first, offset) = mark_of(&self.marks[index]);
        let rest = self.entries.get(offset as usize..)?;
        let near = Entries::from_mark(first, rest).take(STEP);
        let (start, short) = near.take_while(|(start, _)| long(*start) <= address).last()?;
        self.symbol(start, short)
    }

    /// `None` for the end of a run of code.
    fn symbol(&self, start: u32, short: &'a [u8]) -> Option<Symbol<'a>> {
        (!short.is_empty()).then(|| Symbol { name: Name::new(short, self.parts), start: long(start) })
    }

    /// All functions, in the order of their addresses, each with its bytes up to the next one.
    pub fn functions(self) -> impl Iterator<Item = (Symbol<'a>, u64)> {
        let all = Entries::new(self.entries);
        let next = all.skip(1).map(|(start, _)| Some(start)).chain([None]);
        all.zip(next).filter_map(move |((start, short), next)| {
            let end = next.unwrap_or(start);
            Some((self.symbol(start, short)?, long(end).saturating_sub(long(start))))
        })
    }

    /// What the program is called.
    pub fn program(&self) -> Option<&'a str> {
        let name = core::str::from_utf8(self.program).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

/// The address and the place of an entry.
fn mark_of(mark: &[u8; 8]) -> (u32, u32) {
    let word = u64::from_le_bytes(*mark);
    (word as u32, (word >> 32) as u32)
}

/// An address of which 32 bits are kept.
fn long(address: u32) -> u64 {
    i64::from(address.cast_signed()).cast_unsigned()
}

#[cfg(test)]
mod tests;
