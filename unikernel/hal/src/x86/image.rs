//! The kernel's image: where it is and what is in it, as the linker and the build have left it.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_elf::relocations::SLACK;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use crate::kmem::layout::page_up;
use crate::kmem::symbols;

/// Where physical address 0 appears in the direct map.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Where the kernel may be that moves ([`super::relocate`]): in the last 2 GiB, for which it is compiled, with room for
/// [`SLACK`] at both ends.
pub const KERNEL_AREA: Range<u64> = 0xffff_ffff_8040_0000..0xffff_ffff_ffc0_0000;
const _: () = assert!(KERNEL_AREA.start - KERNEL_OFFSET >= SLACK && KERNEL_AREA.end.wrapping_neg() >= SLACK);
/// Where physical address 0 would appear for the kernel's image as it is linked: `__kernel_offset` of `image.ld`.
pub const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// The same for the kernel as it runs; set by [`init`].
static OFFSET: AtomicU64 = AtomicU64::new(KERNEL_OFFSET);

unsafe extern "C" {
    static __kernel_start: u8;
    static __kernel_text_start: u8;
    static __kernel_text_end: u8;
    static __kernel_data_start: u8;
    static __kernel_bss_end: u8;
    static __kernel_contents: [u64; 8];
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
    /// First byte of the kernel.
    kernel_start = __kernel_start;
    /// First byte of the kernel's code.
    kernel_text_start = __kernel_text_start;
    /// One past the kernel's code.
    kernel_text_end = __kernel_text_end;
    /// First byte of the kernel's writable data.
    kernel_data_start = __kernel_data_start;
    /// One past the kernel's writable data, and what is mapped of it: the symbols follow, and are read by the direct map.
    kernel_bss_end = __kernel_bss_end;
}

/// Notes where the kernel is. Call when it runs at its place, before anything else here is used.
pub fn init() {
    OFFSET.store(kernel_start().wrapping_sub(kernel_load_start()), Ordering::Relaxed);
}

/// How far the kernel runs from where it is linked, which may be below.
pub fn kernel_distance() -> u64 {
    OFFSET.load(Ordering::Relaxed).wrapping_sub(KERNEL_OFFSET)
}

/// Physical address of the image's first byte, its ELF header.
pub fn image_start() -> u64 {
    contents()[6]
}

/// Physical address of the kernel's first byte, behind the app's half of the image.
pub fn kernel_load_start() -> u64 {
    contents()[7]
}

/// Physical address of one past the kernel's last byte: its last segment holds the symbols, which the build adds after the
/// link.
pub fn kernel_load_end() -> u64 {
    page_up(symbols::table_address().as_u64() + symbols::table_bytes().max(1))
}

/// Physical address of one past the image: past the kernel, or what is packed behind it.
pub fn image_end() -> u64 {
    contents()[1].max(kernel_load_end())
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
    let [_, _, _, _, start, end, ..] = contents();
    (start < end).then_some(start..end)
}

/// True for what the loader put there for the kernel: its own segments, the archive and the words.
pub fn is_kernel_loaded_at(address: u64) -> bool {
    (kernel_load_start()..kernel_load_end()).contains(&address)
        || [archive(), packed_words()].into_iter().flatten().any(|files| files.contains(&address))
}

/// What the image holds besides the kernel; see `image.ld`.
fn contents() -> [u64; 8] {
    // SAFETY: `image.ld` puts eight words there. They may be written after the compiler has seen them, hence volatile.
    unsafe { (&raw const __kernel_contents).read_volatile() }
}

/// What may be done with a page of the kernel's image.
pub fn kernel_page_flags(address: u64) -> Flags {
    let mut flags = Flags::PRESENT;
    flags.set(Flags::NO_EXECUTE, !(kernel_text_start()..kernel_text_end()).contains(&address));
    flags.set(Flags::WRITABLE, is_kernel_writable(address));
    flags
}

/// True if `address` is in the kernel's writable data.
pub fn is_kernel_writable(address: u64) -> bool {
    (kernel_data_start()..kernel_bss_end()).contains(&address)
}

/// The physical address behind the kernel's image or the direct map.
#[inline]
pub fn virt_to_phys(address: VirtAddr) -> PhysAddr {
    let address = address.as_u64();
    let base = if address >= KERNEL_OFFSET { OFFSET.load(Ordering::Relaxed) } else { DIRECT_MAP_BASE };
    PhysAddr::new(address - base)
}
