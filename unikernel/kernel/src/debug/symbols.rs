//! Names for addresses. After the link, the build crate writes a table of both halves' functions
//! into the last, read-only segment of the image (`unikernel/build/src/symbols.rs`).
//!
//! The table: the count of functions and the table's bytes, as 64-bit words; addresses, ascending, 32 bits each;
//! where each name ends in the text, 32 bits each; the text. A count of zero is an image whose
//! build did not add the table, and everything works without names.

unsafe extern "C" {
    static __kernel_symbols_start: u64;
}

/// Bytes of the table, for whoever has to keep it.
pub fn table_bytes() -> u64 {
    // SAFETY: the second word is there in every image (`image.ld`); volatile as below.
    unsafe { (&raw const __kernel_symbols_start).add(1).read_volatile() }
}

/// Where the table begins.
pub fn table_start() -> u64 {
    (&raw const __kernel_symbols_start) as u64
}

/// A function, and how far into it an address lies.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// Its demangled name.
    pub name: &'static str,
    /// Bytes from its start.
    pub offset: u64,
}

fn words(skip: usize, count: usize) -> &'static [u32] {
    let base = (&raw const __kernel_symbols_start).cast::<u32>();
    // SAFETY: the segment begins with a 64-bit count, followed by what the count says; the build
    // wrote both, and the segment is read-only.
    unsafe { core::slice::from_raw_parts(base.add(4 + skip), count) }
}

/// The function around `address`, if the image has a table and the address lies in code.
pub fn find(address: u64) -> Option<Symbol> {
    // SAFETY: the word is there in every image (`image.ld`). It is written after the compiler has
    // seen it, hence volatile.
    let count = unsafe { (&raw const __kernel_symbols_start).read_volatile() } as usize;
    let (addresses, ends) = (words(0, count), words(count, count));
    let index = addresses.partition_point(|&start| u64::from(start) <= address).checked_sub(1)?;
    let begin = if index == 0 { 0 } else { ends[index - 1] as usize };
    let text = words(2 * count, 0).as_ptr().cast::<u8>();
    // SAFETY: names lie behind the two arrays, up to the last end.
    let name = unsafe { core::slice::from_raw_parts(text.add(begin), ends[index] as usize - begin) };
    let offset = address - u64::from(addresses[index]);
    // An empty name marks the end of a run of code.
    if name.is_empty() { None } else { Some(Symbol { name: core::str::from_utf8(name).ok()?, offset }) }
}
