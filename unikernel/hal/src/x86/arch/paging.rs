//! Which page tables this core uses, and what it remembers of them.

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

/// Where the root of the page tables is.
#[inline]
pub fn root() -> PhysAddr {
    Cr3::read().0.start_address()
}

/// Uses other page tables from here on.
///
/// # Safety
///
/// They map the running code, its stack and all that it reaches, as before or with less permission.
pub unsafe fn set_root(root: PhysAddr) {
    // SAFETY: by the caller.
    unsafe { Cr3::write(PhysFrame::containing_address(root), Cr3Flags::empty()) };
}

/// Makes this core forget the translation of one page.
#[inline]
pub fn forget(page: VirtAddr) {
    x86_64::instructions::tlb::flush(page);
}
