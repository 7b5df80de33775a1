//! The map of the one address space.
//!
//! ```text
//!            0 .. 2 MiB                      never mapped (null pointers and friends)
//!        2 MiB .. __app_end                  the app's image, user pages
//!     (2 MiB aligned) __kernel_start ..      the kernel's image, supervisor pages
//!         after the image ..                 brk
//!                  .. 0x7fff_ffff_f000       mmap, growing down; the first stack at the top
//!  0xffff_8000_0000_0000 ..                  all RAM, once, supervisor, not executable
//!  0xffff_c000_0000_0000 ..                  kernel stacks between guard pages
//!  0xffff_d000_0000_0000 ..                  device registers, uncached
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::{PhysAddr, VirtAddr};

use crate::debug::symbols;

/// Bytes in a small page.
pub const PAGE_BYTES: usize = 4096;
/// Bytes in a large page.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Where physical address 0 appears in the direct map.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Where kernel stacks are mapped.
pub const STACKS_BASE: u64 = 0xffff_c000_0000_0000;
/// Where device registers are mapped.
pub const MMIO_BASE: u64 = 0xffff_d000_0000_0000;

unsafe extern "C" {
    static __image_start: u8;
    static __kernel_start: u8;
    static __kernel_text_start: u8;
    static __kernel_text_end: u8;
    static __kernel_data_start: u8;
    static __kernel_bss_end: u8;
}

macro_rules! section_address {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name() -> u64 {
            (&raw const $symbol) as u64
        })*
    };
}

section_address! {
    /// First byte of the image: its ELF header.
    image_start = __image_start;
    /// First byte of the kernel's half.
    kernel_start = __kernel_start;
    /// First byte of the kernel's code.
    kernel_text_start = __kernel_text_start;
    /// One past the kernel's code.
    kernel_text_end = __kernel_text_end;
    /// First byte of the kernel's writable data.
    kernel_data_start = __kernel_data_start;
    /// One past the kernel's writable data; the symbols follow it.
    kernel_bss_end = __kernel_bss_end;
}

/// One past the image; set by [`init`], since the build adds the symbols after the link.
static IMAGE_END: AtomicU64 = AtomicU64::new(0);

/// Measures the image. Call before anything else here is used.
pub fn init() {
    let end = symbols::table_start() + symbols::table_bytes().max(1);
    IMAGE_END.store(page_up(end), Ordering::Relaxed);
}

/// One past the image, and so past the kernel's half: its last segment holds the symbols.
#[inline]
pub fn image_end() -> u64 {
    IMAGE_END.load(Ordering::Relaxed)
}

/// Where the direct map shows a physical address.
#[inline]
pub fn phys_to_virt(address: PhysAddr) -> VirtAddr {
    VirtAddr::new(DIRECT_MAP_BASE + address.as_u64())
}

/// The physical address behind the kernel's image or the direct map.
#[inline]
pub fn virt_to_phys(address: VirtAddr) -> PhysAddr {
    let address = address.as_u64();
    PhysAddr::new(if address >= DIRECT_MAP_BASE { address - DIRECT_MAP_BASE } else { address })
}

/// True if `[start, end)` touches the kernel's half of the image.
#[inline]
pub fn overlaps_kernel(start: u64, end: u64) -> bool {
    start < image_end() && end > kernel_start()
}

/// True if `address` is in the kernel's writable data.
pub fn is_kernel_writable(address: u64) -> bool {
    (kernel_data_start()..kernel_bss_end()).contains(&address)
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
