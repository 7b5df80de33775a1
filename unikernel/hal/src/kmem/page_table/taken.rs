//! Taking pages away from the app: out of the page table, out of the other cores' memory, to the pool.

use core::ops::ControlFlow;

use arrayvec::ArrayVec;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::{CHARGED, OutOfFrames, SHARED, for_each_mapped, take};
use crate::arch::tlb;
use crate::kmem::layout::{LARGE_PAGE_BYTES, PAGE_BYTES, USER_END};
use crate::{frame, loaded};

/// Pages given back with one request to the other cores: with what else is in the frame, a batch of them stays below the
/// 2 KiB that a frame may have.
const BATCH_PAGES: usize = 240;

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

/// What a page was that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The app's own: so many frames, which were given back.
    Own {
        /// Small pages.
        pages: u64,
    },
    /// An object's, too, whose share is still held.
    Shared {
        /// The page's address.
        page: u64,
        /// It was written to.
        is_dirty: bool,
    },
}

/// Pages that were taken away from the app, which no core remembers. Those of the app's own are given back when they are
/// looked at or dropped.
pub struct TakenPages {
    pages: ArrayVec<TakenPage, BATCH_PAGES>,
    /// Where to go on.
    pub next: u64,
    /// Small pages among them that had the mark [`CHARGED`].
    pub charged: u64,
}

impl TakenPages {
    /// None yet. The value is as large as a stack's frame may be, so it is filled and emptied where it is.
    #[inline]
    pub const fn new() -> Self {
        Self { pages: ArrayVec::new_const(), next: 0, charged: 0 }
    }

    /// Takes pages away, from `start` on, and has every core forget them: a batch, as asking the cores costs an interrupt.
    /// Call with the address space locked.
    ///
    /// It cannot be misused: the kernel's pages are nobody's to take, and a frame becomes free only after all cores have forgotten
    /// the page.
    ///
    /// # Errors
    ///
    /// If a large page could not be split, for want of a table. Nothing was taken.
    ///
    /// # Panics
    ///
    /// If the range is not the app's, or what was taken before was not given back.
    pub fn take(&mut self, start: u64, end: u64) -> Result<(), OutOfFrames> {
        assert!(end <= USER_END, "the kernel's pages stay");
        assert!(self.pages.is_empty(), "a batch is given back before the next");
        let taken = self;
        (taken.next, taken.charged) = (end, 0);
        let mut reached = start;
        let outcome = for_each_mapped(start, end, |virt, entry, bytes| {
            if taken.pages.is_full() {
                taken.next = virt.as_u64();
                return ControlFlow::Break(());
            }
            reached = virt.as_u64() + bytes;
            let (frame, flags) = take(entry);
            if flags.contains(SHARED) {
                taken.pages.push(TakenPage::shared(virt, flags.contains(Flags::DIRTY)));
            } else {
                taken.pages.push(TakenPage::private(frame, bytes == LARGE_PAGE_BYTES));
                taken.charged += if flags.contains(CHARGED) { bytes / PAGE_BYTES as u64 } else { 0 };
            }
            ControlFlow::Continue(())
        });
        match outcome {
            Err(error) if taken.pages.is_empty() => return Err(error),
            // The next batch begins with what is in the way.
            Err(_) => taken.next = reached,
            Ok(()) => {}
        }
        if !taken.pages.is_empty() {
            loaded::end();
            tlb::flush(start, taken.next);
        }
        Ok(())
    }

    /// Gives the app's own pages back, and tells of each what it was.
    #[inline]
    pub fn give_back(&mut self, mut tell: impl FnMut(Gone)) {
        self.pages.drain(..).for_each(|page| tell(page.give_back()));
    }
}

impl TakenPage {
    #[inline]
    fn give_back(self) -> Gone {
        let address = self.0 & !(PAGE_BYTES as u64 - 1);
        if self.is(Self::SHARED) {
            return Gone::Shared { page: address, is_dirty: self.is(Self::DIRTY) };
        }
        let is_large = self.is(Self::LARGE);
        // SAFETY: the page was the app's alone, its entry is gone, and no core remembers it, because `TakenPages::take` has asked all.
        unsafe { frame::give_back(PhysAddr::new(address), is_large) };
        Gone::Own { pages: if is_large { LARGE_PAGE_BYTES / PAGE_BYTES as u64 } else { 1 } }
    }
}

impl Default for TakenPages {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TakenPages {
    fn drop(&mut self) {
        self.pages.drain(..).for_each(|page| {
            page.give_back();
        });
    }
}
