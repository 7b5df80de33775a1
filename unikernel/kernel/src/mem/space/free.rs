//! Giving pages back: out of the page table, out of the other cores' memory, to the pool.

use core::ops::ControlFlow;

use arrayvec::ArrayVec;
use unikernel_mm::PAGE_BYTES;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::{CHARGED_PAGE, SHARED_PAGE, Space, SpaceError};
use crate::arch::tlb;
use crate::kmem::layout::{LARGE_PAGE_BYTES, USER_END};
use crate::kmem::{frames, page_table};

/// Pages given back with one request to the other cores: with what else is in the frame, a batch of them stays below the
/// 2 KiB that a frame may have.
const BATCH_PAGES: usize = 240;
/// Batches given back with the address space locked once.
const BATCHES_AT_ONCE: usize = 4;

/// A page whose entry is gone: its frame's address, or its own if others have the frame, too. What else there is to
/// know is in the bits below a page's address, because a batch of them is on the stack of a thread, which may be deep in a
/// filesystem.
struct TakenPage(u64);

impl TakenPage {
    const SHARED: u64 = 1 << 0;
    const DIRTY: u64 = 1 << 1;
    const LARGE: u64 = 1 << 2;

    fn shared(page: VirtAddr, is_dirty: bool) -> Self {
        Self(page.as_u64() | Self::SHARED | if is_dirty { Self::DIRTY } else { 0 })
    }

    fn private(frame: PhysAddr, is_large: bool) -> Self {
        Self(frame.as_u64() | if is_large { Self::LARGE } else { 0 })
    }

    fn is(&self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

impl Space {
    /// Gives the pages in a range back; the regions stay. The kernel's pages are nobody's to give, and this is where every
    /// caller passes.
    ///
    /// In batches: every core must have forgotten a page before its frame may go to somebody else, and asking them costs
    /// an interrupt.
    pub(super) fn free_pages(&mut self, start: u64, end: u64) -> Result<(), SpaceError> {
        if end > USER_END {
            return Err(SpaceError::BadRange);
        }
        let mut at = start;
        while at < end {
            at = self.free_batch(at, end)?;
        }
        Ok(())
    }

    /// The same for the start of a range, as much as takes a fraction of a millisecond; answers where the rest begins.
    pub(super) fn free_some(&mut self, start: u64, end: u64) -> Result<u64, SpaceError> {
        if end > USER_END {
            return Err(SpaceError::BadRange);
        }
        let end = page_table::piece_end(start, end, page_table::TABLES_TO_VISIT);
        let mut at = start;
        for _ in 0..BATCHES_AT_ONCE {
            if at < end {
                at = self.free_batch(at, end)?;
            }
        }
        Ok(at)
    }

    /// Gives up to [`BATCH_PAGES`] pages back, from `start` on. Answers where to go on.
    fn free_batch(&mut self, start: u64, end: u64) -> Result<u64, SpaceError> {
        let mut batch = ArrayVec::<TakenPage, BATCH_PAGES>::new();
        let mut next = end;
        let mut kept = 0;
        page_table::for_each_mapped(start, end, |virt, entry, bytes| {
            if batch.is_full() {
                next = virt.as_u64();
                return ControlFlow::Break(());
            }
            let (frame, flags) = page_table::take(entry);
            if flags.contains(SHARED_PAGE) {
                batch.push(TakenPage::shared(virt, flags.contains(Flags::DIRTY)));
            } else {
                batch.push(TakenPage::private(frame, bytes == LARGE_PAGE_BYTES));
                kept += if flags.contains(CHARGED_PAGE) { bytes / PAGE_BYTES } else { 0 };
            }
            ControlFlow::Continue(())
        })?;
        if !batch.is_empty() {
            tlb::flush(start, next);
        }
        self.kept_pages -= kept;
        // What is owed again must be set aside before it is free, or others may have it.
        self.publish();
        batch.iter().for_each(|taken| self.give_back(taken));
        Ok(next)
    }

    fn give_back(&mut self, taken: &TakenPage) {
        let address = taken.0 & !(PAGE_BYTES - 1);
        let pages = if taken.is(TakenPage::LARGE) { LARGE_PAGE_BYTES / PAGE_BYTES } else { 1 };
        self.resident_pages -= pages;
        if !taken.is(TakenPage::SHARED) {
            // SAFETY: the page was the app's alone, its entry is gone, and no core remembers it.
            unsafe { frames::free_block_or_frame(PhysAddr::new(address), pages as usize) };
            return;
        }
        if taken.is(TakenPage::DIRTY) {
            self.note_dirty(address);
        }
        self.shared_pages.remove(&address);
    }
}
