//! Where modules are: in a window of the kernel's 2 GiB, at a random place that differs with each boot, so that code of either reaches the
//! other. Around each module are pages that are never mapped.
//!
//! A module's pages are filled where the direct map shows their frames, and appear at their place as what they are to be: no page there is ever
//! writable and executable, nor becomes executable after it was writable.

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::arch::tlb;
use crate::frame::Frame;
use crate::kmem::frames;
use crate::kmem::layout::{self, KERNEL_AREA, LARGE_PAGE_BYTES, PAGE_BYTES};
use crate::kmem::page_table::{self, OutOfFrames};
use crate::module::Protection;
use crate::platform::random;

/// Room for all modules. The page tables for it stay when modules go, so it is bounded.
const WINDOW_BYTES: u64 = 64 << 20;
const GUARD_BYTES: u64 = PAGE_BYTES as u64;

/// The window: apart from the kernel's image, whose tables nobody changes.
fn window() -> Range<u64> {
    static WINDOW: Once<Range<u64>> = Once::new();
    let kernel = layout::kernel_start() & !(LARGE_PAGE_BYTES - 1)
        ..layout::kernel_bss_end().next_multiple_of(LARGE_PAGE_BYTES);
    let choose = || {
        let places = (KERNEL_AREA.end - KERNEL_AREA.start - WINDOW_BYTES) / PAGE_BYTES as u64;
        loop {
            let start = KERNEL_AREA.start + random::next_u64() % places * PAGE_BYTES as u64;
            let end = start + WINDOW_BYTES;
            // Of 2 GiB, the kernel takes 16 MiB at most: the first or second draw is good.
            if end.next_multiple_of(LARGE_PAGE_BYTES) <= kernel.start
                || start & !(LARGE_PAGE_BYTES - 1) >= kernel.end
            {
                return start..end;
            }
        }
    };
    WINDOW.call_once(choose).clone()
}

/// The lowest run of so many bytes between guard pages that none of `taken` (by ascending addresses) touches, and its place among them.
pub(crate) fn place(taken: &[Range<u64>], bytes: u64) -> Option<(usize, u64)> {
    let window = window();
    let mut start = window.start + GUARD_BYTES;
    for (index, other) in taken.iter().enumerate() {
        if start.checked_add(bytes)?.checked_add(GUARD_BYTES)? <= other.start {
            return Some((index, start));
        }
        start = other.end + GUARD_BYTES;
    }
    let end = start.checked_add(bytes)?.checked_add(GUARD_BYTES)?;
    (end <= window.end).then_some((taken.len(), start))
}

/// Maps an image at a place where nothing is, all of it or nothing; `protection_of` says what a page of it is for.
pub(crate) fn map(
    start: u64,
    image: &[u8],
    protection_of: impl Fn(usize) -> Protection,
) -> Result<(), OutOfFrames> {
    // All that can fail comes before the first page is mapped.
    page_table::prepare_range(start, start + image.len() as u64)?;
    let mut pages = Vec::new();
    pages.try_reserve_exact(image.len() / PAGE_BYTES).map_err(|_| OutOfFrames)?;
    for bytes in image.chunks_exact(PAGE_BYTES) {
        let mut frame = Frame::alloc().ok_or(OutOfFrames)?;
        frame.bytes_mut().copy_from_slice(bytes);
        pages.push(frame);
    }
    for (index, frame) in pages.into_iter().enumerate() {
        let at = index * PAGE_BYTES;
        // Not global: all cores can forget them (`tlb::flush_everywhere`).
        let flags = match protection_of(at) {
            Protection::Code => Flags::PRESENT,
            Protection::ReadOnly => Flags::PRESENT | Flags::NO_EXECUTE,
            Protection::Data => Flags::PRESENT | Flags::NO_EXECUTE | Flags::WRITABLE,
        };
        frame.map_for_kernel(VirtAddr::new(start + at as u64), flags)?;
    }
    Ok(())
}

/// Frames given back with one request to the other cores.
const BATCH_PAGES: usize = 128;

/// Unmaps what [`map`] has mapped; no core remembers it then, not even idle ones, which take interrupts in the kernel's code. The caller holds the
/// address space's lock.
///
/// # Safety
///
/// Nobody uses these addresses, and nobody will.
pub(crate) unsafe fn unmap(start: u64, bytes: u64) {
    let mut taken = arrayvec::ArrayVec::<_, BATCH_PAGES>::new();
    let end = start + bytes;
    for batch in (start..end).step_by(BATCH_PAGES * PAGE_BYTES) {
        let batch_end = end.min(batch + (BATCH_PAGES * PAGE_BYTES) as u64);
        // These are small pages, so none is split and nothing can fail.
        let _ = page_table::for_each_mapped(batch, batch_end, |_, entry, _| {
            taken.push(page_table::take(entry).0);
            ControlFlow::Continue(())
        });
        tlb::flush_everywhere();
        // SAFETY: they came from `Frame`s that `map` has given to the page table, no entry leads to them, and no core remembers that one did.
        taken.drain(..).for_each(|frame| unsafe { frames::free(frame) });
    }
}
