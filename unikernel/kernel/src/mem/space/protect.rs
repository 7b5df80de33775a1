//! What may be done with pages, and changing it (mprotect(2)).
//!
//! Memory is writable or executable (W^X). A program that writes code at run time, as just-in-time compilers do, may have
//! both at once if the command line says so (`wx=on`): there is one program, so that is a choice for it alone.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_mm::{PAGE_BYTES, Protection, RegionKind};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::limits::has_limits;
use super::pieces::in_pieces;
use super::{
    CHARGED_PAGE, MAX_REGIONS, NO_ACCESS, SHARED_PAGE, SPACE, Space, SpaceError, check_range, flags_of,
    is_strict,
};
use crate::arch::tlb;
use crate::kmem::page_table;

static HAS_WRITABLE_CODE: AtomicBool = AtomicBool::new(false);

/// Lets the app have memory that is writable and executable at once; chosen before the app is there.
pub(crate) fn allow_writable_code() {
    HAS_WRITABLE_CODE.store(true, Ordering::Relaxed);
}

/// True unless it breaks W^X, and that holds.
pub(crate) fn is_allowed(protection: Protection) -> bool {
    !protection.contains(Protection::WRITE | Protection::EXECUTE) || HAS_WRITABLE_CODE.load(Ordering::Relaxed)
}

impl Space {
    /// Changes what comes first of a range; answers where the rest begins. What comes before an obstacle is changed all the
    /// same, as Linux does.
    fn protect_some(&mut self, start: u64, end: u64, protection: Protection) -> Result<u64, SpaceError> {
        let end = self.regions_until(start, page_table::piece_end(start, end, page_table::TABLES_TO_VISIT));
        let (reach, obstacle) = self.reach_of_protect(start, end, protection);
        if reach > start {
            self.protect_all(start, reach, protection)?;
        }
        obstacle.map_or(Ok(end), Err)
    }

    /// Up to where a range may be given a protection, and what is in the way there.
    fn reach_of_protect(&self, start: u64, end: u64, protection: Protection) -> (u64, Option<SpaceError>) {
        let mut reach = start;
        for region in self.regions.overlapping(start, end) {
            if region.start != reach {
                break;
            }
            if region.kind == RegionKind::Kernel || !region.allowed.contains(protection) {
                return (reach, Some(SpaceError::NotAllowed));
            }
            reach = region.end;
        }
        (reach, (reach < end).then_some(SpaceError::NotMapped))
    }

    /// Refuses before anything is changed what goes beyond a limit or a promise, up to the first obstacle.
    fn check_protect(&self, start: u64, end: u64, protection: Protection) -> Result<(), SpaceError> {
        let (reach, _) = self.reach_of_protect(start, end, protection);
        if reach == start {
            return Ok(());
        }
        self.check_protection(start, reach, protection)?;
        self.check_charge(start, reach, self.regions.charge_of_protect(start, reach, protection), 0)
    }

    fn protect_all(&mut self, start: u64, end: u64, protection: Protection) -> Result<(), SpaceError> {
        self.check_protection(start, end, protection)?;
        if self.regions.len() + self.regions.splits_at_edges(start, end) > MAX_REGIONS {
            return Err(SpaceError::OutOfMemory);
        }
        self.check_charge(start, end, self.regions.charge_of_protect(start, end, protection), 0)?;
        // First what can fail, a page table for splitting a large page; then the books.
        let flags = flags_of(protection);
        let mut is_less_allowed = false;
        let mut newly_kept = 0;
        let regions = &self.regions;
        let is_promised = |page| regions.find(page).is_some_and(|region| region.kind.is_promised());
        let outcome = page_table::for_each_entry(start, end, |virt, mut entry, bytes| {
            let flags = flags.unwrap_or(NO_ACCESS);
            let held = entry.flags() & (SHARED_PAGE | CHARGED_PAGE);
            let is_writable = protection.contains(Protection::WRITE);
            let is_new_charge = is_writable && held.is_empty() && is_promised(virt.as_u64());
            newly_kept += if is_new_charge { bytes / PAGE_BYTES } else { 0 };
            let held = if is_new_charge { CHARGED_PAGE } else { held };
            let flags = narrowed(entry.flags(), flags | held);
            is_less_allowed |= entry.set_flags(flags);
            ControlFlow::Continue(())
        });
        // The guard of a new thread's stack lies where nothing is mapped yet: no reason to ask every core.
        if is_less_allowed {
            tlb::flush(start, end);
        }
        // Marked pages count, whatever becomes of the rest.
        self.kept_pages += newly_kept;
        outcome?;
        self.charged_pages += self.regions.protect(start, end, protection)?;
        self.publish();
        Ok(())
    }
}

/// True if a mapping there grows downwards: only the first stack does, and it has its full length.
pub(crate) fn grows_down(address: u64) -> bool {
    SPACE.lock().regions.find(address).is_some_and(|region| region.kind == RegionKind::Stack)
}

/// Changes what may be done with a range.
pub(crate) fn protect(start: u64, len: u64, protection: Protection) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    if is_strict() || has_limits() {
        SPACE.lock().check_protect(start, end, protection)?;
    }
    in_pieces(start, end, |space, at| space.protect_some(at, end, protection))
}

/// The flags that an entry gets after a change of its region's protection: an object's page that may not be written yet
/// is not opened by the way.
fn narrowed(held: Flags, mut wanted: Flags) -> Flags {
    if held.contains(SHARED_PAGE) && !held.contains(Flags::WRITABLE) {
        wanted -= Flags::WRITABLE;
    }
    wanted
}
