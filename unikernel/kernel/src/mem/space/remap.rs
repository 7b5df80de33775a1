//! Mappings that change their length and place (mremap(2)). Pages move by their entries, so nothing is
//! copied.

use core::ops::Range;

use unikernel_mm::PAGE_BYTES;
use x86_64::VirtAddr;

use super::pieces::{self, in_pieces};
use super::{
    Placement, Region, RegionKind, SPACE, Space, SpaceError, Terms, change, check_range, discard_replaced,
};
use crate::arch::tlb;
use crate::kmem::layout::{LARGE_PAGE_BYTES, page_up};
use crate::kmem::page_table::{self, OutOfFrames};

/// How `remap` may move a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// Not at all.
    No,
    /// Anywhere.
    Anywhere,
    /// To this address, replacing what is there.
    To(u64),
    /// The pages move alone; the mapping stays, and asks for others at the next touch.
    Pages(Placement),
}

/// What is left to do once a mapping has its length and place.
enum Rest {
    Nothing,
    /// What was cut off goes.
    Cut(Range<u64>),
    /// Pages move.
    Move(PageMove),
}

/// Pages that move to where the same is mapped.
struct PageMove {
    from: u64,
    to: u64,
    /// Bytes that move.
    len: u64,
    /// Bytes mapped at the new place.
    new_len: u64,
    /// What is mapped at the old place.
    region: Region,
    /// The old mapping, unless it stays.
    gone: Option<Range<u64>>,
}

/// Changes the length and perhaps the place of a mapping (mremap(2)); answers where it is.
pub(crate) fn remap(start: u64, old_len: u64, new_len: u64, how: Move) -> Result<u64, SpaceError> {
    if old_len == 0 {
        return change(|space| space.duplicate(start, new_len, how));
    }
    if let Move::To(to) = how
        && check_target(how, start..start.saturating_add(page_up(old_len)), page_up(new_len)).is_ok()
        && can_remap(start, old_len)
    {
        discard_replaced(Placement::Fixed(to), new_len);
    }
    let (at, rest) = change(|space| space.remap(start, old_len, new_len, how))?;
    match rest {
        Rest::Nothing => {}
        Rest::Cut(range) => pieces::unmap_checked(range.start, range.end)?,
        Rest::Move(pages) => pages.run()?,
    }
    Ok(at)
}

/// True if all of a range is one mapping of the app's: what is in the way of its move goes before that.
fn can_remap(start: u64, len: u64) -> bool {
    let Ok(end) = check_range(start, len) else { return false };
    let space = SPACE.lock();
    space.regions.find(start).is_some_and(|region| region.end >= end && region.kind != RegionKind::Kernel)
}

impl PageMove {
    /// Moves the pages, in pieces. Who changes one of the two mappings meanwhile may be left with half of them at each.
    fn run(self) -> Result<(), SpaceError> {
        let end = self.from + self.len;
        let prepared =
            in_pieces(self.from, end, |_, at| prepare_some(at, end, self.to.wrapping_sub(self.from)));
        if let Err(error) = prepared {
            pieces::unmap(self.to, self.to + self.new_len)?;
            return Err(error.into());
        }
        in_pieces(self.from, end, |space, at| space.move_some(&self, at))?;
        match self.gone {
            Some(gone) => pieces::unmap(gone.start, gone.end),
            // The lock has moved with the pages.
            None => Ok(change(|space| space.regions.lock(self.from, end, false))?),
        }
    }
}

impl Space {
    fn remap(
        &mut self,
        start: u64,
        old_len: u64,
        new_len: u64,
        how: Move,
    ) -> Result<(u64, Rest), SpaceError> {
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
            if new_len < old_len {
                self.check_split(start + new_len, old_end)?;
                return Ok((start, Rest::Cut(start + new_len..old_end)));
            }
            if new_len == old_len || self.grow_in_place(&region, old_end, new_len - old_len).is_ok() {
                return Ok((start, Rest::Nothing));
            }
        }
        // What moves is promised already, and will be no more where it was.
        let moving = Region { start, end: old_end, ..region }.charged_pages();
        let old = start..old_end;
        let (to, gone) = match how {
            Move::No => return Err(SpaceError::OutOfMemory),
            Move::Anywhere => {
                (self.map_moved(start, new_len, Placement::Anywhere(0), &region, moving)?, Some(old))
            }
            Move::To(to) => {
                (self.map_moved(start, new_len, Placement::Fixed(to), &region, moving)?, Some(old))
            }
            // Nothing could bring the image's pages once more.
            Move::Pages(_) if new_len != old_len || region.kind == RegionKind::Image => {
                return Err(SpaceError::BadRange);
            }
            Move::Pages(placement) => (self.map_moved(start, new_len, placement, &region, 0)?, None),
        };
        let len = old_len.min(new_len);
        Ok((to, Rest::Move(PageMove { from: start, to, len, new_len, region, gone })))
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

    /// Maps what `region` shows at `from` elsewhere, too. So many pages of the new promise will take the place of others.
    fn map_moved(
        &mut self,
        from: u64,
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
        self.map_kind(placement, new_len, terms, moved)
    }

    /// Moves some of the pages, from `at` on; answers where the rest begins.
    fn move_some(&mut self, pages: &PageMove, at: u64) -> Result<u64, SpaceError> {
        let end = page_table::piece_end(at, pages.from + pages.len, page_table::TABLES_TO_WORK_ON);
        let by = pages.to.wrapping_sub(pages.from);
        if !self.is_still(pages, at, end) {
            return Err(SpaceError::NotMapped);
        }
        // As soon as pages are nowhere, or elsewhere: who goes by addresses has to know.
        self.moves += 1;
        let mut piece = page_table::next_table(at, end);
        while piece < end {
            let next = ((piece | (LARGE_PAGE_BYTES - 1)) + 1).min(end);
            // Tables are there since `prepare_some`, unless somebody has touched the old mapping since.
            prepare_piece(piece, next, by)?;
            for page in (piece..next).step_by(PAGE_BYTES as usize) {
                self.move_page(page, page.wrapping_add(by))?;
            }
            piece = page_table::next_table(next, end);
        }
        tlb::flush(at, end);
        Ok(end)
    }

    fn move_page(&mut self, from: u64, to: u64) -> Result<(), SpaceError> {
        let Some(_) = page_table::lookup(VirtAddr::new(from)) else { return Ok(()) };
        // Somebody may have touched the new mapping already.
        if page_table::lookup(VirtAddr::new(to)).is_some() {
            self.free_pages(to, to + PAGE_BYTES)?;
        }
        page_table::move_page(VirtAddr::new(from), VirtAddr::new(to))?;
        if let Some(share) = self.shared_pages.remove(&from) {
            self.shared_pages.insert(to, share);
        }
        Ok(())
    }

    /// True if at the old and the new place is mapped what was when the move began. Others may have changed it since.
    fn is_still(&self, pages: &PageMove, at: u64, end: u64) -> bool {
        let by = pages.to.wrapping_sub(pages.from);
        let is_like = |region: &Region, kind: RegionKind| {
            let Region { protection, allowed, is_charged, .. } = pages.region;
            region.kind == kind
                && (region.protection, region.allowed, region.is_charged) == (protection, allowed, is_charged)
        };
        let new_kind = match pages.region.kind {
            RegionKind::Object(part) => RegionKind::Object(part.moved(by)),
            RegionKind::Unreserved => RegionKind::Unreserved,
            _ => RegionKind::Anonymous,
        };
        let (to, to_end) = (at.wrapping_add(by), end.wrapping_add(by));
        self.regions.find(at).is_some_and(|old| old.end >= end && is_like(old, pages.region.kind))
            && self.regions.find(to).is_some_and(|new| new.end >= to_end && is_like(new, new_kind))
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

/// Splits large pages of a range that moves by so many bytes, for pages move by their entries, and makes the tables for where it
/// goes: a move that lacked one half-way would lose what it had taken. Answers where the rest begins.
fn prepare_some(start: u64, end: u64, by: u64) -> Result<u64, OutOfFrames> {
    let end = page_table::piece_end(start, end, page_table::TABLES_TO_WORK_ON);
    let mut piece = page_table::next_table(start, end);
    while piece < end {
        let next = ((piece | (LARGE_PAGE_BYTES - 1)) + 1).min(end);
        prepare_piece(piece, next, by)?;
        piece = page_table::next_table(next, end);
    }
    Ok(end)
}

/// The same within 2 MiB.
fn prepare_piece(start: u64, end: u64, by: u64) -> Result<(), OutOfFrames> {
    page_table::prepare(VirtAddr::new(start))?;
    // It may reach into two of the tables there.
    [start, end - PAGE_BYTES]
        .into_iter()
        .try_for_each(|edge| page_table::prepare(VirtAddr::new(edge.wrapping_add(by))))
}
