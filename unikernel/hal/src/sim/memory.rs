//! RAM: memory of the host at a fixed address, where the kernel's direct map shows physical address 0.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::PhysAddr;

use crate::kmem::layout::PAGE_BYTES;

/// Where RAM is in the host's address space: far from where a host puts anything by itself.
pub(super) const BASE: u64 = 0x1000_0000_0000;
/// The largest machine.
const MOST_BYTES: usize = 1 << 36;

static BYTES: AtomicUsize = AtomicUsize::new(0);

/// True if the address is in RAM.
#[inline]
pub(super) fn contains(pointer: *const u8) -> bool {
    (pointer.addr()).wrapping_sub(BASE as usize) < MOST_BYTES
}

/// Where devices see the program itself: its address on the host comes on top.
pub(super) const IMAGE_AT: u64 = 1 << 48;

unsafe extern "C" {
    /// Where the program begins and ends, by the linker.
    static __executable_start: u8;
    #[link_name = "end"]
    static image_end: u8;
}

/// True if so many bytes are the program's own data: a kernel's statics.
pub(super) fn is_image(pointer: *const u8, len: usize) -> bool {
    let image = (&raw const __executable_start).addr()..(&raw const image_end).addr();
    let last = pointer.addr().checked_add(len);
    image.contains(&pointer.addr()) && last.is_some_and(|last| last <= image.end)
}

/// Takes the memory from the host. Call once in a machine's process.
pub(super) fn init(bytes: usize) {
    assert!(bytes <= MOST_BYTES, "a machine of {bytes} bytes");
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, where none is replaced.
    let got = unsafe {
        libc::mmap(ptr::with_exposed_provenance_mut(BASE as usize), bytes, protection, flags, -1, 0)
    };
    assert!(got.addr() == BASE as usize, "the host gives no memory at {BASE:#x}");
    BYTES.store(bytes, Ordering::Relaxed);
}

/// How much RAM there is.
pub fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// The address on the host of `len` bytes of RAM; none if they are not RAM. What a device is told may be anything.
pub fn at(address: PhysAddr, len: usize) -> Option<*mut u8> {
    if let Some(host) = address.as_u64().checked_sub(IMAGE_AT) {
        let pointer = ptr::with_exposed_provenance_mut(host as usize);
        return is_image(pointer, len).then_some(pointer);
    }
    let start = usize::try_from(address.as_u64()).ok()?;
    let end = start.checked_add(len)?;
    (end <= bytes()).then(|| ptr::with_exposed_provenance_mut(BASE as usize + start))
}

/// A run of the app's memory in pieces that lie in one page each: where, and which of the run's bytes.
pub(super) fn pieces(address: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = address.wrapping_add(done as u64);
        let piece = (PAGE_BYTES - at as usize % PAGE_BYTES).min(len - done);
        let range = done..done + piece;
        done = range.end;
        (piece > 0).then_some((at, range))
    })
}

/// Copies out of RAM; false if it is none.
pub fn read(address: u64, into: &mut [u8]) -> bool {
    let from = PhysAddr::try_new(address).ok().and_then(|address| at(address, into.len()));
    // SAFETY: so many bytes are RAM; nobody else runs meanwhile, and `into` is the host's.
    from.map(|from| unsafe { ptr::copy(from, into.as_mut_ptr(), into.len()) }).is_some()
}

/// Copies into RAM; false if it is none.
pub fn write(address: u64, bytes: &[u8]) -> bool {
    let to = PhysAddr::try_new(address).ok().and_then(|address| at(address, bytes.len()));
    // SAFETY: as above; a device writes where it was told to, and the kernel expects it there.
    to.map(|to| unsafe { ptr::copy(bytes.as_ptr(), to, bytes.len()) }).is_some()
}
