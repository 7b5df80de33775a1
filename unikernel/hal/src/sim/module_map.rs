//! Where modules are: in memory of the host, which is executable as it is on a machine. It is none of the machine's RAM. Code may be far from the
//! kernel's, so only position-independent objects can be linked.

use core::ops::Range;
use core::ptr;

use crate::arch::memory;
use crate::kmem::layout::PAGE_BYTES;
use crate::kmem::page_table::OutOfFrames;
use crate::module::Protection;

/// Where the first goes: far from where the host puts anything, and from the machine's RAM.
const BASE: u64 = 0x2000_0000_0000;
const WINDOW_BYTES: u64 = 64 << 20;

/// The lowest run of so many bytes between guard pages that none of `taken` (by ascending addresses) touches, and its place among them.
pub(crate) fn place(taken: &[Range<u64>], bytes: u64) -> Option<(usize, u64)> {
    let page = PAGE_BYTES as u64;
    let mut start = BASE + page;
    for (index, other) in taken.iter().enumerate() {
        if start + bytes + page <= other.start {
            return Some((index, start));
        }
        start = other.end + page;
    }
    (start + bytes + page <= BASE + WINDOW_BYTES).then_some((taken.len(), start))
}

/// Maps an image; see `x86`'s.
pub(crate) fn map(
    start: u64,
    image: &[u8],
    protection_of: impl Fn(usize) -> Protection,
) -> Result<(), OutOfFrames> {
    if memory::is_refused() {
        return Err(OutOfFrames);
    }
    let at = |offset: usize| ptr::with_exposed_provenance_mut(start as usize + offset);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, where none is replaced.
    let got = unsafe { libc::mmap(at(0), image.len(), writable, flags, -1, 0) };
    assert!(got.addr() == start as usize, "the host gives no memory at {start:#x}");
    // SAFETY: it is ours, and as long.
    unsafe { ptr::copy_nonoverlapping(image.as_ptr(), at(0).cast::<u8>(), image.len()) };
    for offset in (0..image.len()).step_by(PAGE_BYTES) {
        let protection = match protection_of(offset) {
            Protection::Code => libc::PROT_READ | libc::PROT_EXEC,
            Protection::ReadOnly => libc::PROT_READ,
            Protection::Data => writable,
        };
        // SAFETY: a page of ours, of which nobody has a reference.
        let outcome = unsafe { libc::mprotect(at(offset), PAGE_BYTES, protection) };
        assert!(outcome == 0, "the host does not let a page be what it is to be");
    }
    Ok(())
}

/// Unmaps what [`map`] has mapped.
///
/// # Safety
///
/// Nobody uses these addresses, and nobody will.
pub(crate) unsafe fn unmap(start: u64, bytes: u64) {
    // SAFETY: by the caller.
    unsafe { libc::munmap(ptr::with_exposed_provenance_mut(start as usize), bytes as usize) };
}
