//! Where each part goes, in the file and in memory, and the file that says so.

use object::elf::{PF_R, PF_X, PT_LOAD, PT_PHDR};
use unikernel_elf::{ElfError, HEADER_BYTES, Kind, Program, SEGMENT_HEADER_BYTES};

use super::entry::{Entry, Note, Part, add_kernel};
use super::kernel_parts::{Contents, KernelParts};
use super::{ALLOWED, MOST_PHYSICAL, PAGE_BYTES, PackError, page_up};

/// Loaders that look refuse to enter below (Firecracker, Cloud Hypervisor), whatever the PVH note says.
const LOWEST_ENTRY: u64 = 1 << 20;
/// More zeros between a program and its headers are not worth that Linux before 5.18 finds them.
const MOST_PADDING: u64 = 16 << 20;
/// A jump by the distance that follows (`jmp rel32`).
const JUMP: u8 = 0xe9;
const JUMP_BYTES: u64 = 5;

/// Where everything goes.
pub(super) struct Packing<'a> {
    file: &'a [u8],
    program: &'a Program,
    kernel: KernelParts<'a>,
    files: &'a [u8],
    /// The program's headers and those that are added.
    header_count: u16,
    /// Where in the file the page with the headers is.
    headers_offset: u64,
    /// Where Linux maps it.
    headers_address: u64,
    /// Where Linux maps what comes behind.
    extra_address: u64,
    /// Where each segment of the program is loaded.
    physical: Vec<u64>,
    /// Where the files are loaded.
    files_physical: u64,
}

impl<'a> Packing<'a> {
    pub(super) fn new(
        file: &'a [u8],
        program: &'a Program,
        kernel: KernelParts<'a>,
        files: &'a [u8],
    ) -> Result<Self, PackError> {
        // Relocatable ones can begin anywhere, too; with this, no sum of addresses below is too large.
        if program.span().end > ALLOWED.end {
            return Err(PackError::NoRoom);
        }
        // The headers, the files, the note.
        let added = kernel.parts.len() + 3;
        let header_count = usize::from(program.header_count) + added;
        let is_small = header_count * SEGMENT_HEADER_BYTES <= u16::MAX.into();
        let header_count = u16::try_from(header_count).ok().filter(|_| is_small).ok_or(ElfError::BadTable)?;
        let (headers_offset, headers_address) = place_headers(program, file.len() as u64);
        let mut packing = Self {
            file,
            program,
            kernel,
            files,
            header_count,
            headers_offset,
            headers_address,
            extra_address: 0,
            physical: Vec::new(),
            files_physical: 0,
        };
        packing.extra_address = page_up(headers_address + packing.headers_bytes());
        packing.place()?;
        Ok(packing)
    }

    fn headers_bytes(&self) -> u64 {
        self.multiboot2_offset() + self.kernel.multiboot2.len() as u64
    }

    /// Where in this page the header is that GRUB looks for, which is too far behind in this file ([`super::for_grub`]).
    fn multiboot2_offset(&self) -> u64 {
        (self.way_in_offset() + JUMP_BYTES).next_multiple_of(8)
    }

    /// Where in the page with the headers the way into the program is.
    fn way_in_offset(&self) -> u64 {
        HEADER_BYTES as u64 + self.table_bytes()
    }

    fn table_bytes(&self) -> u64 {
        u64::from(self.header_count) * SEGMENT_HEADER_BYTES as u64
    }

    fn headers_physical(&self) -> u64 {
        self.kernel.end()
    }

    /// Finds physical addresses, and sees that nothing is too large.
    fn place(&mut self) -> Result<(), PackError> {
        let mut end = page_up(self.headers_physical() + self.headers_bytes());
        for segment in &self.program.segments {
            let start = end + segment.address % PAGE_BYTES;
            end = start
                .checked_add(segment.memory_bytes)
                .filter(|&end| end <= MOST_PHYSICAL)
                .map(page_up)
                .ok_or(PackError::TooLarge(start.saturating_add(segment.memory_bytes)))?;
            self.physical.push(start);
        }
        self.files_physical = end;
        end += page_up(self.files.len() as u64);
        if end > MOST_PHYSICAL {
            return Err(PackError::TooLarge(end));
        }
        let extra = page_up(self.files.len() as u64) + self.kernel.end() - self.kernel.start();
        let first = match self.program.kind {
            Kind::Fixed => 0,
            Kind::Relocatable => self.program.span().start,
        };
        let has_room = (self.extra_address + extra).checked_sub(first).is_some_and(|end| end <= ALLOWED.end);
        if !has_room {
            return Err(PackError::NoRoom);
        }
        let files = self.files_physical..self.files_physical + self.files.len() as u64;
        let headers = self.headers_physical();
        self.kernel.set_contents(&Contents { headers, end, files, ..Contents::default() })
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, PackError> {
        let mut out = self.file.to_vec();
        out.resize(self.headers_offset as usize, 0);
        let (way_in, jump) = self.way_in()?;
        let header = self.header(way_in.unwrap_or(self.program.entry));
        out[..HEADER_BYTES].copy_from_slice(&header);
        out.extend(header);
        let table_at = out.len();
        out.resize(table_at + self.table_bytes() as usize, 0);
        out.extend(jump);
        out.resize((self.headers_offset + self.multiboot2_offset()) as usize, 0);
        out.extend(self.kernel.multiboot2);
        let mut table = self.program_entries();
        self.headers_entry(way_in.is_some()).write(&mut table);
        self.add_files(&mut out, &mut table);
        self.add_kernel(&mut out, &mut table);
        out[table_at..table_at + table.len()].copy_from_slice(&table);
        Ok(out)
    }

    /// A way into the program by a jump, where its own is one that loaders refuse.
    fn way_in(&self) -> Result<(Option<u64>, [u8; JUMP_BYTES as usize]), PackError> {
        let mut jump = [0; JUMP_BYTES as usize];
        if self.program.entry >= LOWEST_ENTRY {
            return Ok((None, jump));
        }
        let at = self.headers_address + self.way_in_offset();
        let distance = i128::from(self.program.entry) - i128::from(at + JUMP_BYTES);
        let distance = i32::try_from(distance).map_err(|_| PackError::NoRoom)?;
        jump[0] = JUMP;
        jump[1..].copy_from_slice(&distance.to_le_bytes());
        Ok((Some(at), jump))
    }

    /// The file's header, with another entry and table.
    fn header(&self, entry: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.file[..HEADER_BYTES]);
        header[24..32].copy_from_slice(&entry.to_le_bytes());
        header[32..40].copy_from_slice(&(self.headers_offset + HEADER_BYTES as u64).to_le_bytes());
        header[56..58].copy_from_slice(&self.header_count.to_le_bytes());
        header
    }

    /// The program's own headers, with the addresses at which its segments are loaded.
    fn program_entries(&self) -> Vec<u8> {
        let field = |at: usize| u64::from_le_bytes(self.file[at..at + 8].try_into().expect("eight bytes"));
        let start = field(32) as usize;
        let bytes = usize::from(self.program.header_count) * SEGMENT_HEADER_BYTES;
        let mut table = self.file[start..start + bytes].to_vec();
        for entry in table.chunks_exact_mut(SEGMENT_HEADER_BYTES) {
            let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
            let kind = u32::from_le_bytes(entry[..4].try_into().expect("four bytes"));
            let (address, memory_bytes) = (word(16), word(40));
            match kind {
                PT_PHDR => {
                    let mut new = Vec::new();
                    self.table_entry().write(&mut new);
                    entry.copy_from_slice(&new);
                }
                // Nothing to load, which not each loader takes.
                PT_LOAD if memory_bytes == 0 => entry[..4].fill(0),
                PT_LOAD => {
                    let place = self.program.segments.iter().position(|segment| segment.address == address);
                    let physical = place.map_or(0, |place| self.physical[place]);
                    entry[24..32].copy_from_slice(&physical.to_le_bytes());
                }
                _ => {}
            }
        }
        table
    }

    /// What says where the table itself is.
    fn table_entry(&self) -> Entry {
        let within = HEADER_BYTES as u64;
        Entry {
            kind: PT_PHDR,
            flags: PF_R,
            offset: self.headers_offset + within,
            address: self.headers_address + within,
            physical: self.headers_physical() + within,
            file_bytes: self.table_bytes(),
            memory_bytes: self.table_bytes(),
            alignment: 8,
        }
    }

    fn headers_entry(&self, has_way_in: bool) -> Entry {
        Entry {
            kind: PT_LOAD,
            flags: if has_way_in { PF_R | PF_X } else { PF_R },
            offset: self.headers_offset,
            address: self.headers_address,
            physical: self.headers_physical(),
            file_bytes: self.headers_bytes(),
            memory_bytes: self.headers_bytes(),
            alignment: PAGE_BYTES,
        }
    }

    fn add_files(&self, out: &mut Vec<u8>, table: &mut Vec<u8>) {
        out.resize(page_up(out.len() as u64) as usize, 0);
        let bytes = self.files.len() as u64;
        let entry = Entry {
            // `PT_NULL` without files.
            kind: if bytes == 0 { 0 } else { PT_LOAD },
            flags: PF_R,
            offset: out.len() as u64,
            address: self.extra_address,
            physical: self.files_physical,
            file_bytes: bytes,
            memory_bytes: bytes,
            alignment: PAGE_BYTES,
        };
        entry.write(table);
        out.extend(self.files);
    }

    /// The kernel's segments, for Linux as data that nobody executes, and the note that leads a hypervisor in. It is the last
    /// one: some loaders look at no other (Firecracker's).
    fn add_kernel(&self, out: &mut Vec<u8>, table: &mut Vec<u8>) {
        let first = self.extra_address + page_up(self.files.len() as u64);
        let address = |physical: u64| first + (physical - self.kernel.start());
        let parts = self.kernel.parts.iter().map(|part| Part {
            physical: part.physical,
            address: address(part.physical),
            flags: part.flags & !PF_X,
            memory_bytes: part.memory_bytes,
            bytes: &part.bytes,
        });
        let parts: Vec<_> = parts.collect();
        let (physical, bytes) = self.kernel.note;
        add_kernel(&parts, Note { physical, address: address(physical), bytes }, (out, table));
    }
}

/// Where the new headers go, in the file and in memory.
///
/// As far from the program in memory as in the file, if that costs few zeros: before 5.18, Linux tells a program that its headers are
/// there, wherever they are mapped (`AT_PHDR`).
fn place_headers(program: &Program, file_bytes: u64) -> (u64, u64) {
    let span = program.span();
    let offset = page_up(file_bytes);
    let first = &program.segments[0];
    let base = first.address.wrapping_sub(first.offset);
    // The way in is there, if the program's own is too low.
    let lowest = span.end.max(LOWEST_ENTRY);
    let wanted = lowest.wrapping_sub(base).max(offset);
    let address = base.wrapping_add(wanted);
    let is_good = base.is_multiple_of(PAGE_BYTES) && wanted - offset <= MOST_PADDING;
    if is_good && (lowest..ALLOWED.end).contains(&address) {
        (wanted, address)
    } else {
        (offset, page_up(lowest))
    }
}
