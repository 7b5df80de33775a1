//! The image that a loader would have put into RAM: no kernel, and an app that is a page of nothing and some data, whose entry
//! [`super::app`] knows.

use core::ops::Range;

use x86_64::{PhysAddr, VirtAddr};

use super::memory;

/// Where physical address 0 appears in the direct map.
pub const DIRECT_MAP_BASE: u64 = memory::BASE;
/// Where physical address 0 would appear for the kernel's image, on a machine.
pub const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// Where the app's ELF header is.
const IMAGE: u64 = 2 << 20;
/// Where the app begins, and is thought to be whenever it runs.
pub const ENTRY: u64 = IMAGE + 0x1000;
/// Its data.
pub const DATA: Range<u64> = IMAGE + 0x2000..IMAGE + 0x12000;
/// Pages that the app is shown as clock and vDSO.
pub(super) const CLOCK_PAGE: u64 = 0x3000;
pub(super) const VDSO_PAGE: u64 = 0x4000;

/// Writes the image into RAM.
pub(super) fn init() {
    let mut header = [0u8; 64 + 2 * 56];
    header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes()); // ET_EXEC
    put(18, &62u16.to_le_bytes()); // EM_X86_64
    put(20, &1u32.to_le_bytes());
    put(24, &ENTRY.to_le_bytes());
    put(32, &64u64.to_le_bytes()); // e_phoff
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    for (index, (range, flags)) in [(ENTRY..ENTRY + 0x1000, 5u32), (DATA, 6)].into_iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &1u32.to_le_bytes()); // PT_LOAD
        put(at + 4, &flags.to_le_bytes());
        let bytes = range.end - range.start;
        for (field, value) in
            [range.start - IMAGE, range.start, range.start, bytes, bytes, 0x1000].into_iter().enumerate()
        {
            put(at + 8 + field * 8, &value.to_le_bytes());
        }
    }
    assert!(memory::write(IMAGE, &header), "the machine has more than 2 MiB");
}

/// Physical address of the image's first byte, its ELF header.
pub fn image_start() -> u64 {
    IMAGE
}

/// Physical address of one past the image.
pub fn image_end() -> u64 {
    DATA.end
}

/// Physical address of the ELF header of the program in the image, if there is one.
pub fn program_header() -> Option<u64> {
    Some(IMAGE)
}

/// Physical addresses of the archive of files in the image, if there is one.
pub fn archive() -> Option<Range<u64>> {
    None
}

/// The same of the words that come with these files.
pub fn packed_words() -> Option<Range<u64>> {
    None
}

/// True for what the loader put there for the kernel.
pub fn is_kernel_loaded_at(_: u64) -> bool {
    false
}

/// True if `address` is in the kernel's writable data.
pub fn is_kernel_writable(_: u64) -> bool {
    false
}

/// First byte of the kernel.
pub fn kernel_start() -> u64 {
    0
}

/// First byte of the kernel's code.
pub fn kernel_text_start() -> u64 {
    0
}

/// One past the kernel's code.
pub fn kernel_text_end() -> u64 {
    0
}

/// How far the kernel runs from where it is linked.
pub fn kernel_distance() -> u64 {
    0
}

/// The physical address behind the direct map, or the kernel's image, whose data devices read, too.
#[inline]
pub fn virt_to_phys(address: VirtAddr) -> PhysAddr {
    if memory::contains(address.as_ptr()) {
        return PhysAddr::new(address.as_u64() - DIRECT_MAP_BASE);
    }
    assert!(memory::is_image(address.as_ptr(), 1), "{address:?} is on a stack: a device could not see it");
    PhysAddr::new(memory::IMAGE_AT + address.as_u64())
}
