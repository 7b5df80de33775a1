//! The kernel's memory: who has which frame, and what is mapped where in the upper half.
//!
//! - [`layout`]: the map of the one address space, and the image's own sections; [`symbols`]: their names for addresses;
//! - [`frames`]: physical frames; [`heap`]: the kernel's `alloc`, in front of them, with `slab` for small
//!   objects; [`room`]: whether there is memory for one more of the app's objects;
//! - [`page_table`]: the one set of page tables; [`kernel_map`]: stacks and MMIO.

pub mod frames;
pub mod heap;
pub mod layout;
pub mod page_table;
pub mod room;
mod slab;

pub use crate::machine::{kernel_map, symbols};
pub use kernel_map::map_mmio;
pub use layout::{DIRECT_MAP_BASE, PAGE_BYTES, phys_to_virt, virt_to_phys};

use spin::Once;
use unikernel_machine::ram::Ram;
use x86_64::PhysAddr;

use crate::boot_info::{BootInfo, MAX_RANGES};

/// What the boot page tables show, whoever loads the kernel.
pub const BOOT_MAP_END: u64 = 1 << 30;

/// What the loader called RAM.
static RAM: Once<Ram<MAX_RANGES>> = Once::new();

/// True if there is RAM in `[start, end)`, or if nobody knows yet.
pub(crate) fn has_ram_in(start: u64, end: u64) -> bool {
    RAM.get().is_none_or(|ram| ram.runs().iter().any(|run| start < run.end && run.start < end))
}

/// Takes over the machine's memory: frames, the kernel's heap, the final page tables.
///
/// # Panics
///
/// If there is too little memory for the page tables.
pub fn init(info: &BootInfo) {
    RAM.call_once(|| info.ram.clone());
    let end = info.tables_end.min(page_table::DIRECT_MAP_BYTES);
    let frames_bytes = frames::table_bytes(end);
    let table_bytes = frames_bytes + slab::table_bytes(end);
    // Only what the boot tables map can be touched before the final ones are in force.
    let mut table = None;
    info.for_each_free(|start, end| {
        let fits = start + table_bytes <= end.min(BOOT_MAP_END);
        table = table.or(fits.then_some(start));
    });
    let table = table.expect("memory for the tables of frames");
    // SAFETY: this is RAM that nobody uses, and below it is kept from the frames.
    unsafe {
        frames::init(PhysAddr::new(table), end);
        slab::init(PhysAddr::new(table + frames_bytes));
    }
    info.for_each_free(|start, end| {
        let start = if start == table { start + table_bytes } else { start };
        add(start, end.min(BOOT_MAP_END));
    });
    page_table::init(PhysAddr::new(end)).expect("memory for the page tables");
    info.for_each_free(|start, end| add(start.max(BOOT_MAP_END), end.min(page_table::DIRECT_MAP_BYTES)));
    frames::set_last_resort_aside();
}

fn add(start: u64, end: u64) {
    if start < end {
        // SAFETY: `for_each_free` names RAM that is neither image nor initrd nor the loader's,
        // page-aligned, each run once (`init` cuts it in two disjoint parts), and mapped.
        unsafe { frames::add(PhysAddr::new(start), PhysAddr::new(end)) };
    }
}
