//! The first touch of a page: what is promised becomes memory.

use alloc::sync::Arc;

use unikernel_mm::PAGE_BYTES;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::{
    LARGE_REGION_BYTES, PageSource, Protection, Region, RegionKind, SPACE, Space, flags_of, release_clean,
};
use crate::mem::fault::{Access, Failure};
use crate::mem::layout::{self, LARGE_PAGE_BYTES};
use crate::mem::page_table::{self, OutOfFrames};
use crate::mem::{frames, heap};

/// Small pages brought in with one fault, if they are in the region and absent.
const FAULT_AROUND_PAGES: u64 = 4;
impl Space {
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
pub(super) fn take_app_frame() -> Option<PhysAddr> {
    heap::make_room(1);
    if frames::can_app_take(1) { frames::alloc_zeroed() } else { None }
}

/// Why a page could not be brought in.
pub(in crate::mem) enum Obstacle {
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
pub(in crate::mem) fn bring_in(address: u64, access: Access) -> Result<(), Obstacle> {
    let attempt = || {
        let mut space = SPACE.lock();
        let outcome = space.bring_in(address, access);
        space.publish();
        outcome
    };
    match attempt() {
        // With the address space locked, no mapped page could be let go.
        Err(Obstacle::Failed(Failure::OutOfMemory)) if release_clean() > 0 => attempt(),
        outcome => outcome,
    }
}
