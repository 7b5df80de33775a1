//! A Multiboot2 loader's block of tags.

use unikernel_machine::multiboot2::{HEADER_BYTES, Tag, block_bytes, tags};

use super::{BootInfo, NoStartInfo, RSDP_BYTES, Range, RootPointer};

/// A loader tells some kilobytes; a larger block is none.
const MAX_BLOCK_BYTES: usize = 1 << 20;
/// What the boot page tables show.
const BOOT_MAP_END: u64 = 1 << 32;
/// What stands behind the name of the file with more of the command line.
const WORDS_FILE: &[u8] = b"cmdline";

/// Reads the block at a physical address.
///
/// # Safety
///
/// `address` is what the loader left in `ebx`, and the boot page tables (identity map of the first 4 GiB) are in force.
pub(super) unsafe fn read(address: u32) -> Result<BootInfo, NoStartInfo> {
    let damaged = NoStartInfo::Multiboot2;
    if address == 0 || u64::from(address) + MAX_BLOCK_BYTES as u64 > BOOT_MAP_END {
        return Err(damaged);
    }
    let start = address as usize as *const u8;
    // SAFETY: by the caller; it is mapped, and nobody writes it.
    let bytes = block_bytes(unsafe { &*start.cast::<[u8; HEADER_BYTES]>() });
    if bytes > MAX_BLOCK_BYTES {
        return Err(damaged);
    }
    // SAFETY: as above. What the loader names is RAM; other memory could be read as well.
    let block = unsafe { core::slice::from_raw_parts(start, bytes) };
    let mut info = BootInfo::new();
    for tag in tags(block) {
        take(&mut info, tag.map_err(|_| NoStartInfo::Multiboot2)?);
    }
    let files = [info.initrd, info.words_file];
    let is_in_ram = |file: Range| info.ram.covers(&(file.start..file.end));
    if info.ram.runs().is_empty() || !files.into_iter().flatten().all(is_in_ram) {
        return Err(damaged);
    }
    Ok(info)
}

fn take(info: &mut BootInfo, tag: Tag<'_>) {
    match tag {
        Tag::CommandLine(line) => info.set_command_line(line),
        // Nothing is to be read in an empty file.
        Tag::Module { start, end, words } if start != end => {
            let file = Range { start: start.into(), end: end.into() };
            let place = if words == WORDS_FILE { &mut info.words_file } else { &mut info.initrd };
            place.get_or_insert(file);
        }
        Tag::MemoryMap(map) if info.ram.runs().is_empty() => info.add_memory(map.entries()),
        Tag::Rsdp { bytes, is_extended } if is_extended || matches!(info.rsdp, RootPointer::Unknown) => {
            let mut copy = [0; RSDP_BYTES];
            let len = bytes.len().min(RSDP_BYTES);
            copy[..len].copy_from_slice(&bytes[..len]);
            info.rsdp = RootPointer::Copy(copy);
        }
        _ => {}
    }
}
