//! Names for addresses. After the link, the build crate writes a table of both halves' functions
//! and the program's name into the last, read-only segment of the image; `unikernel_report::symbols` reads it.

use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_report::symbols::{HEADER_BYTES, Symbol, Table};
use x86_64::{PhysAddr, VirtAddr};

use crate::kmem::layout::{self, KERNEL_OFFSET, USER_END};
use crate::kmem::{phys_to_virt, virt_to_phys};

unsafe extern "C" {
    static __kernel_symbols_start: u64;
}

/// Bytes of the table, for whoever has to keep it; 0 in an image whose build added none.
pub fn table_bytes() -> u64 {
    // SAFETY: the second word is there in every image (`image.ld`), and the direct map shows it. It is written after the
    // compiler has seen it, hence volatile.
    unsafe { shown().cast::<u64>().add(1).read_volatile() }
}

/// Physical address of the table: it is not part of the kernel's image as that is mapped, since it may be large.
pub fn table_address() -> PhysAddr {
    virt_to_phys(VirtAddr::from_ptr(&raw const __kernel_symbols_start))
}

fn shown() -> *const u8 {
    phys_to_virt(table_address()).as_ptr()
}

/// How far the app runs from the addresses of the table; [`UNKNOWN`] if it is another program than the image's.
static APP_BIAS: AtomicU64 = AtomicU64::new(UNKNOWN);
/// No program runs so far from its addresses.
const UNKNOWN: u64 = u64::MAX;

/// The image's program runs so far from its own addresses.
pub fn set_app_bias(bias: u64) {
    APP_BIAS.store(bias, Ordering::Relaxed);
}

/// The image's program is gone.
pub fn forget_app() {
    APP_BIAS.store(UNKNOWN, Ordering::Relaxed);
}

/// The function around `address`, if the image has a table and the address lies in code.
pub fn find(address: u64) -> Option<Symbol<'static>> {
    if address >= USER_END {
        // Modules are beside it.
        if !(layout::kernel_start()..layout::kernel_bss_end()).contains(&address) {
            return None;
        }
        let distance = layout::kernel_distance();
        let linked = Some(address.wrapping_sub(distance)).filter(|&linked| linked >= KERNEL_OFFSET)?;
        let symbol = table()?.find(linked)?;
        return Some(Symbol { start: symbol.start.wrapping_add(distance), ..symbol });
    }
    let bias = Some(APP_BIAS.load(Ordering::Relaxed)).filter(|&bias| bias != UNKNOWN)?;
    let symbol = table()?.find(address.checked_sub(bias)?)?;
    Some(Symbol { start: symbol.start + bias, ..symbol })
}

/// The table, if the build added one.
pub fn table() -> Option<Table<'static>> {
    let bytes = table_bytes() as usize;
    if bytes < HEADER_BYTES {
        return None;
    }
    // SAFETY: the build wrote the table and its size; the direct map shows it, and nobody writes it.
    let table = unsafe { core::slice::from_raw_parts(shown(), bytes) };
    Table::parse(table)
}
