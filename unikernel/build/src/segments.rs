//! Where an image's segments are loaded.
//!
//! The kernel is linked to run in the last 2 GiB of the address space, where Linux lets no program be. A hypervisor reads only the
//! physical addresses (`p_paddr`). So the virtual ones are set to the same: Linux maps the kernel where nobody
//! looks, and runs the app.

use object::LittleEndian;
use object::elf::{FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// From where the kernel is loaded to where it runs: `__kernel_offset` of `image.ld`.
pub(crate) const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// Where `p_vaddr` lies in a 64-bit program header.
const ADDRESS_FIELD: usize = 16;

/// Has the kernel's segments name the addresses at which they are loaded; false if the file has none.
pub(crate) fn lower(file: &mut [u8]) -> bool {
    let changes = changes(file).unwrap_or_default();
    for &(at, address) in &changes {
        file[at..at + 8].copy_from_slice(&address.to_le_bytes());
    }
    !changes.is_empty()
}

/// Where in the file addresses stand that have to change, and what they become.
fn changes(file: &[u8]) -> Option<Vec<(usize, u64)>> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let segments = header.program_headers(LittleEndian, file).ok()?;
    let first = header.e_phoff(LittleEndian) as usize + ADDRESS_FIELD;
    let places = (first..).step_by(size_of::<ProgramHeader64<LittleEndian>>());
    let all = places.zip(segments);
    let high = all.filter(|(_, segment)| segment.p_vaddr(LittleEndian) >= KERNEL_OFFSET);
    Some(high.map(|(at, segment)| (at, segment.p_paddr(LittleEndian))).collect())
}
