//! The app's address space: which ranges it may use, and the pages behind them.
//!
//! `mmap` only promises; pages come at the first touch ([`bring_in`]). There is no overcommit: what
//! is promised as writable is charged against RAM, and a promise that could not be kept is refused
//! with an error while the app can still handle it.

mod initial;
mod object;
mod reclaim;
mod remap;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use arrayvec::ArrayVec;
pub use initial::{adopt_image, map_first_stack, map_vdso};
pub use object::{PageSource, Sharing, Supply, collect_dirty, map_object, sync};
pub use reclaim::{release_clean, release_clean_in_turn};
pub use remap::{Move, remap};
use unikernel_mm::{PAGE_BYTES, RangeError, RegionMap};
pub use unikernel_mm::{Protection, Region, RegionKind};
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::fault::{Access, Failure};
use super::layout::{self, LARGE_PAGE_BYTES, page_up};
use super::page_table::{self, OutOfFrames};
use super::shared::SharedFrame;
use super::user::USER_END;
use super::{frames, heap};
use crate::arch::tlb;
use crate::sync::SpinLock;

/// The lowest address that `mmap` gives or accepts (Linux: `vm.mmap_min_addr`).
pub const LOWEST: u64 = 0x1_0000;
/// Regions from this size on are placed so that large pages fit.
const LARGE_REGION_BYTES: u64 = 2 * LARGE_PAGE_BYTES;
/// The break may grow up to here, far below the mappings.
const BREAK_END: u64 = 1 << 40;
/// Small pages brought in with one fault, if they are in the region and absent.
const FAULT_AROUND_PAGES: u64 = 4;
/// Marks the entry of a page that an object owns, too (the bit is the system's to use).
const SHARED_PAGE: Flags = Flags::BIT_9;
/// Pages given back with one request to the other cores.
const BATCH_PAGES: usize = 256;

/// Why a change of the address space is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    /// The range is not page-aligned, empty, or outside of what an app may use.
    BadRange,
    /// The range is taken (`MAP_FIXED_NOREPLACE`).
    Taken,
    /// Some of the range is not mapped.
    NotMapped,
    /// The pages are the kernel's, and can only be unmapped.
    NotAllowed,
    /// There is no memory, or no room, for the promise.
    OutOfMemory,
}

impl From<OutOfFrames> for SpaceError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfMemory
    }
}

impl From<RangeError> for SpaceError {
    fn from(error: RangeError) -> Self {
        match error {
            RangeError::Overlap => Self::Taken,
            RangeError::Hole => Self::NotMapped,
        }
    }
}

/// Where a mapping goes.
#[derive(Clone, Copy, Debug)]
pub enum Placement {
    /// Anywhere; the address is a hint.
    Anywhere(u64),
    /// Exactly there, replacing what is there.
    Fixed(u64),
    /// Exactly there, if it is free.
    FixedNoReplace(u64),
}

struct Space {
    regions: RegionMap,
    /// Pages promised as writable.
    charged_pages: u64,
    /// Small pages that are present.
    resident_pages: u64,
    break_start: u64,
    break_end: u64,
    /// Mappings are given below here.
    mappings_end: u64,
    /// Objects that regions show, by number.
    objects: Vec<Option<Arc<dyn PageSource>>>,
    /// The shares in the pages of objects that are mapped, by address.
    shared_pages: BTreeMap<u64, SharedFrame>,
    /// The page at which the last look for pages to let go ended.
    reclaim_hand: u64,
}

static SPACE: SpinLock<Space> = SpinLock::new(Space {
    regions: RegionMap::new(),
    charged_pages: 0,
    resident_pages: 0,
    break_start: 0,
    break_end: 0,
    mappings_end: USER_END,
    objects: Vec::new(),
    shared_pages: BTreeMap::new(),
    reclaim_hand: 0,
});

/// The page-table flags for a protection; `None` for no access at all.
fn flags_of(protection: Protection) -> Option<Flags> {
    if protection.is_empty() {
        return None;
    }
    let mut flags = Flags::PRESENT | Flags::USER_ACCESSIBLE;
    flags.set(Flags::WRITABLE, protection.contains(Protection::WRITE));
    flags.set(Flags::NO_EXECUTE, !protection.contains(Protection::EXECUTE));
    Some(flags)
}

/// Checks that `[start, start + len)` is page-aligned at its start and usable, and rounds its
/// length up. Answers the end.
fn check_range(start: u64, len: u64) -> Result<u64, SpaceError> {
    let len = page_up(len);
    let end = start.checked_add(len).ok_or(SpaceError::BadRange)?;
    let is_good = start.is_multiple_of(PAGE_BYTES) && len != 0 && end <= USER_END;
    if is_good { Ok(end) } else { Err(SpaceError::BadRange) }
}

impl Space {
    /// Refuses a promise that RAM could not keep.
    fn check_charge(&self, pages: u64) -> Result<(), SpaceError> {
        let limit = (frames::total_pages() - frames::reserve_pages()) as u64;
        if self.charged_pages.saturating_add(pages) > limit { Err(SpaceError::OutOfMemory) } else { Ok(()) }
    }

    fn place(&self, placement: Placement, len: u64) -> Result<u64, SpaceError> {
        match placement {
            Placement::Fixed(start) => Ok(start),
            Placement::FixedNoReplace(start) if self.regions.is_free(start, start + len) => Ok(start),
            Placement::FixedNoReplace(_) => Err(SpaceError::Taken),
            Placement::Anywhere(hint) => {
                let hint = layout::page_down(hint);
                let is_usable = hint >= LOWEST
                    && check_range(hint, len).is_ok_and(|end| !layout::overlaps_kernel(hint, end))
                    && self.regions.is_free(hint, hint + len);
                if is_usable { Ok(hint) } else { self.find_free(len).ok_or(SpaceError::OutOfMemory) }
            }
        }
    }

    fn find_free(&self, len: u64) -> Option<u64> {
        // Mappings never come near the break or the image.
        let find = |align| self.regions.find_free(len, align, BREAK_END, self.mappings_end);
        let aligned = if len >= LARGE_REGION_BYTES { find(LARGE_PAGE_BYTES) } else { None };
        aligned.or_else(|| find(PAGE_BYTES))
    }

    fn map(&mut self, placement: Placement, len: u64, protection: Protection) -> Result<u64, SpaceError> {
        self.map_kind(placement, len, protection, |_| RegionKind::Anonymous)
    }

    /// Maps a region of the kind that `kind` makes of its start.
    fn map_kind(
        &mut self,
        placement: Placement,
        len: u64,
        protection: Protection,
        kind: impl FnOnce(u64) -> RegionKind,
    ) -> Result<u64, SpaceError> {
        let len = page_up(len);
        if len == 0 || len > USER_END {
            return Err(SpaceError::OutOfMemory);
        }
        if let Placement::Fixed(start) | Placement::FixedNoReplace(start) = placement {
            let end = check_range(start, len)?;
            if start < LOWEST || layout::overlaps_kernel(start, end) {
                return Err(SpaceError::BadRange);
            }
        }
        let start = self.place(placement, len)?;
        let kind = kind(start);
        let is_charged = protection.contains(Protection::WRITE) && kind.has_own_pages();
        self.check_charge(if is_charged { len / PAGE_BYTES } else { 0 })?;
        if matches!(placement, Placement::Fixed(_)) {
            self.unmap(start, start + len)?;
        }
        let region = Region { start, end: start + len, protection, kind, is_charged };
        self.regions.insert(region)?;
        self.charged_pages += region.charged_pages();
        Ok(start)
    }

    fn unmap(&mut self, start: u64, end: u64) -> Result<(), SpaceError> {
        self.free_pages(start, end)?;
        let mut has_object = false;
        for removed in self.regions.remove(start, end) {
            self.charged_pages -= removed.charged_pages();
            has_object |= matches!(removed.kind, RegionKind::Object(_));
        }
        if has_object {
            self.forget_unused_objects();
        }
        Ok(())
    }

    /// Gives the pages in a range back; the regions stay. In batches: every core must have forgotten
    /// a page before its frame may go to somebody else, and asking them costs an interrupt.
    fn free_pages(&mut self, start: u64, end: u64) -> Result<(), SpaceError> {
        let mut at = start;
        while at < end {
            at = self.free_batch(at, end)?;
        }
        Ok(())
    }

    /// Gives up to [`BATCH_PAGES`] pages back, from `start` on. Answers where to go on.
    fn free_batch(&mut self, start: u64, end: u64) -> Result<u64, SpaceError> {
        let mut batch = ArrayVec::<(PhysAddr, usize), BATCH_PAGES>::new();
        let mut shared = ArrayVec::<(u64, bool), BATCH_PAGES>::new();
        let mut next = end;
        page_table::for_each_mapped(start, end, |virt, entry, bytes| {
            if batch.is_full() || shared.is_full() {
                next = virt.as_u64();
                return ControlFlow::Break(());
            }
            let (frame, flags) = page_table::take(entry);
            if flags.contains(SHARED_PAGE) {
                shared.push((virt.as_u64(), flags.contains(Flags::DIRTY)));
            } else {
                batch.push((frame, (bytes / PAGE_BYTES) as usize));
            }
            ControlFlow::Continue(())
        })?;
        if !batch.is_empty() || !shared.is_empty() {
            tlb::flush(start, next);
        }
        for (frame, pages) in batch {
            // SAFETY: the page was the app's alone, its entry is gone, and no core remembers it.
            unsafe { frames::free_block_or_frame(frame, pages) };
            self.resident_pages -= pages as u64;
        }
        for (page, is_dirty) in shared {
            if is_dirty {
                self.note_dirty(page);
            }
            self.shared_pages.remove(&page);
            self.resident_pages -= 1;
        }
        Ok(next)
    }

    fn protect(&mut self, start: u64, end: u64, protection: Protection) -> Result<(), SpaceError> {
        if !self.regions.is_covered(start, end) {
            return Err(SpaceError::NotMapped);
        }
        if self.regions.overlapping(start, end).any(|region| region.kind == RegionKind::Kernel) {
            return Err(SpaceError::NotAllowed);
        }
        self.check_charge(self.regions.charge_of_protect(start, end, protection))?;
        // First what can fail, a page table for splitting a large page; then the books.
        let flags = flags_of(protection);
        page_table::for_each_mapped(start, end, |_, entry, bytes| {
            let large = if bytes == LARGE_PAGE_BYTES { Flags::HUGE_PAGE } else { Flags::empty() };
            // Without access the page stays, as its content must, but not for ring 3.
            let flags = flags.unwrap_or(Flags::PRESENT | Flags::NO_EXECUTE);
            page_table::replace_flags(entry, flags | large | entry.flags() & SHARED_PAGE);
            ControlFlow::Continue(())
        })?;
        tlb::flush(start, end);
        self.charged_pages += self.regions.protect(start, end, protection)?;
        Ok(())
    }

    fn bring_in(&mut self, address: u64, access: Access) -> Result<(), Obstacle> {
        let region = *self.regions.find(address).ok_or(Failure::NotMapped)?;
        let needed = match access {
            Access { is_execute: true, .. } => Protection::EXECUTE,
            Access { is_write: true, .. } => Protection::WRITE,
            _ => Protection::READ,
        };
        let is_allowed =
            region.protection.contains(needed) || needed == Protection::READ && !region.protection.is_empty();
        let flags = flags_of(region.protection).filter(|_| is_allowed).ok_or(Failure::NotAllowed)?;
        if let RegionKind::Object(part) = region.kind {
            return self.bring_in_object(address, part, flags);
        }
        if self.bring_in_large(address, &region, flags).map_err(|_| Failure::OutOfMemory)? {
            return Ok(());
        }
        Ok(self.bring_in_small(address, &region, flags)?)
    }

    /// Maps a large page if it fits the region and memory is plentiful.
    fn bring_in_large(&mut self, address: u64, region: &Region, flags: Flags) -> Result<bool, OutOfFrames> {
        const PAGES: usize = (LARGE_PAGE_BYTES / PAGE_BYTES) as usize;
        let start = address & !(LARGE_PAGE_BYTES - 1);
        let fits = region.kind == RegionKind::Anonymous
            && start >= region.start
            && start + LARGE_PAGE_BYTES <= region.end
            && region.end - region.start >= LARGE_REGION_BYTES;
        // A sparse region must not eat memory that others were promised.
        let is_plenty = frames::free_pages() > frames::total_pages() / 2;
        if !fits || !is_plenty || !page_table::is_directory_slot_empty(VirtAddr::new(start)) {
            return Ok(false);
        }
        let Some(block) = frames::alloc_block(PAGES) else { return Ok(false) };
        frames::zero(block, PAGES);
        let is_mapped = page_table::map_large(VirtAddr::new(start), block, flags)?;
        self.resident_pages += PAGES as u64;
        Ok(is_mapped)
    }

    /// Maps the page at `address` and a few after it.
    fn bring_in_small(&mut self, address: u64, region: &Region, flags: Flags) -> Result<(), Failure> {
        let first = layout::page_down(address);
        let end = region.end.min(first + FAULT_AROUND_PAGES * PAGE_BYTES);
        for page in (first..end).step_by(PAGE_BYTES as usize) {
            let virt = VirtAddr::new(page);
            if page_table::lookup(virt).is_some() {
                // The first page is there if another thread was faster, or if the processor
                // remembered its absence.
                x86_64::instructions::tlb::flush(virt);
                continue;
            }
            let frame = match take_app_frame() {
                Some(frame) => frame,
                None if page == first => return Err(Failure::OutOfMemory),
                None => break,
            };
            page_table::map(virt, frame, flags).map_err(|_| Failure::OutOfMemory)?;
            self.resident_pages += 1;
        }
        Ok(())
    }
}

/// A zeroed frame for the app, if the kernel's reserve is not touched by it.
fn take_app_frame() -> Option<PhysAddr> {
    heap::make_room(1);
    if frames::can_app_take(1) { frames::alloc_zeroed() } else { None }
}

/// Why a page could not be brought in.
pub(super) enum Obstacle {
    /// For good.
    Failed(Failure),
    /// This page of the object has to be loaded first, which may sleep.
    Absent(Arc<dyn PageSource>, u64),
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Makes an access possible, if the region around the address allows it.
pub(super) fn bring_in(address: u64, access: Access) -> Result<(), Obstacle> {
    let outcome = SPACE.lock().bring_in(address, access);
    match outcome {
        // With the address space locked, no mapped page could be let go.
        Err(Obstacle::Failed(Failure::OutOfMemory)) if release_clean() > 0 => {
            SPACE.lock().bring_in(address, access)
        }
        outcome => outcome,
    }
}

/// Maps `len` bytes of zeros; answers where.
pub fn map(placement: Placement, len: u64, protection: Protection) -> Result<u64, SpaceError> {
    SPACE.lock().map(placement, len, protection)
}

/// Unmaps what is mapped in a range.
pub fn unmap(start: u64, len: u64) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    SPACE.lock().unmap(start, end)
}

/// Changes what may be done with a range.
pub fn protect(start: u64, len: u64, protection: Protection) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    SPACE.lock().protect(start, end, protection)
}

/// Forgets the content of a range: the next touch finds zeros (`MADV_DONTNEED`).
pub fn discard(start: u64, len: u64) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    let mut space = SPACE.lock();
    if !space.regions.is_covered(start, end) {
        return Err(SpaceError::NotMapped);
    }
    // The image's pages hold more than zeros and could not be brought back.
    let pieces: Vec<Region> = space.regions.overlapping(start, end).collect();
    for piece in pieces.iter().filter(|piece| !matches!(piece.kind, RegionKind::Image | RegionKind::Kernel)) {
        space.free_pages(piece.start, piece.end)?;
    }
    Ok(())
}

/// Checks that a range is mapped, for calls that need no more.
pub fn check_mapped(start: u64, len: u64) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    if SPACE.lock().regions.is_covered(start, end) { Ok(()) } else { Err(SpaceError::NotMapped) }
}

/// True if the page at an address is in memory.
pub fn is_present(address: u64) -> bool {
    let _space = SPACE.lock();
    page_table::lookup(VirtAddr::new_truncate(address)).is_some()
}

/// Moves the break (brk(2)); answers where it is then.
pub fn set_break(wanted: u64) -> u64 {
    let mut space = SPACE.lock();
    let (start, old) = (space.break_start, space.break_end);
    if wanted < start || wanted > BREAK_END {
        return old;
    }
    let (old_page, new_page) = (page_up(old), page_up(wanted));
    let changed = if new_page > old_page {
        let protection = Protection::READ | Protection::WRITE;
        space.map(Placement::FixedNoReplace(old_page), new_page - old_page, protection).is_ok()
    } else {
        new_page == old_page || space.unmap(new_page, old_page).is_ok()
    };
    if changed {
        space.break_end = wanted;
    }
    space.break_end
}

/// A full memory barrier on every core that runs the app (membarrier(2)).
pub fn fence_all_cores() {
    // Whoever is asked to forget nothing is interrupted, or switches threads before it goes on: either is a
    // barrier.
    let _turn = SPACE.lock();
    tlb::flush(0, 0);
}

/// Sizes in pages, for `/proc` and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Present.
    pub resident_pages: u64,
    /// Promised as writable.
    pub charged_pages: u64,
    /// Mapped.
    pub mapped_pages: u64,
}

/// How much the app uses.
pub fn usage() -> Usage {
    let space = SPACE.lock();
    let mapped_pages = space.regions.iter().map(Region::pages).sum();
    Usage { resident_pages: space.resident_pages, charged_pages: space.charged_pages, mapped_pages }
}

/// A copy of all regions, lowest first.
pub fn regions() -> Vec<Region> {
    SPACE.lock().regions.iter().copied().collect()
}
