//! Giving pages back: out of the page table, out of the other cores' memory, to the pool.

use super::{Space, SpaceError};
use crate::kmem::layout::USER_END;
use crate::kmem::page_table::{self, Gone, TakenPages};

/// Batches given back with the address space locked once.
const BATCHES_AT_ONCE: usize = 4;

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

    /// Gives a batch of pages back, from `start` on. Answers where to go on.
    fn free_batch(&mut self, start: u64, end: u64) -> Result<u64, SpaceError> {
        let mut taken = TakenPages::new();
        taken.take(start, end)?;
        let next = taken.next;
        self.kept_pages -= taken.charged;
        // What is owed again must be set aside before it is free, or others may have it.
        self.publish();
        taken.give_back(|gone| self.note_gone(gone));
        Ok(next)
    }

    fn note_gone(&mut self, gone: Gone) {
        match gone {
            Gone::Own { pages } => self.resident_pages -= pages,
            Gone::Shared { page, is_dirty } => {
                self.resident_pages -= 1;
                if is_dirty {
                    self.note_dirty(page);
                }
                self.shared_pages.remove(&page);
            }
        }
    }
}
