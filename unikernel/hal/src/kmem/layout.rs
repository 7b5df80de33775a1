//! The map of the one address space.
//!
//! ```text
//!            0 .. 64 KiB                     never mapped (null pointers and friends)
//!        2 MiB .. __app_end                  the linked app's image, where it is loaded
//!        after the image ..                  brk
//!                  .. 0x7fff_ffff_f000       mmap, growing down; the first stack at the top
//!
//!  0xffff_8000_0000_0000 ..                  all RAM, once, supervisor, not executable
//!  0xffff_c000_0000_0000 ..                  kernel stacks between guard pages
//!  0xffff_d000_0000_0000 ..                  device registers, uncached
//!  0xffff_ffff_8000_0000 ..                  the kernel's image, at a random page; with `kaslr=off`, as it is linked, by its
//!                                            physical address
//! ```
//!
//! All of the lower half is the app's: user pages. All of the upper half is the kernel's: supervisor pages.

use x86_64::{PhysAddr, VirtAddr};

pub use crate::machine::image::*;

/// Bytes in a small page.
pub const PAGE_BYTES: usize = 4096;
/// Bytes in a large page.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// One past the highest address an app may use: the last page below the non-canonical hole stays
/// unmapped, so that no `syscall` instruction can end at its edge (SDM Vol. 2, SYSRET).
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// Where kernel stacks are mapped.
pub const STACKS_BASE: u64 = 0xffff_c000_0000_0000;
/// Where device registers are mapped.
pub const MMIO_BASE: u64 = 0xffff_d000_0000_0000;

/// Where the direct map shows a physical address.
#[inline]
pub fn phys_to_virt(address: PhysAddr) -> VirtAddr {
    VirtAddr::new(DIRECT_MAP_BASE + address.as_u64())
}

/// Where the direct map shows what lies in the kernel's image.
pub fn direct_address(address: VirtAddr) -> VirtAddr {
    phys_to_virt(virt_to_phys(address))
}

/// Rounds up to a page boundary (saturating at the top).
pub const fn page_up(address: u64) -> u64 {
    match address.checked_add(PAGE_BYTES as u64 - 1) {
        Some(sum) => page_down(sum),
        None => page_down(u64::MAX),
    }
}

/// Rounds down to a page boundary.
pub const fn page_down(address: u64) -> u64 {
    address & !(PAGE_BYTES as u64 - 1)
}
