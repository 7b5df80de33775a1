//! The names in an object.

use super::{ObjectError, SECTION_SYMBOLS, Section};
use crate::fields::Fields;

pub(super) const SYMBOL_BYTES: usize = 24;
/// The symbol is defined elsewhere.
pub(super) const UNDEFINED: u16 = 0;
/// Its value is no place but a number.
pub(super) const ABSOLUTE: u16 = 0xfff1;
const FUNCTION: u8 = 2;
const GLOBAL: u8 = 1;
const WEAK: u8 = 2;

/// A symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// Its name; none, if the file gives none that is text.
    pub name: &'a str,
    pub(super) info: u8,
    pub(super) section: u16,
    pub(super) value: u64,
    pub(super) size: u64,
}

impl Symbol<'_> {
    /// True for a function that the object defines.
    pub fn is_function(&self) -> bool {
        self.info & 0xf == FUNCTION && self.section != UNDEFINED
    }

    /// True if others may see it.
    pub fn is_global(&self) -> bool {
        matches!(self.info >> 4, GLOBAL | WEAK) && self.section != UNDEFINED
    }

    /// True if nobody has to define it.
    pub(super) fn is_weak(&self) -> bool {
        self.info >> 4 == WEAK
    }
}

/// All symbols of an object.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    entries: &'a [u8],
    names: &'a [u8],
}

impl<'a> Symbols<'a> {
    pub(super) fn find(file: &'a [u8], sections: &[Section]) -> Result<Self, ObjectError<'a>> {
        let mut tables = sections.iter().filter(|section| section.kind == SECTION_SYMBOLS);
        let (Some(table), None) = (tables.next(), tables.next()) else { return Err(ObjectError::BadSymbols) };
        let names = sections.get(table.link as usize).ok_or(ObjectError::BadSymbols)?;
        Ok(Self { entries: table.bytes(file)?, names: names.bytes(file)? })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() / SYMBOL_BYTES
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The symbol of a number.
    pub(super) fn get(&self, index: u32) -> Option<Symbol<'a>> {
        let start = (index as usize).checked_mul(SYMBOL_BYTES)?;
        let fields = Fields(self.entries.get(start..)?.get(..SYMBOL_BYTES)?);
        Some(Symbol {
            name: string(self.names, fields.int(0)).unwrap_or_default(),
            info: fields.byte(4),
            section: fields.half(6),
            value: fields.word(8),
            size: fields.word(16),
        })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let all = *self;
        (0..all.len() as u32).filter_map(move |index| all.get(index))
    }

    /// The names that others have to define.
    pub fn undefined(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let foreign = |symbol: &Symbol<'_>| symbol.section == UNDEFINED && !symbol.name.is_empty();
        self.iter().filter(foreign).map(|symbol| symbol.name)
    }
}

/// The longest name: a table without ends must not be read through for each of its symbols.
const MOST_NAME_BYTES: usize = 512;

/// A string of a table; `None` if it is not all there, too long, or no text.
pub(super) fn string(table: &[u8], at: u32) -> Option<&str> {
    let rest = table.get(at as usize..)?;
    let rest = &rest[..rest.len().min(MOST_NAME_BYTES + 1)];
    let end = rest.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&rest[..end]).ok()
}
