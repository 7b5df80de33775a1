//! A file for loaders alone, with everything in it at its physical address: no program of Linux's, but with the header in
//! front that GRUB looks for in the first 32 KiB.

use object::LittleEndian;
use object::elf::{FileHeader64, PF_R, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use unikernel_elf::{HEADER_BYTES, SEGMENT_HEADER_BYTES};

use super::entry::{Note, Part, add_kernel};
use super::kernel_parts::{Contents, KernelParts};
use super::{MOST_PHYSICAL, PackError, page_up};
use crate::image_check::{self, SEARCHED_BYTES};

const ENDIAN: LittleEndian = LittleEndian;
/// The tag of a Multiboot2 header that says where to enter.
const ENTRY_TAG: u16 = 3;

/// A kernel with files, and with words about the program among them.
pub(super) fn with_files(
    mut kernel: KernelParts<'_>,
    files: &[u8],
    words: &[u8],
) -> Result<Vec<u8>, PackError> {
    let start = kernel.end();
    let files_end = start + files.len() as u64;
    let end = page_up(files_end + words.len() as u64);
    if end > MOST_PHYSICAL {
        return Err(PackError::TooLarge(end));
    }
    let words_range = files_end..files_end + words.len() as u64;
    kernel.set_contents(&Contents { headers: 0, end, files: start..files_end, words: words_range })?;
    let added = [files, words].concat();
    let mut parts: Vec<Part<'_>> = kernel
        .parts
        .iter()
        .map(|part| Part {
            address: part.physical,
            physical: part.physical,
            flags: part.flags,
            memory_bytes: part.memory_bytes,
            bytes: &part.bytes,
        })
        .collect();
    parts.push(Part {
        physical: start,
        address: start,
        flags: PF_R,
        memory_bytes: added.len() as u64,
        bytes: &added,
    });
    write(parts, kernel.note, kernel.multiboot2)
}

/// The same image as a file that GRUB boots; `None` if it finds no way into it wherever its header is.
pub(super) fn of_image(image: &[u8]) -> Option<Result<Vec<u8>, PackError>> {
    let header = FileHeader64::<LittleEndian>::parse(image).ok()?;
    let segments = header.program_headers(ENDIAN, image).ok()?;
    // `Packing` puts it behind the table, whose page has a copy of the file's header in front.
    let page = usize::try_from(header.e_phoff.get(ENDIAN)).ok()?.checked_sub(HEADER_BYTES)?;
    let multiboot2 = image_check::multiboot2_header(image.get(page..)?)?;
    let of_kind = |kind| segments.iter().filter(move |segment| segment.p_type(ENDIAN) == kind);
    let part = |segment: &ProgramHeader64<LittleEndian>| {
        let end = segment.p_paddr(ENDIAN).checked_add(segment.p_memsz(ENDIAN));
        end.filter(|&end| end <= MOST_PHYSICAL && segment.p_filesz(ENDIAN) <= segment.p_memsz(ENDIAN))?;
        Some(Part {
            physical: segment.p_paddr(ENDIAN),
            address: segment.p_paddr(ENDIAN),
            flags: segment.p_flags(ENDIAN),
            memory_bytes: segment.p_memsz(ENDIAN),
            bytes: segment.data(ENDIAN, image).ok()?,
        })
    };
    let parts = of_kind(PT_LOAD).map(part).collect::<Option<Vec<_>>>()?;
    // The program may have notes of its own; the kernel's is the last.
    let note = of_kind(PT_NOTE).next_back()?;
    Some(write(parts, (note.p_paddr(ENDIAN), note.p_filesz(ENDIAN)), multiboot2))
}

fn write(
    mut parts: Vec<Part<'_>>,
    (note_at, bytes): (u64, u64),
    multiboot2: &[u8],
) -> Result<Vec<u8>, PackError> {
    parts.sort_by_key(|part| part.physical);
    let count = parts.len() + 1;
    let table_bytes = count * SEGMENT_HEADER_BYTES;
    let mut out = vec![0; (HEADER_BYTES + table_bytes).next_multiple_of(8)];
    out.extend(multiboot2);
    // GRUB reads the table from there, too.
    let count = u16::try_from(count).ok().filter(|_| out.len() <= SEARCHED_BYTES).ok_or(PackError::NoRoom)?;
    let mut table = Vec::new();
    let note = Note { physical: note_at, address: note_at, bytes };
    add_kernel(&parts, note, (&mut out, &mut table));
    out[HEADER_BYTES..HEADER_BYTES + table.len()].copy_from_slice(&table);
    let entry = entry_of(multiboot2).ok_or(PackError::NotAKernel("entry for GRUB"))?;
    out[..HEADER_BYTES].copy_from_slice(&header(entry, count));
    Ok(out)
}

/// Where GRUB enters. It wants the file's own entry to be in a segment, too.
fn entry_of(multiboot2: &[u8]) -> Option<u64> {
    let mut tags = multiboot2.get(16..)?;
    loop {
        let kind = u16::from_le_bytes(*tags.first_chunk()?);
        let bytes = u32::from_le_bytes(*tags.get(4..)?.first_chunk()?) as usize;
        if kind == ENTRY_TAG {
            return tags.get(8..)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
        }
        tags = tags.get(bytes.max(8).next_multiple_of(8)..)?;
    }
}

/// The header of an ELF file (ELF-64 object file format 1.5, figure 2) without sections.
fn header(entry: u64, count: u16) -> [u8; HEADER_BYTES] {
    const EXECUTABLE: u16 = 2;
    const X86_64: u16 = 62;
    let mut header = [0; HEADER_BYTES];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let halves = [
        (16, EXECUTABLE),
        (18, X86_64),
        (20, 1),
        (52, HEADER_BYTES as u16),
        (54, SEGMENT_HEADER_BYTES as u16),
        (56, count),
    ];
    for (at, value) in halves {
        header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    header[24..32].copy_from_slice(&entry.to_le_bytes());
    header[32..40].copy_from_slice(&(HEADER_BYTES as u64).to_le_bytes());
    header
}
