//! The app's program as a file, which `/proc/self/exe` leads to: libraries look for their symbols in it (a
//! panic's backtrace), and for other files beside it.
//!
//! A hypervisor loads segments and keeps no file, so the file is made when it is opened: the app's segments as
//! they lie in memory, and behind them the functions that the build's table names ([`symbols`]) as an ELF symbol
//! table. There are no line numbers. The kernel's segments are left out, and their headers void.

use alloc::sync::{Arc, Weak};

use linux_raw_sys::elf_uapi::elf64_hdr;
use spin::Once;
use unikernel_elf::Segment;
use unikernel_report::symbols::Symbol;

use super::memory_file::MemoryFile;
use crate::abi::Errno;
use crate::kmem::layout::{KERNEL_OFFSET, page_down};
use crate::kmem::symbols;
use crate::mem::space::PageSource;
use crate::mem::user::UserSlice;
use crate::process::linked::{self, Linked};
use crate::process::program;
use crate::sync::SpinLock;

const SYMBOL_BYTES: u64 = 24;
const SECTION_BYTES: u64 = 64;
/// None, `.text`, `.symtab` and `.strtab`.
const SECTIONS: u64 = 4;
const STRING_SECTION: u16 = 3;
/// The names of the sections, at the start of the strings: at 1, 7 and 15.
const SECTION_NAMES: &[u8] = b"\0.text\0.symtab\0.strtab\0";
/// A global function (`STB_GLOBAL`, `STT_FUNC`).
const GLOBAL_FUNCTION: u8 = 0x12;
/// Where a header of the ELF file says where sections are, and how many.
const SECTIONS_FIELD: u64 = core::mem::offset_of!(elf64_hdr, e_shoff) as u64;
const SECTION_COUNTS_FIELD: u64 = core::mem::offset_of!(elf64_hdr, e_shentsize) as u64;

/// The length of the file.
pub(crate) fn size() -> u64 {
    layout().end
}

/// Where in the file the byte of an address is; `None` if it is not from there.
pub(crate) fn offset_of(address: u64) -> Option<u64> {
    let address = address.wrapping_sub(linked::linked()?.bias);
    let segment = segments().find(|segment| {
        (page_down(segment.address)..segment.address + segment.file_bytes).contains(&address)
    })?;
    Some(page_down(segment.offset) + (address - page_down(segment.address)))
}

/// While somebody has it open.
static OPENED: SpinLock<Weak<MemoryFile>> = SpinLock::new(Weak::new());

/// The file; `ENOMEM` if there is no memory for it. Who opens it while it is open shares it.
pub(crate) fn open() -> Result<Arc<MemoryFile>, Errno> {
    if let Some(file) = OPENED.lock().upgrade() {
        return Ok(file);
    }
    let file = build()?;
    *OPENED.lock() = Arc::downgrade(&file);
    Ok(file)
}

/// Where the parts behind the segments begin.
#[derive(Clone, Copy)]
struct Layout {
    sections: u64,
    symbols: u64,
    strings: u64,
    end: u64,
}

fn layout() -> Layout {
    static LAYOUT: Once<Layout> = Once::new();
    *LAYOUT.call_once(|| {
        let (count, names) = functions().fold((0, 0), |(count, names), (symbol, _)| {
            (count + 1, names + symbol.name.text().as_str().len() as u64 + 1)
        });
        let sections = segments().map(|segment| segment.offset + segment.file_bytes).max().unwrap_or(0);
        let sections = sections.next_multiple_of(8);
        let symbols = sections + SECTIONS * SECTION_BYTES;
        let strings = symbols + (1 + count) * SYMBOL_BYTES;
        Layout { sections, symbols, strings, end: strings + SECTION_NAMES.len() as u64 + names }
    })
}

fn segments() -> impl Iterator<Item = &'static Segment> {
    linked::linked().into_iter().flat_map(|linked| &linked.program.segments)
}

fn functions() -> impl Iterator<Item = (Symbol<'static>, u64)> {
    let all = symbols::table().into_iter().flat_map(|table| table.functions());
    all.take_while(|(symbol, _)| symbol.start < KERNEL_OFFSET)
}

/// True for the pages of this file.
pub(crate) fn is_shown_by(pages: &dyn PageSource) -> bool {
    OPENED.lock().upgrade().is_some_and(|file| pages.identity() == file.identity())
}

fn build() -> Result<Arc<MemoryFile>, Errno> {
    if !program::runs_image() {
        // Another program is at these addresses.
        return Err(Errno::EIO);
    }
    let linked = linked::linked().ok_or(Errno::ENOENT)?;
    let file = MemoryFile::empty();
    for segment in &linked.program.segments {
        let bytes = segment.file_bytes as usize;
        let from = UserSlice::new(segment.address.wrapping_add(linked.bias), bytes);
        match file.write(segment.offset, from) {
            Ok(_) => {}
            Err(Errno::ENOSPC) => return Err(Errno::ENOMEM),
            // What the app has unmapped is a hole.
            Err(_) => {}
        }
    }
    let is_whole = put_headers(&file, linked) && put_symbols(&file);
    if is_whole { Ok(file) } else { Err(Errno::ENOMEM) }
}

/// The sections' headers, and what the file's header says of them.
fn put_headers(file: &MemoryFile, linked: &Linked) -> bool {
    let Layout { sections, symbols, strings, end } = layout();
    let text = segments().find(|segment| segment.is_executable);
    let text = text.map_or([0; 3], |text| [text.address, text.offset, text.file_bytes]);
    // Name and type; flags; address, offset and size; link and information; alignment; bytes of an entry.
    let words: [[u64; 8]; SECTIONS as usize] = [
        [0; 8],
        [1 | 1 << 32, 6, text[0], text[1], text[2], 0, 16, 0],
        [7 | 2 << 32, 0, 0, symbols, strings - symbols, 3 | 1 << 32, 8, SYMBOL_BYTES],
        [15 | 3 << 32, 0, 0, strings, end - strings, 0, 1, 0],
    ];
    let mut at = sections;
    for word in words.as_flattened() {
        if !file.put(at, &word.to_le_bytes()) {
            return false;
        }
        at += 8;
    }
    let counts = [SECTION_BYTES as u16, SECTIONS as u16, STRING_SECTION].map(u16::to_le_bytes);
    file.put(0, &linked.header)
        && file.put(linked.table_offset, &linked.table)
        && file.put(SECTIONS_FIELD, &sections.to_le_bytes())
        && file.put(SECTION_COUNTS_FIELD, counts.as_flattened())
}

fn put_symbols(file: &MemoryFile) -> bool {
    let Layout { symbols, strings, .. } = layout();
    // The first symbol is none.
    let (mut symbol_at, mut name_at) = (symbols + SYMBOL_BYTES, strings + SECTION_NAMES.len() as u64);
    file.put(symbols, &[0; SYMBOL_BYTES as usize])
        && file.put(strings, SECTION_NAMES)
        && functions().all(|(function, bytes)| {
            let mut symbol = [0; SYMBOL_BYTES as usize];
            symbol[..4].copy_from_slice(&((name_at - strings) as u32).to_le_bytes());
            symbol[4] = GLOBAL_FUNCTION;
            // In the first section.
            symbol[6] = 1;
            symbol[8..16].copy_from_slice(&function.start.to_le_bytes());
            symbol[16..].copy_from_slice(&bytes.to_le_bytes());
            let text = function.name.text();
            let name = text.as_str();
            let is_put = file.put(symbol_at, &symbol)
                && file.put(name_at, name.as_bytes())
                && file.put(name_at + name.len() as u64, &[0]);
            symbol_at += SYMBOL_BYTES;
            name_at += name.len() as u64 + 1;
            is_put
        })
}
