//! The app's half of the page tables, as the kernel may change it.
//!
//! An entry names one frame for as long as it has one: the kernel can change what the app may do with it, move it, or take it away
//! ([`TakenPages`](super::TakenPages)). All functions panic if they are told an address that is not the app's. Call them with the
//! address space locked.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::{PhysAddr, VirtAddr};

use super::{OutOfFrames, SHARED, for_each_mapped, make_clean, map, replace_flags, shared_word, take};
use crate::arch::vdso;
use crate::frame::SharedBytes;
use crate::kmem::layout::{PAGE_BYTES, USER_END};
use crate::loaded;

/// An entry that has a frame. It cannot be misused: no function here makes it name another, or gives it back.
pub struct Entry<'a>(&'a mut PageTableEntry);

impl Entry<'_> {
    /// What the app may do, and marks.
    #[inline]
    pub fn flags(&self) -> Flags {
        self.0.flags()
    }

    /// Gives the entry other flags; whether the page was written to, how large it is, and who else has it, stays. True if a permission went away:
    /// then the caller has to flush.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) -> bool {
        const KEPT: Flags = Flags::HUGE_PAGE.union(SHARED);
        let flags = (flags - KEPT) | (self.0.flags() & KEPT);
        replace_flags(self.0, flags)
    }

    /// The frame does not become free with the entry: as if others had it, too.
    pub fn keep_frame(&mut self) {
        let flags = self.0.flags() | SHARED;
        replace_flags(self.0, flags);
    }

    /// Notes that the page is clean, and perhaps that the next store to it is to be noticed.
    pub fn make_clean(&mut self, is_store_noticed: bool) {
        make_clean(self.0, is_store_noticed);
    }

    /// Takes a page of an object's away unless the entry says that it was written to, which another processor may note at any moment.
    /// The caller flushes before it lets go of the object's share.
    pub fn take_if_clean(&mut self) -> bool {
        let flags = self.0.flags();
        let before = self.0.addr().as_u64() | flags.bits();
        flags.contains(SHARED)
            && !flags.contains(Flags::DIRTY)
            && shared_word(self.0).compare_exchange(before, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Calls `visit` with the entries of a range; see `for_each_mapped`: large pages over its edges are split.
///
/// # Errors
///
/// If a large page could not be split, for want of a table.
#[inline]
pub fn for_each_entry(
    start: u64,
    end: u64,
    mut visit: impl FnMut(VirtAddr, Entry<'_>, u64) -> ControlFlow<()>,
) -> Result<(), OutOfFrames> {
    assert!(end <= USER_END, "the kernel's pages stay as they are");
    for_each_mapped(start, end, |virt, entry, bytes| visit(virt, Entry(entry), bytes))
}

/// Maps a page that an object has, too, where none is. The caller holds a share of the frame for as long as the page is mapped: this is not checked.
///
/// # Errors
///
/// If there is no frame for a table.
#[inline]
pub fn map_shared(virt: VirtAddr, frame: &SharedBytes, flags: Flags) -> Result<(), OutOfFrames> {
    map_app(virt, frame.address(), flags | SHARED)
}

/// Maps a page of the image's program, which becomes the app's own, where none is.
///
/// # Errors
///
/// If there is no frame for a table.
///
/// # Panics
///
/// If the page is the kernel's, or not in the image, or the app has given pages back already.
pub fn map_image(virt: VirtAddr, frame: PhysAddr, flags: Flags) -> Result<(), OutOfFrames> {
    assert!(loaded::is_programs(frame.as_u64(), PAGE_BYTES), "not the program's to have: {frame:?}");
    map_app(virt, frame, flags - SHARED)
}

/// Shows the app the page of the clock at `virt`, and that of the vDSO behind it.
///
/// # Errors
///
/// If there is no frame for a table.
pub fn map_vdso(virt: VirtAddr, clock_flags: Flags, code_flags: Flags) -> Result<(), OutOfFrames> {
    // The kernel goes on writing the clock, and neither page is given away.
    map_app(virt, vdso::clock(), (clock_flags | SHARED) - Flags::WRITABLE)?;
    map_app(virt + PAGE_BYTES as u64, vdso::image(), (code_flags | SHARED) - Flags::WRITABLE)
}

/// Moves a page to where none is, with all that its entry says. False if there is none. The caller flushes.
///
/// # Errors
///
/// If there is no frame for a table: then it stays.
pub fn move_page(from: VirtAddr, to: VirtAddr) -> Result<bool, OutOfFrames> {
    super::prepare(to)?;
    let mut taken = None;
    let end = from.as_u64() + PAGE_BYTES as u64;
    assert!(end <= USER_END, "the kernel's pages stay where they are");
    for_each_mapped(from.as_u64(), end, |_, entry, _| {
        taken = Some(take(entry));
        ControlFlow::Continue(())
    })?;
    let Some((frame, flags)) = taken else { return Ok(false) };
    map_app(to, frame, flags)?;
    Ok(true)
}

#[inline]
pub(crate) fn map_app(virt: VirtAddr, frame: PhysAddr, flags: Flags) -> Result<(), OutOfFrames> {
    assert!(virt.as_u64() < USER_END, "the kernel's half is not the app's");
    map(virt, frame, flags)
}
