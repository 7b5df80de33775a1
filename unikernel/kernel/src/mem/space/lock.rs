//! Memory that the app has locked (mlock(2)). There is no swap; what it means is that pages are there from then on, that
//! those of mapped files stay, and that nobody discards them by mistake.

use core::ops::Range;

use unikernel_mm::{ObjectPart, Protection, Region, RegionKind};

use super::pieces::in_pieces;
use super::{MAX_REGIONS, PAGE_BYTES, PopulateError, SPACE, Space, SpaceError, check_range, populate};
use crate::kmem::layout::USER_END;

/// How the app wants what it maps from now on (mlockall(2), `MCL_FUTURE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum FutureLocks {
    /// Not locked.
    #[default]
    No,
    /// Locked, with all pages there.
    Present,
    /// Locked once they are touched (`MCL_ONFAULT`).
    OnTouch,
}

/// Locks a range, or unlocks it; up to a hole, as Linux does.
pub(crate) fn set_locked(start: u64, len: u64, is_locked: bool) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    {
        let space = SPACE.lock();
        if space.regions.len() + space.regions.splits_at_edges(start, end) > MAX_REGIONS {
            return Err(SpaceError::OutOfMemory);
        }
    }
    in_pieces(start, end, |space, at| {
        let next = space.regions_until(at, end);
        space.regions.lock(at, next, is_locked)?;
        Ok(next)
    })
}

/// Locks all that is mapped, or unlocks it.
pub(crate) fn set_all_locked(is_locked: bool) {
    let _ = in_pieces(0, USER_END, |space, at| {
        let Some(region) = space.regions.first_overlapping(at, USER_END) else { return Ok(USER_END) };
        space.regions.lock(region.start, region.end, is_locked)?;
        Ok::<_, SpaceError>(region.end)
    });
}

/// Chooses how what is mapped from now on is locked.
pub(crate) fn set_future_locks(wanted: FutureLocks) {
    SPACE.lock().future_locks = wanted;
}

/// True if something of a range is locked.
pub(crate) fn is_locked(start: u64, len: u64) -> bool {
    check_range(start, len).is_ok_and(|end| locked_within(start, end) > 0)
}

/// Bytes of a range that are not locked yet, and those that are locked in all.
pub(crate) fn count_locked(start: u64, len: u64) -> (u64, u64) {
    let more = len.saturating_sub(locked_within(start, start.saturating_add(len)));
    (more, SPACE.lock().regions.totals().locked * PAGE_BYTES)
}

/// Bytes of a range that are locked.
fn locked_within(start: u64, end: u64) -> u64 {
    let mut bytes = 0;
    let _ = in_pieces(start, end, |space, at| {
        if space.regions.totals().locked == 0 {
            return Ok(end);
        }
        let next = space.regions_until(at, end);
        let locked = space.regions.overlapping(at, next).filter(|piece| piece.is_locked);
        bytes += locked.map(|piece| piece.pages() * PAGE_BYTES).sum::<u64>();
        Ok::<_, SpaceError>(next)
    });
    bytes
}

/// Has the pages of a range be there as Linux does where nobody says for what: those that may be written privately as after a
/// store, others as after a load. May sleep.
pub(crate) fn populate_mapped(start: u64, len: u64) -> Result<(), PopulateError> {
    let end = check_range(start, len).map_err(|_| PopulateError::NotMapped)?;
    let mut at = start;
    while at < end {
        let next = SPACE.lock().regions.first_overlapping(at, end);
        let piece = next.filter(|piece| piece.start == at).ok_or(PopulateError::NotMapped)?;
        populate_piece(&piece)?;
        at = piece.end;
    }
    Ok(())
}

/// The same for all that is mapped, as far as it can be.
pub(crate) fn populate_all() {
    let mut at = 0;
    loop {
        let next = SPACE.lock().regions.first_overlapping(at, USER_END);
        let Some(piece) = next else { return };
        if populate_piece(&piece) == Err(PopulateError::Interrupted) {
            return;
        }
        at = piece.end;
    }
}

fn populate_piece(piece: &Region) -> Result<(), PopulateError> {
    if piece.kind == RegionKind::Kernel {
        return Ok(());
    }
    if piece.protection.is_empty() {
        return Err(PopulateError::NotAllowed);
    }
    let is_shared = matches!(piece.kind, RegionKind::Object(ObjectPart { is_shared: true, .. }));
    let is_write = piece.protection.contains(Protection::WRITE) && !is_shared;
    if !is_write && !piece.protection.contains(Protection::READ) {
        return Ok(());
    }
    populate(piece.start, piece.end - piece.start, is_write)
}

/// What a call has mapped, locked and there if that was asked for all that is new (`MCL_FUTURE`) or for a part that
/// has grown. What cannot be there now may be later, or the touch tells why not.
pub(crate) fn populate_new(pages: Range<u64>) {
    let is_wanted = {
        let space = SPACE.lock();
        let is_locked = space.regions.find(pages.start).is_some_and(|region| region.is_locked);
        is_locked && space.future_locks != FutureLocks::OnTouch
    };
    if is_wanted {
        let _ = populate_mapped(pages.start, pages.end.saturating_sub(pages.start));
    }
}

impl Space {
    /// True if new regions are locked.
    pub(super) fn locks_new(&self) -> bool {
        self.future_locks != FutureLocks::No
    }

    /// True if a mapped page must stay.
    pub(super) fn is_locked_page(&self, page: u64) -> bool {
        self.regions.find(page).is_some_and(|region| region.is_locked)
    }
}
