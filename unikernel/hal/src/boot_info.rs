//! What the loader tells at entry, copied out before its memory is reused: a hypervisor's PVH start info (`pvh`), or
//! GRUB's block of tags (`multiboot2`).

#[cfg(target_os = "none")]
mod multiboot2;
#[cfg(target_os = "none")]
mod pvh;

use alloc::string::String;
use core::fmt;

use arrayvec::ArrayVec;
use unikernel_cmdline::NotUtf8;
use unikernel_machine::multiboot2::{MemoryEntry, MemoryKind};
use unikernel_machine::ram::Ram;
use x86_64::{PhysAddr, VirtAddr};

use crate::kmem::{BOOT_MAP_END, layout};

/// More memory-map entries than any machine we know has; the rest is not used.
pub(crate) const MAX_RANGES: usize = 64;
/// Longer command lines are refused (Linux x86 cuts them there: `COMMAND_LINE_SIZE`).
const MAX_COMMAND_LINE_BYTES: usize = 2048;
/// An ACPI root pointer, of any version (ACPI 6.5, section 5.2.5.3).
const RSDP_BYTES: usize = 36;

/// A run of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The facts of this boot.
pub struct BootInfo {
    /// RAM.
    pub(crate) ram: Ram<MAX_RANGES>,
    /// One past the highest byte of RAM and firmware tables.
    pub tables_end: u64,
    /// The initrd, wherever the loader put it.
    pub initrd: Option<Range>,
    /// A file with more of the command line.
    words_file: Option<Range>,
    rsdp: RootPointer,
    command_line: ArrayVec<u8, MAX_COMMAND_LINE_BYTES>,
    /// Its length, of which no more than what fits was kept.
    command_line_bytes: usize,
}

/// The ACPI root pointer, as the loader names it.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "a simulated machine has no ACPI tables"))]
enum RootPointer {
    Unknown,
    At(PhysAddr),
    Copy([u8; RSDP_BYTES]),
}

/// The loader did not leave what its ABI says, with some RAM in it.
#[derive(Debug)]
pub enum NoStartInfo {
    /// PVH's start info.
    Pvh,
    /// Multiboot2's tags.
    Multiboot2,
    /// It is neither kind of loader, but left this number in `eax`.
    Unknown(u32),
}

impl fmt::Display for NoStartInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pvh => f.write_str(
                "the loader's start info (PVH) is missing or damaged; QEMU damages it with a command line above 4096 bytes",
            ),
            Self::Multiboot2 => f.write_str("the loader's information (Multiboot2) is damaged"),
            Self::Unknown(magic) => {
                write!(f, "entered as by a Multiboot2 loader, with {magic:#x} in place of its number")
            }
        }
    }
}

/// Why a command line cannot be read.
#[derive(Debug)]
pub enum CommandLineError {
    /// It has so many bytes, which is too many.
    TooLong(usize),
    /// This word is not text.
    NotUtf8(NotUtf8),
    /// What the image brings along is not.
    PackedWords,
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes; {MAX_COMMAND_LINE_BYTES} are the most"),
            Self::PackedWords => f.write_str("the words in the image are no text, in UTF-8"),
            Self::NotUtf8(NotUtf8(word)) => write!(f, "`{word}`: expected text, in UTF-8"),
        }
    }
}

impl Range {
    /// The bytes, through the direct map.
    pub fn bytes(self) -> &'static [u8] {
        let start = crate::kmem::phys_to_virt(PhysAddr::new(self.start)).as_ptr();
        // SAFETY: the loader put the file there, into RAM; `for_each_free` keeps it out of the frames, and
        // nobody writes it.
        unsafe { core::slice::from_raw_parts(start, (self.end - self.start) as usize) }
    }
}

/// The archive of files that is packed into the image.
pub fn packed_files() -> Option<&'static [u8]> {
    layout::archive().map(|archive| Range { start: archive.start, end: archive.end }.bytes())
}

/// The words that are packed into the image.
pub fn packed_words() -> Result<&'static str, CommandLineError> {
    let bytes = layout::packed_words().map(|words| Range { start: words.start, end: words.end }.bytes());
    core::str::from_utf8(bytes.unwrap_or_default()).map_err(|_| CommandLineError::PackedWords)
}

impl BootInfo {
    /// Reads what the loader left: `address` is where, and `magic` is Multiboot2's or 0.
    ///
    /// # Safety
    ///
    /// They are what the boot stub was entered with, and the boot page tables are in force.
    #[cfg(target_os = "none")]
    #[inline(never)]
    pub unsafe fn read(address: u32, magic: u32) -> Result<Self, NoStartInfo> {
        match magic {
            // SAFETY: by the caller.
            0 => unsafe { pvh::read(address) },
            // SAFETY: by the caller.
            unikernel_machine::multiboot2::MAGIC => unsafe { multiboot2::read(address) },
            other => Err(NoStartInfo::Unknown(other)),
        }
    }

    /// Of a simulated machine with so much RAM.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn of_simulated(ram_bytes: u64, command_line: &[u8]) -> Self {
        let mut info = Self::new();
        info.add_memory(core::iter::once(MemoryEntry { start: 0, end: ram_bytes, kind: MemoryKind::Ram }));
        info.tables_end = ram_bytes;
        info.set_command_line(command_line);
        info
    }

    /// With nothing known yet.
    fn new() -> Self {
        Self {
            ram: Ram::new(),
            tables_end: 0,
            initrd: None,
            words_file: None,
            rsdp: RootPointer::Unknown,
            command_line: ArrayVec::new(),
            command_line_bytes: 0,
        }
    }

    /// Takes entries of the loader's memory map in.
    fn add_memory(&mut self, entries: impl Iterator<Item = MemoryEntry> + Clone) {
        for entry in entries.clone().filter(|entry| entry.kind == MemoryKind::Ram) {
            self.ram.add(entry.start..entry.end);
        }
        for entry in entries {
            if entry.kind != MemoryKind::Ram {
                self.ram.remove(&(entry.start..entry.end));
            }
            if entry.kind != MemoryKind::Reserved {
                self.tables_end = self.tables_end.max(entry.end);
            }
        }
    }

    fn set_command_line(&mut self, text: &[u8]) {
        self.command_line = text.iter().copied().take(MAX_COMMAND_LINE_BYTES).collect();
        self.command_line_bytes = text.len();
    }

    /// Where the ACPI root pointer is, if the loader said so.
    pub fn rsdp(&self) -> Option<PhysAddr> {
        match &self.rsdp {
            RootPointer::Unknown => None,
            RootPointer::At(address) => Some(*address),
            RootPointer::Copy(copy) => Some(crate::kmem::virt_to_phys(VirtAddr::from_ptr(copy))),
        }
    }

    /// The command line as text. What was cut off could be anything, so a line that is too long is an error.
    pub fn command_line(&self) -> Result<String, CommandLineError> {
        if self.command_line_bytes > MAX_COMMAND_LINE_BYTES {
            return Err(CommandLineError::TooLong(self.command_line_bytes));
        }
        let text = unikernel_cmdline::text(&self.command_line).map_err(CommandLineError::NotUtf8)?;
        let Some(file) = self.words_file else { return Ok(text.into()) };
        let of_file = unikernel_cmdline::of_file(file.bytes()).map_err(CommandLineError::NotUtf8)?;
        let bytes = text.len() + 1 + of_file.len();
        if bytes > MAX_COMMAND_LINE_BYTES {
            return Err(CommandLineError::TooLong(bytes));
        }
        Ok([text, " ", &of_file].concat())
    }

    /// The command line as the loader left it, as far as it was kept.
    pub fn raw_command_line(&self) -> &[u8] {
        &self.command_line
    }

    /// False if the words leave the kernel where it was linked. Asked before anything else works.
    pub fn moves_kernel(&self) -> bool {
        let is_mapped = |words: &Range| words.end <= BOOT_MAP_END;
        let packed = layout::packed_words().map(|words| Range { start: words.start, end: words.end });
        let bytes = |words: Option<Range>| words.map_or(&[][..], Range::bytes);
        unikernel_cmdline::moves_kernel(
            bytes(packed.filter(is_mapped)),
            &self.command_line,
            bytes(self.words_file),
        )
    }

    /// Calls `give` with each page-aligned run of RAM that nobody uses yet.
    pub fn for_each_free(&self, mut give: impl FnMut(u64, u64)) {
        /// Real-mode structures, the loader's tables and the video hole live below.
        const LOW_END: u64 = 1 << 20;
        let image = Range { start: layout::image_start(), end: layout::image_end() };
        let taken = [Some(Range { start: 0, end: LOW_END }), Some(image), self.initrd, self.words_file];
        for range in self.ram.runs() {
            let mut start = range.start;
            while start < range.end {
                // The first thing that is taken at or above `start` bounds the free run.
                let next = taken
                    .iter()
                    .flatten()
                    .filter(|taken| taken.end > start && taken.start < range.end)
                    .min_by_key(|taken| taken.start);
                let end = next.map_or(range.end, |taken| taken.start.max(start));
                let (first, last) = (layout::page_up(start), layout::page_down(end));
                if first < last {
                    give(first, last);
                }
                start = next.map_or(range.end, |taken| taken.end);
            }
        }
    }
}
