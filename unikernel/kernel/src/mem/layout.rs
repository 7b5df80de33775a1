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
//!  0xffff_ffff_8000_0000 ..                  the kernel's image, by its physical address
//! ```
//!
//! All of the lower half is the app's: user pages. All of the upper half is the kernel's: supervisor pages.

use core::ops::Range;
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
/// Where physical address 0 would appear for the kernel's image: `__kernel_offset` of `image.ld`.
pub const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;

unsafe extern "C" {
    static __image_start: u8;
    static __kernel_load_start: u8;
    static __kernel_start: u8;
    static __kernel_text_start: u8;
    static __kernel_text_end: u8;
    static __kernel_data_start: u8;
    static __kernel_bss_end: u8;
    static __kernel_contents: [u64; 6];
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
    /// Physical address of the image's first byte, its ELF header.
    image_start = __image_start;
    /// Physical address of the kernel's first byte, behind the app's half of the image.
    kernel_load_start = __kernel_load_start;
    /// First byte of the kernel.
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

/// One past the kernel; set by [`init`], since the build adds the symbols after the link.
static KERNEL_END: AtomicU64 = AtomicU64::new(0);

/// Measures the image. Call before anything else here is used.
pub fn init() {
    let end = symbols::table_start() + symbols::table_bytes().max(1);
    KERNEL_END.store(page_up(end), Ordering::Relaxed);
}

/// One past the kernel's last byte: its last segment holds the symbols.
#[inline]
pub fn kernel_end() -> u64 {
    KERNEL_END.load(Ordering::Relaxed)
}

/// Physical address of one past the image: past the kernel, or what is packed behind it.
pub fn image_end() -> u64 {
    contents()[1].max(kernel_end() - KERNEL_OFFSET)
}

/// Physical address of the ELF header of the program in the image, if there is one.
pub fn program_header() -> Option<u64> {
    Some(contents()[0]).filter(|&address| address != 0)
}

/// Physical addresses of the archive of files in the image, if there is one.
pub fn archive() -> Option<Range<u64>> {
    let [_, _, start, end, ..] = contents();
    (start < end).then_some(start..end)
}

/// The same of the words that come with these files.
pub fn packed_words() -> Option<Range<u64>> {
    let [.., start, end] = contents();
    (start < end).then_some(start..end)
}

/// True for what the loader put there for the kernel: its own segments, the archive and the words.
pub fn is_kernel_loaded_at(address: u64) -> bool {
    (kernel_load_start()..kernel_end() - KERNEL_OFFSET).contains(&address)
        || [archive(), packed_words()].into_iter().flatten().any(|files| files.contains(&address))
}

/// What the image holds besides the kernel; see `image.ld`.
fn contents() -> [u64; 6] {
    // SAFETY: `image.ld` puts six words there. They may be written after the compiler has seen them, hence volatile.
    unsafe { (&raw const __kernel_contents).read_volatile() }
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
    let base = if address >= KERNEL_OFFSET { KERNEL_OFFSET } else { DIRECT_MAP_BASE };
    PhysAddr::new(address - base)
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
