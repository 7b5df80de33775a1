//! The program that is in the image already: linked with the kernel, or packed behind it (`cargo unikernel pack`).
//!
//! The loader put its segments where their physical addresses say; these pages become the app's, at the virtual addresses.
//! [`layout::program_header`] says where a copy of its ELF header lies, with the segments' headers right behind.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use linux_raw_sys::elf_uapi::PT_LOAD;
use spin::Once;
use unikernel_elf::{ElfError, HEADER_BYTES, Header, Kind, Program, SEGMENT_HEADER_BYTES, Segment};
use unikernel_hal::loaded;
use unikernel_mm::places;

use crate::kmem::layout::{self, PAGE_BYTES, USER_END, page_down, page_up};
use crate::kmem::symbols;
use crate::mem::space::{self, Protection, SpaceError};
use crate::platform::random;

/// Where the physical address is in a segment's header.
const PHYSICAL_FIELD: usize = 24;

/// The image's program.
pub(crate) struct Linked {
    /// Its file's header.
    pub header: Vec<u8>,
    /// Where the headers of its segments are in the file.
    pub table_offset: u64,
    /// These headers; those of the kernel's void (`PT_NULL`).
    pub table: Vec<u8>,
    /// What they say.
    pub program: Program,
    /// How far from its own addresses it runs.
    pub bias: u64,
}

/// The image's program, if it has one. Read once, before the app runs: the pages that say so become the app's.
pub(crate) fn linked() -> Option<&'static Linked> {
    static LINKED: Once<Option<Linked>> = Once::new();
    let read =
        |start| Linked::read(start).inspect_err(|error| log::error!("the image's program: {error}")).ok();
    LINKED.call_once(|| layout::program_header().and_then(read)).as_ref()
}

fn bytes(start: u64, len: usize) -> Result<Vec<u8>, ElfError> {
    loaded::read(start, len).ok_or(ElfError::Truncated)
}

impl Linked {
    fn read(start: u64) -> Result<Self, ElfError> {
        let header = bytes(start, HEADER_BYTES)?;
        let parsed = Header::parse(&header)?;
        let mut table = bytes(start + HEADER_BYTES as u64, parsed.table_bytes())?;
        for entry in table.chunks_exact_mut(SEGMENT_HEADER_BYTES) {
            let (kind, rest) = entry.split_at_mut(4);
            let physical =
                rest[PHYSICAL_FIELD - 4..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            if kind == PT_LOAD.to_le_bytes() && layout::is_kernel_loaded_at(physical) {
                kind.fill(0);
            }
        }
        let program = Program::parse(&parsed, &table, u64::MAX, &ALLOWED)?;
        let bias = match program.kind {
            Kind::Fixed => 0,
            Kind::Relocatable => program_bias(&program),
        };
        Ok(Self { header, table_offset: parsed.table_offset(), table, program, bias })
    }

    /// Opens its pages to ring 3, each segment with its own permissions.
    pub(crate) fn map(&self) -> Result<(), SpaceError> {
        symbols::set_app_bias(self.bias);
        for segment in &self.program.segments {
            let (start, end) = (segment.physical_address, segment.physical_address + segment.memory_bytes);
            // What else is in the first and the last page is whatever was in RAM.
            zero(page_down(start), start);
            zero(end, page_up(end));
            let at = page_down(segment.address).wrapping_add(self.bias);
            space::adopt_image(
                at,
                page_down(start),
                page_up(end) - page_down(start),
                protection_of(segment),
            )?;
        }
        Ok(())
    }

    /// The bytes of a range of the file, if they are in memory, before the app runs.
    pub(crate) fn file_bytes(&self, range: core::ops::Range<u64>) -> Option<Vec<u8>> {
        let segment = self.program.segments.iter().find(|segment| {
            segment.offset <= range.start && range.end <= segment.offset + segment.file_bytes
        })?;
        let start = segment.physical_address + (range.start - segment.offset);
        bytes(start, (range.end - range.start) as usize).ok()
    }
}

fn zero(start: u64, end: u64) {
    debug_assert!(end - start < PAGE_BYTES as u64);
    loaded::clear(start, (end - start) as usize);
}

/// Where a program may have memory.
pub(crate) const ALLOWED: Range<u64> = space::LOWEST..USER_END;

/// How far from its own addresses a program goes.
pub(crate) fn program_bias(program: &unikernel_elf::Program) -> u64 {
    match program.kind {
        Kind::Fixed => 0,
        Kind::Relocatable => bias_at(program, places::program_start(random::next_u64())),
    }
}

/// How far from its own addresses a program goes that begins at `start` or behind.
pub(crate) fn bias_at(program: &unikernel_elf::Program, start: u64) -> u64 {
    start.next_multiple_of(program.alignment).wrapping_sub(program.span().start)
}

/// What a segment's flags allow.
pub(crate) fn protection_of(segment: &Segment) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, segment.is_readable);
    protection.set(Protection::WRITE, segment.is_writable);
    protection.set(Protection::EXECUTE, segment.is_executable);
    protection
}

/// Where the program lies.
pub(crate) fn path() -> String {
    format!("/bin/{}", symbols::table().and_then(|table| table.program()).unwrap_or("app"))
}
