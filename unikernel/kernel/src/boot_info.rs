//! What the hypervisor tells at entry (PVH start info), copied out before its memory is reused.

use alloc::string::String;
use core::fmt;

use arrayvec::ArrayVec;
use pvh::start_info::reader::{IdentityMap, StartInfoReader};
use pvh::start_info::{MemmapType, ModlistEntry, StartInfo};
use unikernel_cmdline::NotUtf8;
use x86_64::PhysAddr;

use crate::mem::layout;

/// More memory-map entries than any machine we know has; the rest is not used.
const MAX_RANGES: usize = 64;
/// Longer command lines are refused (Linux x86 cuts them there: `COMMAND_LINE_SIZE`).
const MAX_COMMAND_LINE_BYTES: usize = 2048;

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
    pub ram: ArrayVec<Range, MAX_RANGES>,
    /// One past the highest byte of RAM and firmware tables.
    pub tables_end: u64,
    /// The initrd, wherever the loader put it.
    pub initrd: Option<Range>,
    /// The ACPI root pointer, if the loader knows it.
    pub rsdp: Option<PhysAddr>,
    command_line: ArrayVec<u8, MAX_COMMAND_LINE_BYTES>,
    /// Its length, of which no more than what fits was kept.
    command_line_bytes: usize,
}

/// The loader did not leave a start info with some RAM in it where its ABI says.
#[derive(Debug)]
pub struct NoStartInfo;

/// Why a command line cannot be read.
#[derive(Debug)]
pub enum CommandLineError {
    /// It has so many bytes, which is too many.
    TooLong(usize),
    /// This word is not text.
    NotUtf8(NotUtf8),
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes; {MAX_COMMAND_LINE_BYTES} are the most"),
            Self::NotUtf8(NotUtf8(word)) => write!(f, "`{word}`: expected UTF-8"),
        }
    }
}

impl Range {
    /// The bytes, through the direct map.
    pub fn bytes(self) -> &'static [u8] {
        let start = crate::mem::phys_to_virt(PhysAddr::new(self.start)).as_ptr();
        // SAFETY: the loader put the module there, `for_each_free` keeps it out of the frames, and
        // nobody writes it.
        unsafe { core::slice::from_raw_parts(start, (self.end - self.start) as usize) }
    }
}

/// The first module, which is the initrd. Read without the `pvh` crate's help, because the firmware
/// of QEMU's `microvm` puts the list where its alignment is not given.
///
/// # Safety
///
/// `info` must be a loader's, with valid physical addresses, identity-mapped.
unsafe fn first_module(info: &StartInfo) -> Option<Range> {
    if info.nr_modules == 0 || info.modlist_paddr == 0 {
        return None;
    }
    // SAFETY: by the caller; the list has at least one entry, and any bytes are a valid one.
    let module = unsafe { (info.modlist_paddr as *const ModlistEntry).read_unaligned() };
    Some(Range { start: module.paddr, end: module.paddr.saturating_add(module.size) })
}

impl BootInfo {
    /// Reads the start info at a physical address.
    ///
    /// # Safety
    ///
    /// `address` is what the loader left in `ebx`, and the boot page tables (identity map of the
    /// first GiB) are in force.
    pub unsafe fn read(address: u32) -> Result<Self, NoStartInfo> {
        // SAFETY: by the caller; the PVH ABI promises valid physical addresses, and loaders put
        // these structures below 1 GiB.
        let info =
            unsafe { StartInfoReader::<IdentityMap>::from_paddr_identity(address) }.ok_or(NoStartInfo)?;
        let mut ram = ArrayVec::new();
        let mut tables_end = 0;
        for entry in info.memmap() {
            let range = Range { start: entry.addr, end: entry.addr.saturating_add(entry.size) };
            match entry.ty() {
                MemmapType::Ram => drop(ram.try_push(range)),
                MemmapType::Acpi | MemmapType::Nvs => {}
                _ => continue,
            }
            tables_end = tables_end.max(range.end);
        }
        if ram.is_empty() {
            return Err(NoStartInfo);
        }
        // SAFETY: by the caller, as above.
        let initrd = unsafe { first_module(info.raw()) };
        let mut command_line = ArrayVec::new();
        let text = info.cmdline().map_or(&[][..], core::ffi::CStr::to_bytes);
        command_line.extend(text.iter().copied().take(MAX_COMMAND_LINE_BYTES));
        let rsdp = (info.raw().rsdp_paddr != 0).then(|| PhysAddr::new(info.raw().rsdp_paddr));
        Ok(Self { ram, tables_end, initrd, rsdp, command_line, command_line_bytes: text.len() })
    }

    /// The command line as text. What was cut off could be anything, so a line that is too long is an error.
    pub fn command_line(&self) -> Result<String, CommandLineError> {
        if self.command_line_bytes > MAX_COMMAND_LINE_BYTES {
            return Err(CommandLineError::TooLong(self.command_line_bytes));
        }
        let text = unikernel_cmdline::text(&self.command_line).map_err(CommandLineError::NotUtf8)?;
        Ok(text.into())
    }

    /// Calls `give` with each page-aligned run of RAM that nobody uses yet.
    pub fn for_each_free(&self, mut give: impl FnMut(u64, u64)) {
        /// Real-mode structures, the loader's tables and the video hole live below.
        const LOW_END: u64 = 1 << 20;
        let image = Range { start: layout::image_start(), end: layout::image_end() };
        let taken = [Some(Range { start: 0, end: LOW_END }), Some(image), self.initrd];
        for range in &self.ram {
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
