//! Programs as files: what an ELF file says about how it is to be loaded (System V ABI, chapters 4 and 5; elf(5)).
//!
//! Files come from anywhere, so nothing in one is believed: [`Header::parse`] and [`Program::parse`] take any
//! bytes, and a [`Program`] that they answer can be loaded as it says without a further check. What Linux would kill at its first
//! instruction is an error here.
//!
//! - [`segment`]: which pages of memory show which bytes of the file; [`script`]: the first line of what is no ELF file;
//! - [`relocations`]: what a program changes that moves itself;
//! - [`object`]: modules, which are linked where they are loaded.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod fields;
pub mod object;
pub mod relocations;
pub mod script;
pub mod segment;

use alloc::vec::Vec;
use core::ops::Range;

pub use error::ElfError;
use fields::Fields;
pub use segment::Segment;

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of the file's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 56;
/// More bytes of segments' headers are refused (Linux: `load_elf_phdrs`).
const MOST_TABLE_BYTES: usize = 65_536;
/// The longest path of an interpreter, with its NUL (Linux: `PATH_MAX`).
const MOST_PATH_BYTES: u64 = 4096;
/// Programs are not aligned to more than this: a large page of the largest kind.
const MOST_ALIGNMENT: u64 = 1 << 30;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const VERSION: u8 = 1;
const X86_64: u16 = 62;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_INTERPRETER: u32 = 3;

/// Where a program may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// At its own addresses only (`ET_EXEC`).
    Fixed,
    /// Anywhere (`ET_DYN`): its addresses count from where it is put.
    Relocatable,
}

/// The file's header, as far as loading needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    kind: Kind,
    entry: u64,
    table_offset: u64,
    segments: u16,
}

impl Header {
    /// Reads the first bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let fields = Fields(bytes.get(..HEADER_BYTES).ok_or(ElfError::Truncated)?);
        if fields.byte(4) != CLASS_64 {
            return Err(ElfError::Not64Bit);
        }
        if fields.byte(5) != LITTLE_ENDIAN {
            return Err(ElfError::BigEndian);
        }
        if fields.byte(6) != VERSION {
            return Err(ElfError::Version(fields.byte(6)));
        }
        let machine = fields.half(18);
        if machine != X86_64 {
            return Err(ElfError::Machine(machine));
        }
        let kind = match fields.half(16) {
            TYPE_EXECUTABLE => Kind::Fixed,
            TYPE_SHARED => Kind::Relocatable,
            other => return Err(ElfError::NotExecutable(other)),
        };
        let header =
            Self { kind, entry: fields.word(24), table_offset: fields.word(32), segments: fields.half(56) };
        let has_entries = header.segments != 0 && usize::from(fields.half(54)) == SEGMENT_HEADER_BYTES;
        if has_entries && header.table_bytes() <= MOST_TABLE_BYTES {
            Ok(header)
        } else {
            Err(ElfError::BadTable)
        }
    }

    /// Where in the file the segments' headers begin.
    pub const fn table_offset(&self) -> u64 {
        self.table_offset
    }

    /// How many bytes they have.
    pub fn table_bytes(&self) -> usize {
        usize::from(self.segments) * SEGMENT_HEADER_BYTES
    }
}

/// A program that can be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Where it may be.
    pub kind: Kind,
    /// Its first instruction.
    pub entry: u64,
    /// What is in memory, by ascending addresses; no two share a page. There is at least one.
    pub segments: Vec<Segment>,
    /// Where in the file the path of its interpreter is, without the NUL.
    pub interpreter: Option<Range<u64>>,
    /// Where the segments' headers are in memory, if they are.
    pub headers: Option<u64>,
    /// How many there are.
    pub header_count: u16,
    /// What its place must be a multiple of, if it may be anywhere.
    pub alignment: u64,
}

impl Program {
    /// Reads the segments' headers of a file with `file_bytes` bytes, of which [`Header`] says where they are.
    /// `allowed` is where a program may have memory.
    pub fn parse(
        header: &Header,
        table: &[u8],
        file_bytes: u64,
        allowed: &Range<u64>,
    ) -> Result<Self, ElfError> {
        if table.len() < header.table_bytes() {
            return Err(ElfError::Truncated);
        }
        let entries = table[..header.table_bytes()].chunks_exact(SEGMENT_HEADER_BYTES).map(Fields);
        let mut program = Self {
            kind: header.kind,
            entry: header.entry,
            segments: Vec::new(),
            interpreter: None,
            headers: None,
            header_count: header.segments,
            alignment: PAGE_BYTES,
        };
        for fields in entries {
            match fields.int(0) {
                SEGMENT_LOAD => program.add(&fields, header, file_bytes)?,
                SEGMENT_INTERPRETER if program.interpreter.is_none() => {
                    program.interpreter = Some(interpreter(&fields, file_bytes)?);
                }
                _ => {}
            }
        }
        program.check(allowed)?;
        Ok(program)
    }

    fn add(&mut self, fields: &Fields<'_>, header: &Header, file_bytes: u64) -> Result<(), ElfError> {
        let Some(segment) = Segment::parse(fields, file_bytes)? else { return Ok(()) };
        if self.headers.is_none() {
            self.headers = segment.address_of(header.table_offset);
        }
        let alignment = fields.word(48);
        if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT {
            self.alignment = self.alignment.max(alignment);
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Checks how the segments lie to each other and in memory, and sorts them.
    fn check(&mut self, allowed: &Range<u64>) -> Result<(), ElfError> {
        // Keys and numbers are sorted, which take less of a stack than segments.
        self.segments.sort_by_cached_key(|segment| segment.address);
        for pair in self.segments.windows(2) {
            if pair[0].pages().end > pair[1].pages().start {
                return Err(ElfError::Overlap(pair[1].address));
            }
        }
        if self.segments.is_empty() {
            return Err(ElfError::NoSegments);
        }
        let span = self.span();
        // What may be anywhere needs as much room.
        let range = match self.kind {
            Kind::Fixed => allowed.clone(),
            Kind::Relocatable => span.start..span.start.saturating_add(allowed.end - allowed.start),
        };
        let is_outside = |pages: Range<u64>| pages.start < range.start || pages.end > range.end;
        if let Some(segment) = self.segments.iter().find(|segment| is_outside(segment.pages())) {
            return Err(ElfError::OutOfRange(segment.address));
        }
        let is_code = |segment: &Segment| segment.is_executable && segment.contains(self.entry);
        if self.segments.iter().any(is_code) { Ok(()) } else { Err(ElfError::BadEntry(self.entry)) }
    }

    /// All pages from the first to the last.
    pub fn span(&self) -> Range<u64> {
        let first = self.segments.first().map_or(0, |segment| segment.pages().start);
        first..self.segments.last().map_or(first, |segment| segment.pages().end)
    }
}

/// Where in the file the interpreter's path is.
fn interpreter(fields: &Fields<'_>, file_bytes: u64) -> Result<Range<u64>, ElfError> {
    let (offset, bytes) = (fields.word(8), fields.word(32));
    let end = offset.checked_add(bytes).filter(|&end| end <= file_bytes).ok_or(ElfError::Truncated)?;
    // At least one byte before the NUL.
    if (2..=MOST_PATH_BYTES).contains(&bytes) { Ok(offset..end - 1) } else { Err(ElfError::BadInterpreter) }
}

#[cfg(test)]
mod tests;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
