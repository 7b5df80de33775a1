//! What the loader put into memory besides the kernel: a program, whose pages become the app's.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::PhysAddr;

use crate::kmem::layout::{self, page_down, page_up, phys_to_virt};

/// Set when the first page of the app's has been taken away: the image's frames may be anybody's from then on.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// A page of the app's was taken away.
#[inline]
pub(crate) fn end() {
    IS_OVER.store(true, Ordering::Relaxed);
}

/// True if the bytes are in the image, which is still where the loader put it.
fn is_there(start: u64, len: usize) -> bool {
    let image = page_down(layout::image_start())..page_up(layout::image_end());
    let end = start.checked_add(len as u64);
    !IS_OVER.load(Ordering::Relaxed) && start >= image.start && end.is_some_and(|end| end <= image.end)
}

/// True if the bytes of a page are in the image, and not the kernel's.
pub(crate) fn is_programs(start: u64, len: usize) -> bool {
    let last = start + (len as u64).saturating_sub(1);
    is_there(start, len) && !layout::is_kernel_loaded_at(start) && !layout::is_kernel_loaded_at(last)
}

/// Copies bytes of the image; `None` if there are none, or the app has given pages back already.
///
/// It cannot be misused: only the image is read, and what is read is copied. Whoever writes it meanwhile, as the app, can make the copy
/// nonsense.
pub fn read(start: u64, len: usize) -> Option<Vec<u8>> {
    if !is_there(start, len) {
        return None;
    }
    let shown: *const u8 = phys_to_virt(PhysAddr::new(start)).as_ptr();
    // SAFETY: the loader put the image into memory, and the direct map shows it. Volatile: the app may have its pages already.
    Some((0..len).map(|at| unsafe { shown.add(at).read_volatile() }).collect())
}

/// Sets bytes of a page of the image to zero that no segment has.
///
/// It cannot be misused: only what is not the kernel's is written.
///
/// # Panics
///
/// If the bytes are not in one page of the image, or some are the kernel's, or the app has given pages back already.
pub fn clear(start: u64, len: usize) {
    if len == 0 {
        return;
    }
    let last = start + (len as u64 - 1);
    let is_in_page = page_down(start) == page_down(last);
    assert!(is_in_page && is_programs(start, len), "not the program's to clear: {start:#x}");
    // SAFETY: part of a page of the image, which the direct map shows, and where the kernel has nothing: no Rust value is there.
    unsafe { phys_to_virt(PhysAddr::new(start)).as_mut_ptr::<u8>().write_bytes(0, len) };
}
