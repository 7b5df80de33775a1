//! What must hold for every image, read from the linked file itself: exact permissions, no page
//! shared between kernel and app, a way in for Linux and one for hypervisors, names for backtraces, addresses that can move.

use std::fmt;
use std::ops::Range;

use object::LittleEndian;
use object::elf::{FileHeader64, PF_W, PF_X, PT_GNU_STACK, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use unikernel_elf::relocations;
use unikernel_report::symbols::Table;

use crate::segments::KERNEL_OFFSET;
use crate::symbols::value_of;

const ENDIAN: LittleEndian = LittleEndian;
const PAGE_BYTES: u64 = 4096;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: where a hypervisor enters.
const PVH_ENTRY_NOTE: u32 = 18;

/// Something that must not be in an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not an ELF file of our kind at all.
    NotAnImage(String),
    /// A segment at this address can be written and executed.
    WritableAndExecutable(u64),
    /// The stack may be executed.
    ExecutableStack,
    /// Two segments meet in the page at this address, of which one is the kernel's.
    SharedPage(u64),
    /// No PVH note leads into the kernel.
    NoPvhEntry,
    /// GRUB finds no way in.
    NoMultiboot2Header,
    /// Linux would not enter in the app's code.
    EntryNotInApp(u64),
    /// The segment at this address is not loaded there: Linux would look for it elsewhere than a hypervisor.
    NotWhereLoaded(u64),
    /// The kernel could not move: it does not find its addresses.
    NoAddresses,
    /// Backtraces would be without names.
    NoNames,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage(why) => write!(f, "not an image: {why}"),
            Self::WritableAndExecutable(at) => write!(f, "the segment at {at:#x} is writable and executable"),
            Self::ExecutableStack => write!(f, "the stack is executable"),
            Self::SharedPage(at) => write!(f, "kernel and app share the page at {at:#x}"),
            Self::NotWhereLoaded(at) => write!(f, "the segment at {at:#x} is loaded elsewhere"),
            Self::NoPvhEntry => write!(f, "no PVH note leads into the kernel's code"),
            Self::NoMultiboot2Header => write!(f, "there is no Multiboot2 header where GRUB looks for it"),
            Self::NoAddresses => write!(f, "the table of the kernel's addresses is missing or wrong"),
            Self::NoNames => write!(f, "the last segment does not name the functions of both halves"),
            Self::EntryNotInApp(at) => write!(f, "the entry {at:#x} is not in the app's code"),
        }
    }
}

type Segment = ProgramHeader64<LittleEndian>;

/// Checks an image; answers everything that is wrong with it.
pub fn check(file: &[u8]) -> Vec<Fault> {
    match Image::read(file) {
        Ok(image) => image.faults(),
        Err(why) => vec![Fault::NotAnImage(why)],
    }
}

/// True if a hypervisor finds its way into the file, whatever else it is: a quick look that needs no symbols.
pub fn has_way_in(file: &[u8]) -> bool {
    FileHeader64::<LittleEndian>::parse(file)
        .and_then(|header| header.program_headers(ENDIAN, file))
        .is_ok_and(|segments| pvh_entry(segments, file).is_some())
}

/// True if GRUB finds its way into the file.
pub fn has_multiboot2_header(file: &[u8]) -> bool {
    multiboot2_header(file).is_some()
}

/// How many bytes of a file GRUB looks through.
pub(crate) const SEARCHED_BYTES: usize = 32 << 10;

/// The Multiboot2 header, at a multiple of 8 in the file's first 32 KiB, whose first four words (a number, the architecture, its
/// length) add up to nothing (Multiboot2 specification 2.0, section 3.1).
pub(crate) fn multiboot2_header(file: &[u8]) -> Option<&[u8]> {
    const MAGIC: u32 = 0xe852_50d6;
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
    let searched = &file[..file.len().min(SEARCHED_BYTES)];
    let (places, _) = searched.as_chunks::<8>();
    places.windows(2).enumerate().find_map(|(index, pair)| {
        let words = [&pair[0][..], &pair[0][4..], &pair[1][..], &pair[1][4..]].map(word);
        let is_header = words[0] == MAGIC && words.into_iter().fold(0, u32::wrapping_add) == 0;
        searched[index * 8..].get(..words[2] as usize).filter(|_| is_header)
    })
}

struct Image<'a> {
    file: &'a [u8],
    segments: &'a [Segment],
    entry: u64,
    /// Where the kernel's half is loaded.
    kernel_start: u64,
    addresses: Option<Addresses>,
}

/// Where the kernel has its addresses, by those at which it is linked.
struct Addresses {
    table: Range<u64>,
    areas: [Range<u64>; relocations::AREAS],
    code: Range<u64>,
    kernel: Range<u64>,
}

impl Addresses {
    fn find(address: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let range = |start: &str, end: &str| Some(address(start)?..address(end)?);
        Some(Self {
            table: range("__kernel_relocations_start", "__kernel_relocations_end")?,
            areas: [
                range("__kernel_rodata_start", "__kernel_rodata_end")?,
                range("__kernel_data_start", "__kernel_data_end")?,
            ],
            code: range("__kernel_text_start", "__kernel_text_end")?,
            kernel: range("__kernel_start", "__kernel_bss_end")?,
        })
    }
}

impl<'a> Image<'a> {
    fn read(file: &'a [u8]) -> Result<Self, String> {
        let text = |error: object::Error| error.to_string();
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(text)?;
        let segments = header.program_headers(ENDIAN, file).map_err(text)?;
        let sections = header.sections(ENDIAN, file).map_err(text)?;
        let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).map_err(text)?;
        let kernel_start = value_of(&symbols, b"__kernel_load_start").ok_or("it has no kernel in it")?;
        let addresses = Addresses::find(|name| value_of(&symbols, name.as_bytes()));
        Ok(Self { file, segments, entry: header.e_entry(ENDIAN), kernel_start, addresses })
    }

    fn loaded(&self) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_LOAD)
    }

    /// True if `address` lies in an executable segment of the kernel's half, or the app's.
    fn is_code(&self, address: u64, of_kernel: bool) -> bool {
        self.loaded().any(|segment| {
            let start = segment.p_vaddr(ENDIAN);
            segment.p_flags(ENDIAN) & PF_X != 0
                && (start..start + segment.p_memsz(ENDIAN)).contains(&address)
                && (start >= self.kernel_start) == of_kernel
        })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for segment in self.loaded() {
            if segment.p_flags(ENDIAN) & (PF_W | PF_X) == PF_W | PF_X {
                faults.push(Fault::WritableAndExecutable(segment.p_vaddr(ENDIAN)));
            }
            if segment.p_vaddr(ENDIAN) != segment.p_paddr(ENDIAN) {
                faults.push(Fault::NotWhereLoaded(segment.p_vaddr(ENDIAN)));
            }
        }
        let stack = self.segments.iter().find(|segment| segment.p_type(ENDIAN) == PT_GNU_STACK);
        if stack.is_none_or(|stack| stack.p_flags(ENDIAN) & PF_X != 0) {
            faults.push(Fault::ExecutableStack);
        }
        faults.extend(self.shared_pages());
        if !self.pvh_entry().is_some_and(|entry| self.is_code(entry, true)) {
            faults.push(Fault::NoPvhEntry);
        }
        if !has_multiboot2_header(self.file) {
            faults.push(Fault::NoMultiboot2Header);
        }
        if !self.is_code(self.entry, false) {
            faults.push(Fault::EntryNotInApp(self.entry));
        }
        if self.has_addresses().is_none_or(|count| count == 0) {
            faults.push(Fault::NoAddresses);
        }
        if !self.has_names() {
            faults.push(Fault::NoNames);
        }
        faults
    }

    /// Pages in which a kernel segment meets any other one: permissions go by page.
    fn shared_pages(&self) -> Vec<Fault> {
        let pages = |segment: &Segment| {
            let (start, bytes) = (segment.p_vaddr(ENDIAN), segment.p_memsz(ENDIAN));
            (start / PAGE_BYTES, (start + bytes).div_ceil(PAGE_BYTES))
        };
        let segments: Vec<_> = self.loaded().collect();
        let mut faults = Vec::new();
        for (index, first) in segments.iter().enumerate() {
            for second in &segments[index + 1..] {
                let has_kernel = [first, second].iter().any(|s| s.p_vaddr(ENDIAN) >= self.kernel_start);
                let ((a_start, a_end), (b_start, b_end)) = (pages(first), pages(second));
                if has_kernel && a_start < b_end && b_start < a_end {
                    faults.push(Fault::SharedPage(a_start.max(b_start) * PAGE_BYTES));
                }
            }
        }
        faults
    }

    /// How many addresses the kernel changes when it moves, if it finds them.
    fn has_addresses(&self) -> Option<usize> {
        let Addresses { table, areas, code, kernel } = self.addresses.as_ref()?;
        let words = |area: &Range<u64>| {
            let (words, _) = self.kernel_bytes(area)?.as_chunks();
            Some(words.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<u64>>())
        };
        let (first, second) = (words(&areas[0])?, words(&areas[1])?);
        let linked = kernel.start - relocations::SLACK..=kernel.end + relocations::SLACK;
        relocations::check(self.kernel_bytes(table)?, [&first, &second], self.kernel_bytes(code)?, &linked)
            .ok()
    }

    /// What the file has for these addresses of the kernel's.
    fn kernel_bytes(&self, addresses: &Range<u64>) -> Option<&'a [u8]> {
        let start = addresses.start.checked_sub(KERNEL_OFFSET)?;
        let bytes = addresses.end.checked_sub(addresses.start)? as usize;
        self.loaded().find_map(|segment| {
            let at = start.checked_sub(segment.p_vaddr(ENDIAN))? as usize;
            segment.data(ENDIAN, self.file).ok()?.get(at..at.checked_add(bytes)?)
        })
    }

    /// True if the table of names knows both ways in.
    fn has_names(&self) -> bool {
        let last = self.loaded().max_by_key(|segment| segment.p_vaddr(ENDIAN));
        let table = last.and_then(|segment| Table::parse(segment.data(ENDIAN, self.file).ok()?));
        let knows = |address| table.is_some_and(|table| table.find(address).is_some());
        knows(self.entry) && self.pvh_entry().is_none_or(|entry| knows(entry + KERNEL_OFFSET))
    }

    /// The physical address where a hypervisor enters.
    fn pvh_entry(&self) -> Option<u64> {
        pvh_entry(self.segments, self.file)
    }
}

fn pvh_entry(segments: &[Segment], file: &[u8]) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_NOTE).find_map(|segment| {
        let mut notes = segment.notes(ENDIAN, file).ok()??;
        while let Ok(Some(note)) = notes.next() {
            if note.n_type(ENDIAN) == PVH_ENTRY_NOTE && note.name() == b"Xen" {
                return Some(u64::from(u32::from_le_bytes(note.desc().try_into().ok()?)));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
