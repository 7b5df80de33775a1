//! Names for addresses. After the link, the build crate writes a table of both halves' functions
//! and the program's name into the last, read-only segment of the image; `unikernel_report::symbols` reads it.

use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_report::symbols::{HEADER_BYTES, Symbol, Table};

use crate::mem::user::USER_END;

unsafe extern "C" {
    static __kernel_symbols_start: u64;
}

/// Bytes of the table, for whoever has to keep it; 0 in an image whose build added none.
pub fn table_bytes() -> u64 {
    // SAFETY: the second word is there in every image (`image.ld`). It is written after the compiler
    // has seen it, hence volatile.
    unsafe { (&raw const __kernel_symbols_start).add(1).read_volatile() }
}

/// Where the table begins.
pub fn table_start() -> u64 {
    (&raw const __kernel_symbols_start) as u64
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
        return table()?.find(address);
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
    let start = (&raw const __kernel_symbols_start).cast::<u8>();
    // SAFETY: the build wrote the table and its size; the segment is mapped and read-only.
    let table = unsafe { core::slice::from_raw_parts(start, bytes) };
    Table::parse(table)
}
