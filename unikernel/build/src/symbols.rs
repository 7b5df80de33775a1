//! Puts function names into the linked image, for the kernel's backtraces. It runs as the last step
//! of the link, when all addresses are known.
//!
//! The table (`unikernel_report::symbols`) goes to the end of the file and becomes the content of
//! the image's last segment, which `image.ld` leaves almost empty: nothing else has to move.

use std::fs;
use std::io;
use std::path::Path;

use object::LittleEndian;
use object::elf::{
    FileHeader64, PT_LOAD, ProgramHeader64, SHF_EXECINSTR, STT_FUNC, STT_NOTYPE, SectionHeader64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, SymbolTable};
use unikernel_report::symbols::{Function, encode};

use crate::segments;

type Header = FileHeader64<LittleEndian>;
type Sections<'a> = SectionTable<'a, Header>;
const ENDIAN: LittleEndian = LittleEndian;
const PAGE_BYTES: usize = 4096;
/// The symbol of `image.ld` at the start of the segment to fill.
pub(crate) const TABLE_SYMBOL: &[u8] = b"__kernel_symbols_start";
/// Longer names are cut: generics can take kilobytes.
const MAX_NAME_BYTES: usize = 120;

/// Where `p_offset`, `p_filesz` and `p_memsz` lie in a 64-bit program header.
const SEGMENT_FIELDS: [usize; 3] = [8, 32, 40];
/// Where `sh_offset` and `sh_size` lie in a 64-bit section header.
const SECTION_FIELDS: [usize; 2] = [24, 32];

/// Makes a linked file the image that is loaded: adds the table, and names the addresses at which the kernel is loaded
/// ([`segments`]). A file of another kind (a test, a host program) has neither and stays as it is.
/// `program` is the name that reports shall call it by.
pub fn embed(path: &Path, program: &str) -> io::Result<()> {
    let mut file = fs::read(path)?;
    let has_table = add_table(&mut file, program);
    let is_lowered = segments::lower(&mut file);
    if has_table || is_lowered { fs::write(path, file) } else { Ok(()) }
}

/// Where a name of a linked file lies.
pub fn symbol_address(file: &[u8], name: &str) -> Option<u64> {
    let header = Header::parse(file).ok()?;
    let symbols = header.sections(ENDIAN, file).ok()?.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).ok()?;
    let is_it = |symbol: &&object::elf::Sym64<LittleEndian>| {
        !symbol.is_undefined(ENDIAN) && symbol.name(ENDIAN, symbols.strings()) == Ok(name.as_bytes())
    };
    symbols.iter().filter(|symbol| !symbol.is_local()).find(is_it).map(|symbol| symbol.st_value(ENDIAN))
}

/// Adds the table; false if the file has no place for one.
fn add_table(file: &mut Vec<u8>, program: &str) -> bool {
    let Some(Plan { table, segment, section }) = plan(file, program) else { return false };
    file.resize(file.len().next_multiple_of(PAGE_BYTES), 0);
    let (offset, size) = (file.len() as u64, table.len() as u64);
    file.extend_from_slice(&table);
    let mut set = |at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    for (field, value) in SEGMENT_FIELDS.iter().zip([offset, size, size]) {
        set(segment + field, value);
    }
    for (field, value) in SECTION_FIELDS.iter().zip([offset, size]) {
        set(section + field, value);
    }
    true
}

struct Plan {
    table: Vec<u8>,
    /// Where the segment's program header lies in the file.
    segment: usize,
    /// Where the section's header lies, which debuggers compare with the segment's.
    section: usize,
}

fn plan(file: &[u8], program: &str) -> Option<Plan> {
    let header = Header::parse(file).ok()?;
    let sections = header.sections(ENDIAN, file).ok()?;
    let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).ok()?;
    let table_address = value_of(&symbols, TABLE_SYMBOL);
    let segments = header.program_headers(ENDIAN, file).ok()?;
    let is_table = |segment: &ProgramHeader64<LittleEndian>| {
        segment.p_type(ENDIAN) == PT_LOAD && Some(segment.p_vaddr(ENDIAN)) == table_address
    };
    let segment = segments.iter().position(is_table)?;
    let section = sections.iter().position(|section| Some(section.sh_addr(ENDIAN)) == table_address)?;
    Some(Plan {
        table: encode(functions(file)?, program),
        segment: header.e_phoff(ENDIAN) as usize + segment * size_of::<ProgramHeader64<LittleEndian>>(),
        section: header.e_shoff(ENDIAN) as usize + section * size_of::<SectionHeader64<LittleEndian>>(),
    })
}

/// The value of a symbol, if there is one of this name.
pub(crate) fn value_of(symbols: &SymbolTable<'_, Header>, name: &[u8]) -> Option<u64> {
    let is_it =
        |symbol: &&object::elf::Sym64<LittleEndian>| symbol.name(ENDIAN, symbols.strings()) == Ok(name);
    symbols.iter().find(is_it).map(|symbol| symbol.st_value(ENDIAN))
}

/// The functions of a file, and where each run of code ends; `None` if it has no sections that can be read.
pub fn functions(file: &[u8]) -> Option<Vec<Function>> {
    let header = Header::parse(file).ok()?;
    let sections = header.sections(ENDIAN, file).ok()?;
    let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).ok()?;
    let named = symbols.iter().filter_map(|symbol| {
        let name = symbol.name(ENDIAN, symbols.strings()).unwrap_or_default();
        is_function(symbol, name, &sections).then(|| (symbol.st_value(ENDIAN), demangle(name)))
    });
    let ends = sections.iter().filter(|section| is_code(section)).map(end_of_code);
    Some(named.chain(ends).collect())
}

fn is_code(section: &SectionHeader64<LittleEndian>) -> bool {
    section.sh_flags(ENDIAN) & u64::from(SHF_EXECINSTR) != 0
}

fn end_of_code(section: &SectionHeader64<LittleEndian>) -> Function {
    (section.sh_addr(ENDIAN).saturating_add(section.sh_size(ENDIAN)), String::new())
}

/// True for functions, those written in assembly included, and false for the labels in them.
fn is_function(symbol: &object::elf::Sym64<LittleEndian>, name: &[u8], sections: &Sections<'_>) -> bool {
    let section = sections.section(object::SectionIndex(symbol.st_shndx(ENDIAN).into()));
    // A symbol at the end of the code is no part of it.
    let is_in = |section| is_code(section) && symbol.st_value(ENDIAN) < end_of_code(section).0;
    matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE)
        && !name.is_empty()
        && !name.starts_with(b".L")
        && section.is_ok_and(is_in)
}

fn demangle(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut text = format!("{:#}", rustc_demangle::demangle(&name));
    if text.len() > MAX_NAME_BYTES {
        let cut = (0..=MAX_NAME_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_without_hashes() {
        assert_eq!(demangle(b"_ZN5crash4main17h0f4ca7d97ba4975cE"), "crash::main");
        assert_eq!(demangle(b"_RNvCsfLfy6EI15iL_7___rustc10rust_panic"), "__rustc::rust_panic");
        assert_eq!(demangle(b"memcpy"), "memcpy");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = format!("x{}", "é".repeat(100));
        let text = demangle(name.as_bytes());
        assert_eq!(text, format!("x{}...", "é".repeat(59)));
    }

    #[test]
    fn file_without_place_for_a_table_is_left_alone() {
        assert!(!add_table(&mut b"#!/bin/sh\n".to_vec(), "sh"));
        // This test is itself a linked program, and no image.
        let mut program = std::env::current_exe().and_then(fs::read).expect("the test can read itself");
        assert!(!add_table(&mut program, "test"));
        assert!(!segments::lower(&mut program));
    }
}
