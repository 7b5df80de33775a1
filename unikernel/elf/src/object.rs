//! Modules as files: relocatable objects (`ET_REL`; System V ABI, chapter 4, and its supplement for x86-64), which are linked where
//! they are loaded.
//!
//! [`Object::parse`] takes any bytes. It finds the sections that are to be in memory and puts them into three areas of whole pages:
//! code, what is only read, and data; no page is writable and executable. [`Object::link`] writes the bytes of all three, with their
//! relocations done, for a place in memory and what the names mean that the object does not define. What it writes stays within the image,
//! whatever the file says; whether the code is good is another matter, which nobody can tell from a file.
//!
//! - [`modinfo`]: what a module says about itself; [`arguments`]: what it is told; [`symbol`]: names; `relocate`: the relocations.

pub mod arguments;
mod error;
pub mod modinfo;
mod relocate;
pub mod symbol;

use alloc::vec::Vec;
use core::ops::Range;

pub use error::ObjectError;
pub use relocate::Unresolved;
use symbol::Symbols;

use crate::fields::Fields;
use crate::{CLASS_64, HEADER_BYTES, LITTLE_ENDIAN, PAGE_BYTES, VERSION, X86_64};

/// A larger file is refused, and a larger image.
pub const MOST_OBJECT_BYTES: usize = 16 << 20;
/// More sections are refused: modules have tens, unless each function has one.
const MOST_SECTIONS: usize = 16_384;
/// No section needs more than a page.
const MOST_ALIGNMENT: u64 = PAGE_BYTES;
const SECTION_HEADER_BYTES: usize = 64;
const WORD_BYTES: usize = 8;

const TYPE_OBJECT: u16 = 1;
const SECTION_SYMBOLS: u32 = 2;
const SECTION_RELA: u32 = 4;
const SECTION_NOTE: u32 = 7;
const SECTION_NO_BITS: u32 = 8;
const SECTION_REL: u32 = 9;
const FLAG_WRITE: u64 = 1;
const FLAG_ALLOC: u64 = 2;
const FLAG_EXECUTE: u64 = 4;
const FLAG_TLS: u64 = 0x400;
/// What is in memory only for debuggers and for unwinding, which nobody does here.
const LEFT_OUT: [&str; 2] = [".eh_frame", MODINFO];
/// Where a module says what it is.
const MODINFO: &str = ".modinfo";

/// What may be done with a part of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// It is read and executed.
    Code,
    /// It is read.
    ReadOnly,
    /// It is read and written.
    Data,
}

const AREAS: [Area; 3] = [Area::Code, Area::ReadOnly, Area::Data];

/// A section, as far as loading needs it.
#[derive(Clone, Copy, Debug)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    alignment: u64,
    /// Where it is in the image, if it is.
    place: Option<u32>,
}

/// A relocatable object that can be linked.
#[derive(Debug)]
pub struct Object<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
    names: &'a [u8],
    symbols: Symbols<'a>,
    /// Symbols whose addresses are read from a table (the GOT), by ascending numbers.
    table_symbols: Vec<u32>,
    /// Where that table is.
    table_at: u32,
    areas: [Range<usize>; 3],
}

impl<'a> Object<'a> {
    /// Checks an object and lays it out.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError<'a>> {
        let (offset, count, names_index) = header(bytes)?;
        let mut sections = Vec::new();
        sections.try_reserve_exact(count).map_err(|_| ObjectError::OutOfMemory)?;
        let table = slice(bytes, offset, (count * SECTION_HEADER_BYTES) as u64)?;
        for fields in table.chunks_exact(SECTION_HEADER_BYTES).map(Fields) {
            sections.push(Section::parse(fields, bytes.len())?);
        }
        let names = sections.get(names_index).ok_or(ObjectError::BadSections)?.bytes(bytes)?;
        let mut object = Self {
            bytes,
            names,
            symbols: Symbols::find(bytes, &sections)?,
            sections,
            table_symbols: Vec::new(),
            table_at: 0,
            areas: [const { 0..0 }; 3],
        };
        object.find_table_symbols()?;
        object.lay_out()?;
        Ok(object)
    }

    /// Bytes of the image: whole pages.
    pub fn image_bytes(&self) -> usize {
        self.areas[2].end
    }

    /// Where an area is in the image: whole pages.
    pub fn area(&self, area: Area) -> Range<usize> {
        self.areas[area as usize].clone()
    }

    /// Its symbols.
    pub fn symbols(&self) -> &Symbols<'a> {
        &self.symbols
    }

    /// Where in the image a global symbol is that the object defines.
    pub fn find(&self, name: &str) -> Option<usize> {
        let mut own = self.symbols.iter().filter(|symbol| symbol.is_global() && symbol.name == name);
        own.find_map(|symbol| self.place_of(symbol.section, symbol.value))
    }

    /// The functions in the image: where each is, its length, its name.
    pub fn functions(&self) -> impl Iterator<Item = (usize, u64, &'a str)> {
        let code = self.area(Area::Code);
        self.symbols.iter().filter(symbol::Symbol::is_function).filter_map(move |symbol| {
            let at = self.place_of(symbol.section, symbol.value).filter(|at| code.contains(at))?;
            Some((at, symbol.size, symbol.name))
        })
    }

    /// What the module says about itself: nothing, if it has no such section.
    pub fn modinfo(&self) -> Result<modinfo::Modinfo<'a>, ObjectError<'a>> {
        let found = self.sections.iter().find(|section| self.name_of(section) == MODINFO);
        let bytes = found.map_or(Ok(&[][..]), |section| section.bytes(self.bytes))?;
        modinfo::Modinfo::parse(bytes)
    }

    fn name_of(&self, section: &Section) -> &'a str {
        symbol::string(self.names, section.name).unwrap_or_default()
    }

    fn is_loaded(&self, section: &Section) -> bool {
        section.flags & FLAG_ALLOC != 0
            && section.kind != SECTION_NOTE
            && section.size != 0
            && !LEFT_OUT.contains(&self.name_of(section))
    }

    /// The symbols that are reached through the table.
    fn find_table_symbols(&mut self) -> Result<(), ObjectError<'a>> {
        let mut found = Vec::new();
        for section in self.sections.iter().filter(|section| self.has_relocations_of_ours(section)) {
            for entry in self.relocations(section)? {
                if entry.uses_table() {
                    found.try_reserve(1).map_err(|_| ObjectError::OutOfMemory)?;
                    found.push(entry.symbol);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        self.table_symbols = found;
        Ok(())
    }

    /// True for relocations of what will be in memory.
    fn has_relocations_of_ours(&self, section: &Section) -> bool {
        let target = self.sections.get(section.info as usize);
        matches!(section.kind, SECTION_RELA | SECTION_REL)
            && target.is_some_and(|target| self.is_loaded(target))
    }

    /// Gives each section its place: one area behind the other, each from a page's start on.
    fn lay_out(&mut self) -> Result<(), ObjectError<'a>> {
        let mut end = 0;
        for area in AREAS {
            let start = end;
            for index in 0..self.sections.len() {
                let section = self.sections[index];
                if !self.is_loaded(&section) || section.area(self.name_of(&section))? != area {
                    continue;
                }
                let at = aligned(end, section.alignment)?;
                self.sections[index].place = Some(at as u32);
                end = grown(at, section.size)?;
            }
            if area == Area::ReadOnly {
                let at = aligned(end, WORD_BYTES as u64)?;
                self.table_at = at as u32;
                end = grown(at, (self.table_symbols.len() * WORD_BYTES) as u64)?;
            }
            end = aligned(end, PAGE_BYTES)?;
            self.areas[area as usize] = start..end;
        }
        if self.area(Area::Code).is_empty() { Err(ObjectError::NoCode) } else { Ok(()) }
    }

    /// Where in the image a place in a section is: at its end at most.
    fn place_of(&self, section: u16, offset: u64) -> Option<usize> {
        let section = self.sections.get(usize::from(section))?;
        let place = section.place.filter(|_| offset <= section.size)?;
        Some(place as usize + offset as usize)
    }
}

impl Section {
    fn parse<'a>(fields: Fields<'_>, file_bytes: usize) -> Result<Self, ObjectError<'a>> {
        let section = Self {
            name: fields.int(0),
            kind: fields.int(4),
            flags: fields.word(8),
            offset: fields.word(24),
            size: fields.word(32),
            link: fields.int(40),
            info: fields.int(44),
            alignment: fields.word(48).max(1),
            place: None,
        };
        let end = section.offset.checked_add(section.size);
        let is_in_file = end.is_some_and(|end| end <= file_bytes as u64);
        if section.kind != SECTION_NO_BITS && section.kind != 0 && !is_in_file {
            return Err(ObjectError::Truncated);
        }
        Ok(section)
    }

    /// Its bytes in the file.
    fn bytes<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], ObjectError<'a>> {
        if self.kind == SECTION_NO_BITS { Ok(&[]) } else { slice(file, self.offset, self.size) }
    }

    fn area<'a>(&self, name: &'a str) -> Result<Area, ObjectError<'a>> {
        if self.flags & FLAG_TLS != 0 {
            return Err(ObjectError::ThreadLocal(name));
        }
        if !self.alignment.is_power_of_two() || self.alignment > MOST_ALIGNMENT {
            return Err(ObjectError::BadAlignment(name));
        }
        match (self.flags & FLAG_EXECUTE != 0, self.flags & FLAG_WRITE != 0) {
            (true, true) => Err(ObjectError::WritableAndExecutable(name)),
            (true, false) => Ok(Area::Code),
            // All that is written there is written before it is mapped.
            (false, true) if name.starts_with(".data.rel.ro") => Ok(Area::ReadOnly),
            (false, true) => Ok(Area::Data),
            (false, false) => Ok(Area::ReadOnly),
        }
    }
}

/// Where the sections' headers are, how many, and which section has their names.
fn header<'a>(bytes: &[u8]) -> Result<(u64, usize, usize), ObjectError<'a>> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ObjectError::NotElf);
    }
    if bytes.len() > MOST_OBJECT_BYTES {
        return Err(ObjectError::TooLarge);
    }
    let fields = Fields(bytes.get(..HEADER_BYTES).ok_or(ObjectError::Truncated)?);
    let identity = [fields.byte(4), fields.byte(5), fields.byte(6)];
    if identity != [CLASS_64, LITTLE_ENDIAN, VERSION] || fields.half(18) != X86_64 {
        return Err(ObjectError::OtherMachine);
    }
    if fields.half(16) != TYPE_OBJECT {
        return Err(ObjectError::NotRelocatable(fields.half(16)));
    }
    let count = usize::from(fields.half(60));
    if usize::from(fields.half(58)) != SECTION_HEADER_BYTES || count == 0 || count > MOST_SECTIONS {
        return Err(ObjectError::BadSections);
    }
    Ok((fields.word(40), count, fields.half(62).into()))
}

fn slice<'a>(bytes: &'a [u8], offset: u64, len: u64) -> Result<&'a [u8], ObjectError<'a>> {
    let start = usize::try_from(offset).map_err(|_| ObjectError::Truncated)?;
    let len = usize::try_from(len).map_err(|_| ObjectError::Truncated)?;
    let end = start.checked_add(len).ok_or(ObjectError::Truncated)?;
    bytes.get(start..end).ok_or(ObjectError::Truncated)
}

fn aligned<'a>(at: usize, alignment: u64) -> Result<usize, ObjectError<'a>> {
    let alignment = usize::try_from(alignment).map_err(|_| ObjectError::TooLarge)?;
    let at = at.checked_next_multiple_of(alignment).ok_or(ObjectError::TooLarge)?;
    grown(at, 0)
}

fn grown<'a>(at: usize, bytes: u64) -> Result<usize, ObjectError<'a>> {
    let end = usize::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes));
    end.filter(|&end| end <= MOST_OBJECT_BYTES).ok_or(ObjectError::TooLarge)
}

#[cfg(test)]
mod tests;
