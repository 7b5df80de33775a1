//! A kernel that was linked alone: what is loaded of it, and what is filled in.

use std::ops::Range;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use unikernel_report::symbols;

use super::{PackError, page_up};
use crate::image_check;
use crate::symbols::{TABLE_SYMBOL, functions, value_of};

const ENDIAN: LittleEndian = LittleEndian;
/// The words of `image.ld` about what is in the image.
const CONTENTS_SYMBOL: &[u8] = b"__kernel_contents";

/// What the kernel is told of the image (`image.ld` says more).
#[derive(Default)]
pub(super) struct Contents {
    /// Where a program's header is, if there is one.
    pub(super) headers: u64,
    /// One past the image.
    pub(super) end: u64,
    /// Where the files are.
    pub(super) files: Range<u64>,
    /// Where the words are.
    pub(super) words: Range<u64>,
}

/// A segment of the kernel's.
pub(super) struct KernelPart {
    pub(super) physical: u64,
    pub(super) memory_bytes: u64,
    pub(super) flags: u32,
    pub(super) bytes: Vec<u8>,
}

/// A kernel that was linked alone.
pub(super) struct KernelParts<'a> {
    file: &'a [u8],
    pub(super) parts: Vec<KernelPart>,
    /// Of the note that leads into it: physical address and bytes.
    pub(super) note: (u64, u64),
    /// GRUB's way in.
    pub(super) multiboot2: &'a [u8],
    /// Physical address of the words about the image.
    contents: u64,
}

impl<'a> KernelParts<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, PackError> {
        Self::parse(file).map_err(PackError::NotAKernel)
    }

    fn parse(file: &'a [u8]) -> Result<Self, &'static str> {
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(|_| "header")?;
        let segments = header.program_headers(ENDIAN, file).map_err(|_| "segments")?;
        let sections = header.sections(ENDIAN, file).map_err(|_| "sections")?;
        let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).map_err(|_| "symbols")?;
        let address = |name: &[u8]| value_of(&symbols, name);
        let start = address(b"__kernel_load_start").ok_or("place")?;
        let is_kernel = |segment: &&ProgramHeader64<LittleEndian>| segment.p_paddr(ENDIAN) >= start;
        let part = |segment: &ProgramHeader64<LittleEndian>| {
            Ok::<_, &'static str>(KernelPart {
                physical: segment.p_paddr(ENDIAN),
                memory_bytes: segment.p_memsz(ENDIAN),
                flags: segment.p_flags(ENDIAN),
                bytes: segment.data(ENDIAN, file).map_err(|()| "bytes")?.to_vec(),
            })
        };
        let of_kind =
            |kind| segments.iter().filter(is_kernel).filter(move |segment| segment.p_type(ENDIAN) == kind);
        let mut parts = of_kind(PT_LOAD).map(part).collect::<Result<Vec<_>, &str>>()?;
        parts.sort_by_key(|part| part.physical);
        let note = of_kind(PT_NOTE).next().ok_or("way in")?;
        let physical = |symbol: u64| symbol.wrapping_sub(crate::segments::KERNEL_OFFSET);
        let contents = physical(address(CONTENTS_SYMBOL).ok_or("place for a program")?);
        let names = physical(address(TABLE_SYMBOL).ok_or("place for names")?);
        if parts.last().is_none_or(|last| last.physical != names) {
            return Err("place for names at its end");
        }
        let multiboot2 = image_check::multiboot2_header(file).ok_or("way in for GRUB")?;
        Ok(Self { file, parts, note: (note.p_paddr(ENDIAN), note.p_filesz(ENDIAN)), multiboot2, contents })
    }

    /// Puts the names of its functions and of the program's into the last segment.
    pub(super) fn set_names(&mut self, program: &[u8], name: &str) {
        let mut all = functions(self.file).unwrap_or_default();
        all.extend(functions(program).unwrap_or_default());
        let table = symbols::encode(all, name);
        if let Some(last) = self.parts.last_mut() {
            last.memory_bytes = table.len() as u64;
            last.bytes = table;
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.parts.iter().map(|part| page_up(part.physical + part.memory_bytes)).max().unwrap_or(0)
    }

    pub(super) fn start(&self) -> u64 {
        self.parts.first().map_or(0, |part| part.physical)
    }

    /// Tells the kernel what is in the image besides it, by physical addresses.
    pub(super) fn set_contents(&mut self, contents: &Contents) -> Result<(), PackError> {
        let Contents { headers, end, files, words } = contents;
        let numbers = [*headers, *end, files.start, files.end, words.start, words.end];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let at = self.contents;
        let part = self
            .parts
            .iter_mut()
            .find(|part| (part.physical..part.physical + part.bytes.len() as u64).contains(&at));
        let place = part.and_then(|part| part.bytes[(at - part.physical) as usize..].get_mut(..bytes.len()));
        place.ok_or(PackError::NotAKernel("place for a program"))?.copy_from_slice(&bytes);
        Ok(())
    }
}
