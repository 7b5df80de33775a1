//! Puts function names into the linked image, for the kernel's backtraces. It runs as the last step
//! of the link, when all addresses are known.
//!
//! The table goes to the end of the file and becomes the content of the image's last segment, which
//! `image.ld` leaves almost empty: nothing else has to move. Its format is read by
//! `unikernel/kernel/src/debug/symbols.rs`: count and bytes in all as 64-bit words, addresses and name
//! ends as 32-bit words, the names.

use std::fs;
use std::io;
use std::path::Path;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, STT_FUNC, STT_NOTYPE};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;
const PAGE_BYTES: usize = 4096;
/// The symbol of `image.ld` at the start of the segment to fill.
const TABLE_SYMBOL: &[u8] = b"__kernel_symbols_start";
/// Longer names are cut: generics can take kilobytes.
const MAX_NAME_BYTES: usize = 120;
/// `p_filesz` and `p_memsz` in a 64-bit program header, and `p_offset`.
const OFFSET_FIELD: usize = 8;
const SIZE_FIELDS: [usize; 2] = [32, 40];

/// Count and size.
const HEADER_BYTES: usize = 16;

/// A function's place and name; an empty name ends a run of code.
type Function = (u32, String);

/// Adds the table to the image at `path`. A file without the table's symbol is no image of ours
/// (a test, a host program) and stays as it is.
pub(crate) fn embed(path: &Path) -> io::Result<()> {
    let mut file = fs::read(path)?;
    let Some(plan) = plan(&file) else { return Ok(()) };
    file.resize(file.len().next_multiple_of(PAGE_BYTES), 0);
    let offset = file.len();
    file.extend_from_slice(&plan.table);
    let mut set = |at: usize, value: usize| file[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    set(plan.program_header + OFFSET_FIELD, offset);
    for field in SIZE_FIELDS {
        set(plan.program_header + field, plan.table.len());
    }
    fs::write(path, file)
}

struct Plan {
    table: Vec<u8>,
    /// Where the segment's program header lies in the file.
    program_header: usize,
}

fn plan(file: &[u8]) -> Option<Plan> {
    let header = Header::parse(file).ok()?;
    let sections = header.sections(ENDIAN, file).ok()?;
    let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).ok()?;
    let mut functions: Vec<Function> = Vec::new();
    let mut table_address = None;
    for symbol in symbols.iter() {
        let name = symbol.name(ENDIAN, symbols.strings()).unwrap_or_default();
        if name == TABLE_SYMBOL {
            table_address = Some(symbol.st_value(ENDIAN));
        }
        let section = sections.section(object::SectionIndex(symbol.st_shndx(ENDIAN).into()));
        let is_code = section.is_ok_and(|section| section.sh_flags(ENDIAN) & u64::from(object::elf::SHF_EXECINSTR) != 0);
        if is_code && matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE) && !name.is_empty() && !name.starts_with(b".L") {
            functions.push((symbol.st_value(ENDIAN) as u32, demangle(name)));
        }
    }
    for section in sections.iter().filter(|section| section.sh_flags(ENDIAN) & u64::from(object::elf::SHF_EXECINSTR) != 0) {
        functions.push(((section.sh_addr(ENDIAN) + section.sh_size(ENDIAN)) as u32, String::new()));
    }
    functions.sort();
    functions.dedup_by_key(|(address, _)| *address);
    let program_header = segment_at(file, table_address?)?;
    Some(Plan { table: encode(&functions), program_header })
}

/// The file position of the program header of the segment that begins at `address`.
fn segment_at(file: &[u8], address: u64) -> Option<usize> {
    let header = Header::parse(file).ok()?;
    let segments = header.program_headers(ENDIAN, file).ok()?;
    let is_it = |segment: &&object::elf::ProgramHeader64<LittleEndian>| {
        segment.p_type(ENDIAN) == PT_LOAD && segment.p_vaddr(ENDIAN) == address
    };
    let index = segments.iter().position(|segment| is_it(&segment))?;
    Some(header.e_phoff(ENDIAN) as usize + index * usize::from(header.e_phentsize(ENDIAN)))
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

fn encode(functions: &[Function]) -> Vec<u8> {
    let names: usize = functions.iter().map(|(_, name)| name.len()).sum();
    let bytes = HEADER_BYTES + functions.len() * 8 + names;
    let mut table = (functions.len() as u64).to_le_bytes().to_vec();
    table.extend((bytes as u64).to_le_bytes());
    table.extend(functions.iter().flat_map(|(address, _)| address.to_le_bytes()));
    let mut end = 0;
    for (_, name) in functions {
        end += name.len() as u32;
        table.extend(end.to_le_bytes());
    }
    table.extend(functions.iter().flat_map(|(_, name)| name.bytes()));
    table
}
