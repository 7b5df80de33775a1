//! PVH start info (Xen's "direct boot" ABI).

use pvh::start_info::reader::{IdentityMap, StartInfoReader};
use pvh::start_info::{MemmapType, ModlistEntry, StartInfo};
use unikernel_machine::multiboot2::{MemoryEntry, MemoryKind};
use x86_64::PhysAddr;

use super::{BootInfo, NoStartInfo, Range, RootPointer};

/// Reads the start info at a physical address.
///
/// # Safety
///
/// `address` is what the loader left in `ebx`, and the boot page tables (identity map of the
/// first GiB) are in force.
pub(super) unsafe fn read(address: u32) -> Result<BootInfo, NoStartInfo> {
    // SAFETY: by the caller; the PVH ABI promises valid physical addresses, and loaders put
    // these structures below 1 GiB.
    let start_info = unsafe { StartInfoReader::<IdentityMap>::from_paddr_identity(address) };
    let start_info = start_info.ok_or(NoStartInfo::Pvh)?;
    let mut info = BootInfo::new();
    info.add_memory(start_info.memmap().iter().map(|entry| MemoryEntry {
        start: entry.addr,
        end: entry.addr.saturating_add(entry.size),
        kind: match entry.ty() {
            MemmapType::Ram => MemoryKind::Ram,
            MemmapType::Acpi | MemmapType::Nvs => MemoryKind::Tables,
            _ => MemoryKind::Reserved,
        },
    }));
    if info.ram.runs().is_empty() {
        return Err(NoStartInfo::Pvh);
    }
    // SAFETY: by the caller, as above.
    info.initrd = unsafe { first_module(start_info.raw()) };
    info.set_command_line(start_info.cmdline().map_or(&[][..], core::ffi::CStr::to_bytes));
    if start_info.raw().rsdp_paddr != 0 {
        info.rsdp = RootPointer::At(PhysAddr::new_truncate(start_info.raw().rsdp_paddr));
    }
    Ok(info)
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
