//! The app's address space: which ranges it may use, and the pages behind them.
//!
//! `mmap` only promises; pages come at the first touch ([`fault_in`]). [`charge`] tells what a promise is worth.

mod advice;
mod anonymous;
mod brk;
mod charge;
mod clear;
mod cut;
mod free;
mod initial;
mod limits;
mod lock;
mod object;
mod pieces;
mod protect;
mod reclaim;
mod remap;
mod touch;
mod turns;
mod usage;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use advice::{Advice, PopulateError, advise, populate};
pub(crate) use anonymous::SharedMemory;
pub(crate) use brk::set_break;
pub(crate) use charge::{be_strict, charge_limit, is_strict, owed_pages};
pub(crate) use clear::clear;
pub(crate) use cut::{Copies, unmap_object};
pub(crate) use initial::{adopt_image, map_first_stack, map_vdso, set_break_behind};
pub(crate) use lock::{
    FutureLocks, count_locked, is_locked, populate_all, populate_mapped, populate_new, set_all_locked,
    set_future_locks, set_locked,
};
pub(crate) use object::{
    Description, PageSource, Sharing, Supply, collect_dirty, has_paged_objects, has_writable_mapping,
    map_object, sync,
};
pub(crate) use protect::{allow_writable_code, grows_down, is_allowed, protect};
pub(crate) use reclaim::{release_clean, release_clean_in_turn, release_stacks};
pub(crate) use remap::{Move, remap};
pub(super) use touch::{FaultError, fault_in};
use turns::SpaceLock;
use unikernel_mm::{PAGE_BYTES, RangeError, RegionMap};
pub(crate) use unikernel_mm::{Protection, Region, RegionKind};
pub(crate) use usage::{Shown, listing, usage};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::shared::SharedFrame;
use crate::arch::tlb;
use crate::kmem::frames;
use crate::kmem::layout::{self, LARGE_PAGE_BYTES, USER_END, page_up};
use crate::kmem::page_table::{self, OutOfFrames};

/// The lowest address that `mmap` gives or accepts (Linux: `vm.mmap_min_addr`).
pub(crate) const LOWEST: u64 = 0x1_0000;
/// Regions from this size on are placed so that large pages fit.
const LARGE_REGION_BYTES: u64 = 2 * LARGE_PAGE_BYTES;
/// Mappings are given from here on only: below are programs with addresses of their own, and their breaks.
const LOW_END: u64 = 1 << 40;
/// Of longer mappings, what they replace goes in pieces.
const DISCARDED_AT_ONCE: u64 = 4 << 20;
/// Where mappings go whose addresses are to fit into 31 bits.
const LOW: core::ops::Range<u64> = 1 << 30..1 << 31;
/// Marks the entry of a page that an object owns, too (the bit is the system's to use).
const SHARED_PAGE: Flags = page_table::SHARED;
/// Marks the entry of a page without access: its content stays, but no processor, in whatever ring, finds it (the bit is
/// the system's to use).
const NO_ACCESS: Flags = Flags::BIT_10;
/// Marks the entry of a page that a charged region has of its own.
const CHARGED_PAGE: Flags = page_table::CHARGED;

/// Why a change of the address space is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpaceError {
    /// The range is not page-aligned, empty, or outside of what an app may use.
    BadRange,
    /// The range is taken (`MAP_FIXED_NOREPLACE`).
    Taken,
    /// Some of the range is not mapped.
    NotMapped,
    /// The pages are the kernel's, and can only be unmapped; or what they show must not be used so.
    NotAllowed,
    /// The object must not be written to any more.
    Sealed,
    /// What is mapped there is not of a kind for this.
    NotSuitable,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// Anywhere; the address is a hint.
    Anywhere(u64),
    /// Anywhere in the second gigabyte (`MAP_32BIT`).
    Low,
    /// Exactly there, replacing what is there.
    Fixed(u64),
    /// Exactly there, if it is free.
    FixedNoReplace(u64),
}

/// What a new region is to be.
struct Terms {
    protection: Protection,
    allowed: Protection,
    is_charged: bool,
    is_locked: bool,
    /// Charged pages that it takes over from another.
    moving: u64,
}

/// Regions that the app can have (`/proc/sys/vm/max_map_count`, with the value that distributions give it): some of what is done
/// with the address space locked looks at each.
pub(crate) const MAX_REGIONS: usize = 1 << 20;

struct Space {
    regions: RegionMap,
    /// Pages promised as writable.
    charged_pages: u64,
    /// Those of them that are present.
    kept_pages: u64,
    /// Small pages that are present.
    resident_pages: u64,
    break_start: u64,
    break_end: u64,
    /// The break may grow up to here.
    break_limit: u64,
    /// Mappings are given below here.
    mappings_end: u64,
    /// Objects that regions show, by number.
    objects: Vec<Option<Arc<dyn PageSource>>>,
    /// The number of each, by its address.
    object_numbers: BTreeMap<usize, u32>,
    /// Numbers that no object has.
    free_numbers: Vec<u32>,
    /// Numbers of objects of which a region is gone that was the last; others may show them since.
    lost_objects: Vec<u32>,
    /// True if there was no memory to note one of these.
    has_lost_object: bool,
    /// Objects that are let go of once the address space is not locked any more: their ends take locks, and a while.
    departed: Vec<Arc<dyn PageSource>>,
    /// The shares in the pages of objects that are mapped, by address.
    shared_pages: BTreeMap<u64, SharedFrame>,
    /// How often pages have moved from one address to another: who goes through all addresses in pieces may have missed them.
    moves: u64,
    /// The page at which the last look for pages to let go ended.
    reclaim_hand: u64,
    /// How new regions are locked.
    future_locks: FutureLocks,
}

static SPACE: SpaceLock = SpaceLock::new(Space {
    regions: RegionMap::new(),
    charged_pages: 0,
    kept_pages: 0,
    resident_pages: 0,
    break_start: 0,
    break_end: 0,
    break_limit: LOW_END,
    mappings_end: USER_END,
    objects: Vec::new(),
    object_numbers: BTreeMap::new(),
    free_numbers: Vec::new(),
    lost_objects: Vec::new(),
    has_lost_object: false,
    departed: Vec::new(),
    shared_pages: BTreeMap::new(),
    moves: 0,
    reclaim_hand: 0,
    future_locks: FutureLocks::No,
});

/// Changes the address space in a way that may take mappings away.
fn change<T>(act: impl FnOnce(&mut Space) -> T) -> T {
    let mut space = SPACE.lock();
    let outcome = act(&mut space);
    let departed = core::mem::take(&mut space.departed);
    drop(space);
    drop(departed);
    outcome
}

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
    fn place(&mut self, placement: Placement, len: u64) -> Result<u64, SpaceError> {
        match placement {
            Placement::Fixed(start) => Ok(start),
            Placement::FixedNoReplace(start) if self.regions.is_free(start, start + len) => Ok(start),
            Placement::FixedNoReplace(_) => Err(SpaceError::Taken),
            Placement::Low => {
                self.regions.find_free(len, PAGE_BYTES, LOW.start, LOW.end).ok_or(SpaceError::OutOfMemory)
            }
            Placement::Anywhere(hint) => {
                let hint = layout::page_down(hint);
                let is_usable = hint >= LOWEST
                    && check_range(hint, len).is_ok()
                    && self.regions.is_free(hint, hint + len);
                if is_usable { Ok(hint) } else { self.find_free(len).ok_or(SpaceError::OutOfMemory) }
            }
        }
    }

    fn find_free(&mut self, len: u64) -> Option<u64> {
        // Mappings never come near the break or the image.
        let mut find = |align| self.regions.find_free(len, align, LOW_END, self.mappings_end);
        let aligned = if len >= LARGE_REGION_BYTES { find(LARGE_PAGE_BYTES) } else { None };
        aligned.or_else(|| find(PAGE_BYTES))
    }

    fn map(
        &mut self,
        placement: Placement,
        len: u64,
        protection: Protection,
        kind: RegionKind,
    ) -> Result<u64, SpaceError> {
        let is_charged = protection.contains(Protection::WRITE) && kind.is_promised();
        let allowed = Protection::all();
        self.check_limits(placement, len, protection.contains(Protection::WRITE))?;
        let terms = Terms { protection, allowed, is_charged, is_locked: self.locks_new(), moving: 0 };
        self.map_kind(placement, len, terms, |_| kind)
    }

    /// Maps a region of the kind that `kind` makes of its start.
    fn map_kind(
        &mut self,
        placement: Placement,
        len: u64,
        terms: Terms,
        kind: impl FnOnce(u64) -> RegionKind,
    ) -> Result<u64, SpaceError> {
        let len = page_up(len);
        if len == 0 || len > USER_END {
            return Err(SpaceError::OutOfMemory);
        }
        if let Placement::Fixed(start) | Placement::FixedNoReplace(start) = placement {
            if start.checked_add(len).is_none_or(|end| end > USER_END) {
                return Err(SpaceError::OutOfMemory);
            }
            check_range(start, len)?;
            if start < LOWEST {
                return Err(SpaceError::BadRange);
            }
        }
        if self.regions.len() >= MAX_REGIONS {
            return Err(SpaceError::OutOfMemory);
        }
        let start = self.place(placement, len)?;
        let end = start + len;
        let Terms { protection, allowed, is_charged, is_locked, moving } = terms;
        let region = Region { start, end, protection, allowed, kind: kind(start), is_charged, is_locked };
        let replaced: u64 = self.regions.overlapping(start, end).map(|piece| piece.charged_pages()).sum();
        self.check_charge(start, end, region.charged_pages(), moving + replaced)?;
        if matches!(placement, Placement::Fixed(_)) {
            // The tables stay: a strict promise has made them.
            self.remove(start, end)?;
        }
        self.regions.insert(region)?;
        // Not before: what is mapped now may be the object that was there, or one that no other region shows.
        self.forget_unused_objects();
        self.charged_pages += region.charged_pages();
        self.publish();
        Ok(start)
    }

    fn unmap(&mut self, start: u64, end: u64) -> Result<(), SpaceError> {
        self.remove(start, end)?;
        self.forget_unused_objects();
        page_table::prune(start, end, |span| self.regions.is_free(span.start, span.end));
        Ok(())
    }

    /// Takes regions and their pages away, but for the page tables.
    fn remove(&mut self, start: u64, end: u64) -> Result<(), SpaceError> {
        self.check_split(start, end)?;
        self.free_pages(start, end)?;
        self.remove_regions(start, end);
        Ok(())
    }
}

/// What a mapping takes the place of is mostly given back before, piece by piece: at the end both happen at once. Not where the
/// mapping may be refused after that.
fn discard_replaced(placement: Placement, len: u64) {
    let Placement::Fixed(start) = placement else { return };
    let len = page_up(len);
    let is_good = check_range(start, len).is_ok()
        && start >= LOWEST
        && len / PAGE_BYTES <= frames::total_pages() as u64;
    let has_room = SPACE.lock().regions.len() < MAX_REGIONS;
    if is_good && has_room && len > DISCARDED_AT_ONCE && !is_strict() && !limits::has_limits() {
        // What fails here, fails again.
        let _ = pieces::discard(start, start + len);
    }
}

/// Maps `len` bytes of zeros; answers where. Strict promises are made without a reserve (`MAP_NORESERVE`), too.
pub(crate) fn map(
    placement: Placement,
    len: u64,
    protection: Protection,
    is_reserved: bool,
) -> Result<u64, SpaceError> {
    let kind = if is_reserved || is_strict() { RegionKind::Anonymous } else { RegionKind::Unreserved };
    discard_replaced(placement, len);
    change(|space| space.map(placement, len, protection, kind))
}

/// Unmaps what is mapped in a range.
pub(crate) fn unmap(start: u64, len: u64) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    pieces::unmap(start, end)
}

/// Checks that a range is mapped, for calls that need no more.
pub(crate) fn check_mapped(start: u64, len: u64) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    if SPACE.lock().regions.is_covered(start, end) { Ok(()) } else { Err(SpaceError::NotMapped) }
}

/// Notes which pages from `start` on, which is a page's start, are in memory: 1 for each that is.
pub(crate) fn note_present(start: u64, pages: &mut [u8]) {
    let _space = SPACE.lock();
    let end = start.saturating_add(pages.len() as u64 * PAGE_BYTES);
    pages.fill(0);
    let mut at = start;
    while let Some(present) = page_table::next_mapped(at, end) {
        pages[((present - start) / PAGE_BYTES) as usize] = 1;
        at = present + PAGE_BYTES;
    }
}

/// Runs `work` with the address space locked, for what asks cores to forget translations. It must not touch the address space.
pub(crate) fn locked(work: impl FnOnce()) {
    let _turn = SPACE.lock();
    work();
}

/// A full memory barrier on every core that runs the app (membarrier(2)).
pub(crate) fn fence_all_cores() {
    // Whoever is asked to forget nothing is interrupted, or switches threads before it goes on: either is a
    // barrier.
    let _turn = SPACE.lock();
    tlb::flush(0, 0);
}
