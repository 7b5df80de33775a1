//! Relocations (System V ABI, AMD64 supplement, section 4.4.1).

use super::symbol::{ABSOLUTE, UNDEFINED};
use super::{Object, ObjectError, SECTION_REL, Section, WORD_BYTES};
use crate::fields::Fields;

const ENTRY_BYTES: usize = 24;

const NONE: u32 = 0;
const ABS_64: u32 = 1;
const PC_32: u32 = 2;
const PLT_32: u32 = 4;
const TABLE_PC_32: u32 = 9;
const ABS_32: u32 = 10;
const ABS_32_SIGNED: u32 = 11;
const PC_64: u32 = 24;
const TABLE_PC_32_RELAXABLE: u32 = 41;
const TABLE_PC_32_RELAXABLE_REX: u32 = 42;

/// Why a name means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    /// Nobody defines it.
    Unknown,
    /// It is there with another version.
    OtherVersion {
        /// What the module was built for.
        wanted: u32,
        /// What there is.
        found: u32,
    },
}

/// One relocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    offset: u64,
    kind: u32,
    pub(super) symbol: u32,
    addend: u64,
}

impl Relocation {
    fn parse(fields: Fields<'_>) -> Self {
        Self { offset: fields.word(0), kind: fields.int(8), symbol: fields.int(12), addend: fields.word(16) }
    }

    /// True if it names the symbol's entry in the table, not the symbol.
    pub(super) fn uses_table(self) -> bool {
        matches!(self.kind, TABLE_PC_32 | TABLE_PC_32_RELAXABLE | TABLE_PC_32_RELAXABLE_REX)
    }
}

impl<'a> Object<'a> {
    /// The relocations in a section.
    pub(super) fn relocations(
        &self,
        section: &Section,
    ) -> Result<impl Iterator<Item = Relocation> + use<'a>, ObjectError<'a>> {
        let bytes = section.bytes(self.bytes)?;
        if section.kind == SECTION_REL || !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(ObjectError::BadRelocation(self.name_of(section)));
        }
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(|entry| Relocation::parse(Fields(entry))))
    }

    /// Writes the image as it is at `base`, a page's start. `resolve` says where the names are that others define.
    ///
    /// # Panics
    ///
    /// If `image` has another length than [`Self::image_bytes`].
    pub fn link(
        &self,
        base: u64,
        image: &mut [u8],
        mut resolve: impl FnMut(&'a str) -> Result<u64, Unresolved>,
    ) -> Result<(), ObjectError<'a>> {
        assert_eq!(image.len(), self.image_bytes(), "the image is as long as it is");
        image.fill(0);
        for section in &self.sections {
            if let Some(place) = section.place {
                let bytes = section.bytes(self.bytes)?;
                image[place as usize..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        for (index, &symbol) in self.table_symbols.iter().enumerate() {
            let address = self.address_of(symbol, base, &mut resolve)?;
            let at = self.table_at as usize + index * WORD_BYTES;
            image[at..at + WORD_BYTES].copy_from_slice(&address.to_le_bytes());
        }
        for section in self.sections.iter().filter(|section| self.has_relocations_of_ours(section)) {
            let target = self.sections[section.info as usize];
            for entry in self.relocations(section)? {
                self.relocate(entry, &target, base, image, &mut resolve)?;
            }
        }
        Ok(())
    }

    fn relocate(
        &self,
        entry: Relocation,
        target: &Section,
        base: u64,
        image: &mut [u8],
        resolve: &mut impl FnMut(&'a str) -> Result<u64, Unresolved>,
    ) -> Result<(), ObjectError<'a>> {
        let width = match entry.kind {
            NONE => return Ok(()),
            ABS_64 | PC_64 => 8,
            PC_32 | PLT_32 | ABS_32 | ABS_32_SIGNED => 4,
            _ if entry.uses_table() => 4,
            other => return Err(ObjectError::UnknownRelocation(other)),
        };
        let is_inside = entry.offset.checked_add(width).is_some_and(|end| end <= target.size);
        let place = target.place.filter(|_| is_inside);
        let at =
            place.ok_or(ObjectError::BadRelocation(self.name_of(target)))? as usize + entry.offset as usize;
        let symbol = if entry.uses_table() {
            base.wrapping_add(self.table_entry(entry.symbol) as u64)
        } else {
            self.address_of(entry.symbol, base, resolve)?
        };
        let value = symbol.wrapping_add(entry.addend);
        let relative = value.wrapping_sub(base.wrapping_add(at as u64));
        let reached = match entry.kind {
            ABS_64 => Some(value),
            PC_64 => Some(relative),
            ABS_32 => u32::try_from(value).is_ok().then_some(value),
            ABS_32_SIGNED => i32::try_from(value as i64).is_ok().then_some(value),
            _ => i32::try_from(relative as i64).is_ok().then_some(relative),
        };
        let name = || self.symbols.get(entry.symbol).map_or("", |symbol| symbol.name);
        let bytes = reached.ok_or_else(|| ObjectError::OutOfReach(name()))?.to_le_bytes();
        image[at..at + width as usize].copy_from_slice(&bytes[..width as usize]);
        Ok(())
    }

    /// Where in the image the table's entry for a symbol is.
    fn table_entry(&self, symbol: u32) -> usize {
        // It has been found there by whoever made the table of the same relocations.
        let index = self.table_symbols.binary_search(&symbol).unwrap_or(0);
        self.table_at as usize + index * WORD_BYTES
    }

    fn address_of(
        &self,
        index: u32,
        base: u64,
        resolve: &mut impl FnMut(&'a str) -> Result<u64, Unresolved>,
    ) -> Result<u64, ObjectError<'a>> {
        let symbol = self.symbols.get(index).ok_or(ObjectError::BadSymbols)?;
        match symbol.section {
            UNDEFINED if index == 0 => Ok(0),
            UNDEFINED => match resolve(symbol.name) {
                Ok(address) => Ok(address),
                Err(Unresolved::Unknown) if symbol.is_weak() => Ok(0),
                Err(Unresolved::Unknown) => Err(ObjectError::UnknownSymbol(symbol.name)),
                Err(Unresolved::OtherVersion { wanted, found }) => {
                    Err(ObjectError::OtherVersion { name: symbol.name, wanted, found })
                }
            },
            ABSOLUTE => Ok(symbol.value),
            section => {
                let place = self.place_of(section, symbol.value);
                place.map(|place| base.wrapping_add(place as u64)).ok_or(ObjectError::BadSymbol(symbol.name))
            }
        }
    }
}
