//! Mappings that change their length and place (mremap(2)). Pages move by their entries, so nothing is
//! copied.

use core::ops::{ControlFlow, Range};

use unikernel_mm::PAGE_BYTES;
use x86_64::VirtAddr;

use super::{Placement, Region, RegionKind, Space, SpaceError, Terms, change, check_range};
use crate::arch::tlb;
use crate::mem::layout::{LARGE_PAGE_BYTES, page_up};
use crate::mem::page_table::{self, OutOfFrames};

/// How `remap` may move a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Not at all.
    No,
    /// Anywhere.
    Anywhere,
    /// To this address, replacing what is there.
    To(u64),
    /// The pages move alone; the mapping stays, and asks for others at the next touch.
    Pages(Placement),
}

/// Changes the length and perhaps the place of a mapping (mremap(2)); answers where it is.
pub fn remap(start: u64, old_len: u64, new_len: u64, how: Move) -> Result<u64, SpaceError> {
    change(|space| match old_len {
        0 => space.duplicate(start, new_len, how),
        _ => space.remap(start, old_len, new_len, how),
    })
}

impl Space {
    fn remap(&mut self, start: u64, old_len: u64, new_len: u64, how: Move) -> Result<u64, SpaceError> {
        let old_end = check_range(start, old_len)?;
        let new_len = page_up(new_len);
        if new_len == 0 {
            return Err(SpaceError::BadRange);
        }
        check_target(how, start..old_end, new_len)?;
        let region = *self.regions.find(start).ok_or(SpaceError::NotMapped)?;
        // What is cut off may hold anything; what is kept, grown or moved is one mapping.
        let is_cut = new_len <= old_end - start && matches!(how, Move::No | Move::Anywhere);
        if region.end < old_end && !is_cut {
            return Err(SpaceError::NotMapped);
        }
        if region.kind == RegionKind::Kernel {
            return Err(SpaceError::NotAllowed);
        }
        let old_len = old_end - start;
        let more = if let Move::Pages(_) = how { new_len } else { new_len.saturating_sub(old_len) };
        self.check_longer(&region, more / PAGE_BYTES)?;
        if how == Move::No || how == Move::Anywhere {
            if new_len <= old_len {
                if new_len < old_len {
                    self.unmap(start + new_len, old_end)?;
                }
                return Ok(start);
            }
            if self.grow_in_place(&region, old_end, new_len - old_len).is_ok() {
                return Ok(start);
            }
        }
        match how {
            Move::No => Err(SpaceError::OutOfMemory),
            Move::Anywhere => self.move_region(start, old_len, new_len, Placement::Anywhere(0), &region),
            Move::To(to) => self.move_region(start, old_len, new_len, Placement::Fixed(to), &region),
            // Nothing could bring the image's pages once more.
            Move::Pages(_) if new_len != old_len || region.kind == RegionKind::Image => {
                Err(SpaceError::BadRange)
            }
            Move::Pages(placement) => {
                let to = self.move_pages((start, old_len), new_len, placement, &region, 0)?;
                // The lock has moved with the pages.
                self.regions.lock(start, old_end, false)?;
                Ok(to)
            }
        }
    }

    /// Maps what is shown at `start` once more, from there on: what a remapping of no length means, where the mapping is shared.
    fn duplicate(&mut self, start: u64, new_len: u64, how: Move) -> Result<u64, SpaceError> {
        let new_len = page_up(new_len);
        if new_len == 0 {
            return Err(SpaceError::BadRange);
        }
        let placement = match how {
            Move::Pages(_) => return Err(SpaceError::BadRange),
            Move::No | Move::Anywhere => Placement::Anywhere(0),
            Move::To(to) => {
                let to_end = check_range(to, new_len)?;
                if to < start && start < to_end {
                    return Err(SpaceError::BadRange);
                }
                if to == start {
                    // As in Linux, what is in the way goes first.
                    self.unmap(to, to_end)?;
                }
                Placement::Fixed(to)
            }
        };
        let region = *self.regions.find(start).ok_or(SpaceError::NotMapped)?;
        let RegionKind::Object(part) = region.kind else { return Err(SpaceError::NotSuitable) };
        if !part.is_shared {
            return Err(SpaceError::NotSuitable);
        }
        if how == Move::No {
            return Err(SpaceError::OutOfMemory);
        }
        self.check_longer(&region, new_len / PAGE_BYTES)?;
        let Region { protection, allowed, is_locked, .. } = region;
        let terms = Terms { protection, allowed, is_charged: false, is_locked, moving: 0 };
        self.map_kind(placement, new_len, terms, |to| RegionKind::Object(part.moved(to.wrapping_sub(start))))
    }

    fn grow_in_place(&mut self, region: &Region, end: u64, by: u64) -> Result<(), SpaceError> {
        let new_end = check_range(end, by)?;
        if region.end != end || !self.regions.is_free(end, new_end) {
            return Err(SpaceError::Taken);
        }
        let added = Region { start: end, end: new_end, ..*region };
        self.check_charge(end, new_end, added.charged_pages(), 0)?;
        self.regions.insert(added)?;
        self.charged_pages += added.charged_pages();
        self.publish();
        Ok(())
    }

    fn move_region(
        &mut self,
        from: u64,
        old_len: u64,
        new_len: u64,
        placement: Placement,
        region: &Region,
    ) -> Result<u64, SpaceError> {
        // What moves is promised already, and will be no more where it was.
        let moving = Region { start: from, end: from + old_len, ..*region }.charged_pages();
        let to = self.move_pages((from, old_len), new_len, placement, region, moving)?;
        self.unmap(from, from + old_len)?;
        Ok(to)
    }

    /// Maps what `region` shows at `from` elsewhere, too, and moves its pages there. So many pages of the new promise will
    /// take the place of others.
    fn move_pages(
        &mut self,
        (from, old_len): (u64, u64),
        new_len: u64,
        placement: Placement,
        region: &Region,
        moving: u64,
    ) -> Result<u64, SpaceError> {
        let moved = |to: u64| match region.kind {
            RegionKind::Object(part) => RegionKind::Object(part.moved(to.wrapping_sub(from))),
            RegionKind::Unreserved => RegionKind::Unreserved,
            _ => RegionKind::Anonymous,
        };
        let Region { protection, allowed, is_charged, is_locked, .. } = *region;
        let terms = Terms { protection, allowed, is_charged, is_locked, moving };
        let to = self.map_kind(placement, new_len, terms, moved)?;
        let kept = old_len.min(new_len);
        if let Err(error) = prepare_move(from, to, kept) {
            self.unmap(to, to + new_len)?;
            return Err(error.into());
        }
        for at in (0..kept).step_by(PAGE_BYTES as usize) {
            let mut taken = None;
            page_table::for_each_mapped(from + at, from + at + PAGE_BYTES, |_, entry, _| {
                taken = Some(page_table::take(entry));
                ControlFlow::Continue(())
            })?;
            let Some((frame, flags)) = taken else { continue };
            page_table::map(VirtAddr::new(to + at), frame, flags)?;
            if let Some(share) = self.shared_pages.remove(&(from + at)) {
                self.shared_pages.insert(to + at, share);
            }
        }
        tlb::flush(from, from + kept);
        Ok(to)
    }
}

/// Whether a mapping may go where it is wanted, which is not over itself.
fn check_target(how: Move, old: Range<u64>, new_len: u64) -> Result<(), SpaceError> {
    let to = match how {
        Move::No | Move::Anywhere | Move::Pages(Placement::Low) => return Ok(()),
        Move::To(to) => to,
        Move::Pages(Placement::Anywhere(to) | Placement::Fixed(to) | Placement::FixedNoReplace(to)) => to,
    };
    let to_end = check_range(to, new_len)?;
    if to < old.end && old.start < to_end { Err(SpaceError::BadRange) } else { Ok(()) }
}

/// Splits the large pages of a range that moves, for pages move by their entries, and makes the tables for where it goes:
/// a move that lacked one half-way would lose what it had taken.
fn prepare_move(from: u64, to: u64, len: u64) -> Result<(), OutOfFrames> {
    let mut piece = from;
    while piece < from + len {
        let next = ((piece | (LARGE_PAGE_BYTES - 1)) + 1).min(from + len);
        if !page_table::is_directory_slot_empty(VirtAddr::new(piece)) {
            page_table::prepare(VirtAddr::new(piece))?;
            // It may reach into two of the tables there.
            for edge in [piece, next - PAGE_BYTES] {
                page_table::prepare(VirtAddr::new(edge - from + to))?;
            }
        }
        piece = next;
    }
    Ok(())
}
