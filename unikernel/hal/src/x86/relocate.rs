//! The kernel moves to a random place before anything else (KASLR): the boot stub (`arch::boot`) calls [`move_kernel`] while the kernel runs
//! where it was linked, and goes on at the new place. Only the virtual address changes; where the kernel is loaded stays.
//!
//! Code and data have absolute addresses, which the build has listed (`unikernel_elf::relocations`), and which are changed here.
//! Until `kernel_main` has left the old place, both show the same memory, so code that runs meanwhile may use addresses of either, and
//! must neither compare nor keep any: `kernel_main` begins anew.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_elf::relocations::{self, SLACK};
use unikernel_mm::kernel_place;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::structures::paging::page_table::PageTable;

use crate::boot_info::BootInfo;
use crate::kmem::layout::{self, KERNEL_AREA, LARGE_PAGE_BYTES, PAGE_BYTES, direct_address};
use crate::kmem::virt_to_phys;
use crate::platform::random;

/// Entries of a page table.
const ENTRIES: u64 = 512;
/// For the two last GiB.
const DIRECTORIES: usize = 2;
/// For the 16 MiB that `image.ld` allows the kernel, which need not begin with a table.
const LAST_LEVEL_TABLES: usize = 9;
const TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE);

/// What shows the kernel at both places until `kmem::page_table` has made the final tables, and later to cores that start.
#[repr(C, align(4096))]
struct BootTables {
    directories: UnsafeCell<[PageTable; DIRECTORIES]>,
    last_level: UnsafeCell<[PageTable; LAST_LEVEL_TABLES]>,
}

// SAFETY: `move_kernel` and `leave_old_place` alone write them, before there is a second core; then only processors read them.
unsafe impl Sync for BootTables {}

static BOOT_TABLES: BootTables = BootTables {
    directories: UnsafeCell::new([const { PageTable::new() }; DIRECTORIES]),
    last_level: UnsafeCell::new([const { PageTable::new() }; LAST_LEVEL_TABLES]),
};

/// The kernel did not move, as it should have.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// The boot page tables' pointers to the directories of the last 512 GiB.
    static mut boot_kernel_pdpt: PageTable;
    static __kernel_rodata_start: u8;
    static __kernel_rodata_end: u8;
    static __kernel_data_end: u8;
    static __kernel_relocations_start: u8;
    static __kernel_relocations_end: u8;
}

/// True if the table of addresses in this image is damaged, so that the kernel is where it was linked.
pub(super) fn has_failed() -> bool {
    HAS_FAILED.load(Ordering::Relaxed)
}

/// Prepares the kernel to run elsewhere: answers how far from here, which is nothing if the command line or an error says so.
///
/// # Safety
///
/// Called once, by the boot stub, with what the loader left in `ebx` and the number of a Multiboot2 loader, before any
/// other code of the kernel.
pub(super) unsafe extern "C" fn move_kernel(start_info: u32, magic: u32) -> u64 {
    // SAFETY: by the caller; the boot page tables are in force.
    let Ok(info) = (unsafe { BootInfo::read(start_info, magic) }) else { return 0 };
    if !info.moves_kernel() {
        return 0;
    }
    let (start, end) = (layout::kernel_start(), layout::kernel_bss_end());
    let old_place = large_pages(start..end);
    let random = random::before_all(info.raw_command_line());
    let Some(place) = kernel_place::choose(&KERNEL_AREA, &old_place, end - start, random) else { return 0 };
    let distance = place.wrapping_sub(start);
    // SAFETY: by the caller, nothing else runs; the places do not share a large page.
    unsafe { show_at(distance, old_place) };
    // Last: from here on, the kernel's addresses are those at either place.
    // SAFETY: as above.
    if unsafe { change_addresses(distance) }.is_ok() {
        distance
    } else {
        HAS_FAILED.store(true, Ordering::Relaxed);
        0
    }
}

/// The whole large pages around addresses.
fn large_pages(addresses: Range<u64>) -> Range<u64> {
    addresses.start & !(LARGE_PAGE_BYTES - 1)..addresses.end.next_multiple_of(LARGE_PAGE_BYTES)
}

/// The directory of the boot tables, and the entry in it, for an address in the last 2 GiB.
fn directory_entry(address: u64) -> (usize, usize) {
    let index = (address - layout::KERNEL_OFFSET) / LARGE_PAGE_BYTES;
    ((index / ENTRIES) as usize, (index % ENTRIES) as usize)
}

/// Has the boot page tables show the kernel's image at another place, too, each page as the final ones do.
///
/// # Safety
///
/// There is one core, which uses the stub's page tables and runs at `old_place`, and the new place does not touch that.
unsafe fn show_at(distance: u64, old_place: Range<u64>) {
    let physical = |address: u64| virt_to_phys(VirtAddr::new(address));
    let physical_table = |table: &PageTable| virt_to_phys(VirtAddr::from_ptr(table));
    // SAFETY: by the caller; this is called once, so nobody else has a reference.
    let directories = unsafe { &mut *BOOT_TABLES.directories.get() };
    // SAFETY: as above.
    let mut unused = unsafe { &mut *BOOT_TABLES.last_level.get() }.iter_mut();
    for at in old_place.step_by(LARGE_PAGE_BYTES as usize) {
        let (directory, entry) = directory_entry(at);
        directories[directory][entry].set_addr(physical(at), TABLE | Flags::HUGE_PAGE);
    }
    let mut table = None;
    for at in (layout::kernel_start()..layout::kernel_bss_end()).step_by(PAGE_BYTES) {
        let new = VirtAddr::new(at.wrapping_add(distance));
        if table.is_none() || u64::from(new.p1_index()) == 0 {
            table = unused.next();
            let (directory, entry) = directory_entry(new.as_u64());
            let table = table.as_deref().expect("`image.ld` sees that there are enough tables");
            directories[directory][entry].set_addr(physical_table(table), TABLE);
        }
        if let Some(table) = &mut table {
            table[new.p1_index()].set_addr(physical(at), layout::kernel_page_flags(at));
        }
    }
    // SAFETY: the stub's; by the caller nobody else uses it but the processor, for which what is shown at the old place
    // does not change.
    let pointers = unsafe { (&raw mut boot_kernel_pdpt).as_mut_unchecked() };
    for (index, directory) in directories.iter().enumerate() {
        pointers[512 - DIRECTORIES + index].set_addr(physical_table(directory), TABLE);
    }
    tlb::flush_all();
}

/// Adds `distance` to the addresses in the kernel's code and data.
///
/// # Safety
///
/// No other code of the kernel runs, none that ran has kept a reference to its data, and both places are shown.
unsafe fn change_addresses(distance: u64) -> Result<(), relocations::Damaged> {
    // What is read-only, what runs, and the kernel's statics: all are changed where the direct map shows them. (The processor would
    // go on with old instructions until the stub changes the page tables; these do what the new ones do.)
    let shown = |address: u64| direct_address(VirtAddr::new(address));
    let words = |start: u64, end: u64| {
        // SAFETY: `image.ld` names both ends, the first is aligned to words (the build checks it), and by the caller
        // nobody else uses what is between.
        unsafe { slice::from_raw_parts_mut(shown(start).as_mut_ptr::<u64>(), (end - start) as usize / 8) }
    };
    let rodata = words((&raw const __kernel_rodata_start) as u64, (&raw const __kernel_rodata_end) as u64);
    let data = words(layout::kernel_data_start(), (&raw const __kernel_data_end) as u64);
    let text = layout::kernel_text_start()..layout::kernel_text_end();
    // SAFETY: `image.ld` names both ends; the code is changed only here.
    let code = unsafe {
        slice::from_raw_parts_mut(shown(text.start).as_mut_ptr::<u8>(), (text.end - text.start) as usize)
    };
    let table = &raw const __kernel_relocations_start;
    let table_bytes = (&raw const __kernel_relocations_end) as usize - table as usize;
    // SAFETY: `image.ld` names both ends, and nobody ever writes between.
    let table = unsafe { slice::from_raw_parts(table, table_bytes) };
    let linked = layout::kernel_start() - SLACK..=layout::kernel_bss_end() + SLACK;
    relocations::apply(table, [rodata, data], code, &linked, distance)
}

/// Takes the old place away, if the kernel has moved: an address that somebody has kept from there faults at once.
///
/// # Safety
///
/// There is one core; it uses the boot page tables, and the kernel runs at its place.
pub(super) unsafe fn leave_old_place() {
    let distance = layout::kernel_distance();
    if distance == 0 {
        return;
    }
    let linked = |address: u64| address.wrapping_sub(distance);
    let old_place = large_pages(linked(layout::kernel_start())..linked(layout::kernel_bss_end()));
    // SAFETY: by the caller; nobody has another reference.
    let directories = unsafe { &mut *BOOT_TABLES.directories.get() };
    for at in old_place.step_by(LARGE_PAGE_BYTES as usize) {
        let (directory, entry) = directory_entry(at);
        directories[directory][entry].set_unused();
    }
    tlb::flush_all();
}
