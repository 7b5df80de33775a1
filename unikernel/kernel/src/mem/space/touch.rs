//! The first touch of a page: what is promised becomes memory.

use alloc::sync::Arc;

use unikernel_hal::frame::{Frame, LargeFrame};
use unikernel_mm::PAGE_BYTES;
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::limits::exceeds_stack;
use super::{
    CHARGED_PAGE, LARGE_REGION_BYTES, PageSource, Protection, Region, RegionKind, SPACE, Space, flags_of,
    is_strict, release_clean,
};
use crate::arch::paging;
use crate::kmem::frames;
use crate::kmem::layout::{self, LARGE_PAGE_BYTES};
use crate::kmem::page_table::{self, OutOfFrames};
use crate::mem::fault::{Access, Failure};
use crate::mem::reclaim;

/// Small pages that come with one fault, if they are in the region and absent.
const FAULT_AROUND_PAGES: u64 = 4;
impl Space {
    fn fault_in(&mut self, address: u64, access: Access) -> Result<(), FaultError> {
        let region = *self.regions.find(address).ok_or(Failure::NotMapped)?;
        if exceeds_stack(&region, address) {
            return Err(Failure::NotMapped.into());
        }
        let needed = match access {
            Access { is_execute: true, .. } => Protection::EXECUTE,
            Access { is_write: true, .. } => Protection::WRITE,
            _ => Protection::READ,
        };
        let is_allowed =
            region.protection.contains(needed) || needed == Protection::READ && !region.protection.is_empty();
        let flags = flags_of(region.protection).filter(|_| is_allowed).ok_or(Failure::NotAllowed)?;
        if let RegionKind::Object(part) = region.kind {
            return self.fault_in_object(address, part, region.is_charged, flags, access);
        }
        if self.fault_in_large(address, &region, flags).map_err(|_| Failure::OutOfMemory)? {
            return Ok(());
        }
        Ok(self.fault_in_small(address, &region, flags)?)
    }

    /// Maps a large page if it fits the region and memory is plentiful.
    fn fault_in_large(&mut self, address: u64, region: &Region, flags: Flags) -> Result<bool, OutOfFrames> {
        const PAGES: u64 = LARGE_PAGE_BYTES / PAGE_BYTES;
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
        let Some(block) = LargeFrame::alloc_zeroed() else { return Ok(false) };
        let mark = if region.is_charged { CHARGED_PAGE } else { Flags::empty() };
        if !block.map(VirtAddr::new(start), flags | mark)? {
            return Ok(false);
        }
        self.resident_pages += PAGES;
        self.kept_pages += if region.is_charged { PAGES } else { 0 };
        Ok(true)
    }

    /// Maps the page at `address` and a few after it.
    fn fault_in_small(&mut self, address: u64, region: &Region, flags: Flags) -> Result<(), Failure> {
        let first = layout::page_down(address);
        let end = region.end.min(first + FAULT_AROUND_PAGES * PAGE_BYTES);
        for page in (first..end).step_by(PAGE_BYTES as usize) {
            let virt = VirtAddr::new(page);
            if page_table::lookup(virt).is_some() {
                // The first page is there if another thread was faster, or if the processor
                // remembered its absence.
                paging::forget(virt);
                continue;
            }
            match self.map_own_page(virt, region.is_charged, flags, |_| {}) {
                Err(failure) if page == first => return Err(failure),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Maps a page of the app's own, zeros that `fill` may fill.
    pub(super) fn map_own_page(
        &mut self,
        virt: VirtAddr,
        is_charged: bool,
        flags: Flags,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Failure> {
        let mut frame = take_app_frame(is_charged).ok_or(Failure::OutOfMemory)?;
        fill(frame.bytes_mut());
        let mark = if is_charged { CHARGED_PAGE } else { Flags::empty() };
        frame.map(virt, flags | mark).map_err(|_| Failure::OutOfMemory)?;
        self.resident_pages += 1;
        self.kept_pages += u64::from(is_charged);
        Ok(())
    }
}

/// A zeroed frame for the app, if the kernel's reserve is not touched by it. A strict promise has set the frame aside, beyond
/// the reserve as it was then: what the kernel has used of that since does not matter.
fn take_app_frame(is_charged: bool) -> Option<Frame> {
    if is_charged && is_strict() {
        return Frame::alloc_zeroed();
    }
    reclaim::make_room(1);
    if frames::can_app_take(1) { Frame::alloc_zeroed() } else { None }
}

/// Why a page could not be made present.
pub(in crate::mem) enum FaultError {
    /// It cannot be.
    Failed(Failure),
    /// This page of the object has to be loaded first, which may sleep.
    NotLoaded(Arc<dyn PageSource>, u64),
    /// What would be written to this page of the object has no place yet; finding one may sleep.
    NoPlace(Arc<dyn PageSource>, u64),
}

impl From<Failure> for FaultError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Makes an access possible, if the region around the address allows it.
pub(in crate::mem) fn fault_in(address: u64, access: Access) -> Result<(), FaultError> {
    let attempt = || {
        let mut space = SPACE.lock();
        let outcome = space.fault_in(address, access);
        space.publish();
        outcome
    };
    match attempt() {
        // With the address space locked, no mapped page could be let go.
        Err(FaultError::Failed(Failure::OutOfMemory)) if release_clean() > 0 => attempt(),
        outcome => outcome,
    }
}
