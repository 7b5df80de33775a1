//! Memory for the heap.

use linux_raw_sys::general::*;

use super::raw::call;
use crate::Error;

/// Maps fresh, zeroed, private memory (mmap(2)); answers its address.
pub(crate) fn map(bytes: usize) -> Result<*mut u8, Error> {
    let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    // SAFETY: without MAP_FIXED the kernel chooses a range that nobody uses.
    unsafe { call!(__NR_mmap, 0, bytes, protection, flags, -1isize, 0) }.map(|address| address as *mut u8)
}
