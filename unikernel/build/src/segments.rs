//! Where an image's segments are loaded.
//!
//! The kernel is linked to run in the last 2 GiB of the address space, where Linux lets no program be. A hypervisor reads only the
//! physical addresses (`p_paddr`). So the virtual ones are set to the same: Linux maps the kernel where nobody
//! looks, and runs the app.

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64, SHF_ALLOC};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

/// From where the kernel is loaded to where it runs: `__kernel_offset` of `image.ld`.
pub(crate) const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// Where `p_vaddr` lies in a 64-bit program header.
const ADDRESS_FIELD: usize = 16;

type Segment = ProgramHeader64<LittleEndian>;

/// The first address behind all that is loaded of an image.
pub fn memory_end(file: &[u8]) -> Option<u64> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let segments = header.program_headers(LittleEndian, file).ok()?;
    let loaded = segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD);
    loaded.map(|it| it.p_paddr(LittleEndian).saturating_add(it.p_memsz(LittleEndian))).max()
}

/// Has the kernel's segments name the addresses at which they are loaded; false if the file has none.
pub(crate) fn lower(file: &mut [u8]) -> bool {
    let is_high = |segment: &Segment| segment.p_vaddr(LittleEndian) >= KERNEL_OFFSET;
    change(file, |segment| is_high(segment).then(|| segment.p_paddr(LittleEndian)))
}

/// Has the kernel's segments name the addresses at which it runs again, in a file that only debuggers read: they want each section within a segment. False if nothing is to be done.
pub fn raise(file: &mut [u8]) -> bool {
    let sections = kernel_sections(file).unwrap_or_default();
    change(file, |segment| {
        let start = segment.p_vaddr(LittleEndian);
        let end = start.saturating_add(segment.p_memsz(LittleEndian));
        let is_kernels = sections.iter().any(|section| (start..end).contains(&(section - KERNEL_OFFSET)));
        is_kernels.then(|| start.wrapping_add(KERNEL_OFFSET))
    })
}

/// Where the kernel's sections run that are in memory.
fn kernel_sections(file: &[u8]) -> Option<Vec<u64>> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let sections = header.sections(LittleEndian, file).ok()?;
    let in_memory =
        sections.iter().filter(|section| section.sh_flags(LittleEndian) & u64::from(SHF_ALLOC) != 0);
    let addresses = in_memory.map(|section| section.sh_addr(LittleEndian));
    Some(addresses.filter(|address| *address >= KERNEL_OFFSET).collect())
}

/// Has segments name other virtual addresses; false if none does.
fn change(file: &mut [u8], new_address: impl Fn(&Segment) -> Option<u64>) -> bool {
    let changes = changes(file, new_address).unwrap_or_default();
    for &(at, address) in &changes {
        file[at..at + 8].copy_from_slice(&address.to_le_bytes());
    }
    !changes.is_empty()
}

/// Where in the file addresses stand that have to change, and what they become.
fn changes(file: &[u8], new_address: impl Fn(&Segment) -> Option<u64>) -> Option<Vec<(usize, u64)>> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let segments = header.program_headers(LittleEndian, file).ok()?;
    let first = header.e_phoff(LittleEndian) as usize + ADDRESS_FIELD;
    let places = (first..).step_by(size_of::<Segment>());
    Some(places.zip(segments).filter_map(|(at, segment)| Some((at, new_address(segment)?))).collect())
}
