//! Work on ranges of any length, in pieces: the kernel runs with interrupts masked, and whoever has the address space locked
//! holds up every core that needs a page. So a piece is what takes a fraction of a millisecond; between two pieces the lock
//! is free, timers fire, and other threads run. They may change what the rest of the range is: each piece looks anew.

use super::{RegionKind, SPACE, Space, SpaceError, change, page_table};
use crate::kmem::room;
use crate::task::scheduler;

/// Regions that a piece has at most.
pub(super) const MOST_REGIONS: usize = 1024;

/// Runs `step` from `start` on until `end`; each step answers where the next begins.
pub(super) fn in_pieces<E>(
    start: u64,
    end: u64,
    mut step: impl FnMut(&mut Space, u64) -> Result<u64, E>,
) -> Result<(), E> {
    let mut at = start;
    while at < end {
        at = change(|space| step(space, at))?;
        if at < end {
            SPACE.let_others();
            scheduler::breathe();
        }
    }
    Ok(())
}

/// Unmaps what is mapped in a range, whose edges may split regions.
pub(super) fn unmap(start: u64, end: u64) -> Result<(), SpaceError> {
    SPACE.lock().check_split(start, end)?;
    unmap_checked(start, end)
}

/// The same after [`Space::check_split`].
pub(super) fn unmap_checked(start: u64, end: u64) -> Result<(), SpaceError> {
    in_pieces(start, end, |space, at| space.unmap_some(at, end))
}

/// Gives the pages in a range back; the regions stay.
pub(super) fn discard(start: u64, end: u64) -> Result<(), SpaceError> {
    in_pieces(start, end, |space, at| space.free_some(at, end))
}

impl Space {
    /// Refuses to unmap a range if that would make two regions of one, and there is no room for them: nobody has asked for
    /// some for a call that frees.
    pub(super) fn check_split(&self, start: u64, end: u64) -> Result<(), SpaceError> {
        if !self.regions.splits(start, end) {
            return Ok(());
        }
        if self.regions.len() >= super::MAX_REGIONS {
            return Err(SpaceError::OutOfMemory);
        }
        room::ask_locked().map_err(|_| SpaceError::OutOfMemory)
    }

    /// Unmaps the start of a range; answers where the rest begins. A region that it ends in is one more for as long as the
    /// rest is mapped.
    fn unmap_some(&mut self, start: u64, end: u64) -> Result<u64, SpaceError> {
        let end = self.free_some(start, end)?;
        let next = self.regions_until(start, end);
        self.remove_regions(start, next);
        self.forget_unused_objects();
        page_table::prune(start, next, |span| self.regions.is_free(span.start, span.end));
        Ok(next)
    }

    /// Where a range ends that begins like `[start, end)` and has [`MOST_REGIONS`] regions at most.
    pub(super) fn regions_until(&self, start: u64, end: u64) -> u64 {
        self.regions.overlapping(start, end).nth(MOST_REGIONS).map_or(end, |region| region.start)
    }

    /// Takes regions away whose pages are gone.
    pub(super) fn remove_regions(&mut self, start: u64, end: u64) {
        while let Some(removed) = self.regions.remove_first(start, end) {
            self.charged_pages -= removed.charged_pages();
            if let RegionKind::Object(part) = removed.kind {
                self.note_lost_region(part.object);
            }
        }
        self.publish();
    }
}
