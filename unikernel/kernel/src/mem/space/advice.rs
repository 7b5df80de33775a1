//! What the app says about memory that it has (madvise(2)).

use unikernel_mm::{PAGE_BYTES, Protection, Region, RegionKind};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::pieces::in_pieces;
use super::{SPACE, Space, SpaceError, check_range};
use crate::kmem::page_table;
use crate::mem::fault::{self, Access, Failure};
use crate::task::{process, scheduler};

/// What is to happen to a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// Nothing that there would be to do here.
    Nothing,
    /// The same, but not for pages of the kernel's.
    NothingForKernels,
    /// The same, and not for memory that is locked.
    NothingForLocked,
    /// The same, for private memory that is no file's only.
    NothingForFiles,
    /// Forget the content: the next touch finds zeros, or what the file has.
    Discard,
    /// The same, of locked memory, too.
    DiscardLocked,
    /// The same, for private memory only that is neither a file's nor locked.
    DiscardOwn,
}

impl Advice {
    fn fits(self, region: &Region) -> bool {
        match self {
            Self::Nothing => true,
            Self::NothingForKernels | Self::DiscardLocked => region.kind != RegionKind::Kernel,
            Self::NothingForLocked | Self::Discard => region.kind != RegionKind::Kernel && !region.is_locked,
            Self::NothingForFiles => !matches!(region.kind, RegionKind::Kernel | RegionKind::Object(_)),
            Self::DiscardOwn => Self::NothingForFiles.fits(region) && !region.is_locked,
        }
    }

    /// The image's pages hold more than zeros and could not be brought back.
    fn discards(self, region: &Region) -> bool {
        matches!(self, Self::Discard | Self::DiscardLocked | Self::DiscardOwn)
            && region.kind != RegionKind::Image
    }
}

/// Takes advice about a range. As in Linux, a hole in it is told of once the rest is done.
pub(crate) fn advise(start: u64, len: u64, advice: Advice) -> Result<(), SpaceError> {
    let end = check_range(start, len)?;
    let mut mapped_to = start;
    let mut has_hole = false;
    in_pieces(start, end, |space, at| {
        let Some(piece) = space.regions.first_overlapping(at, end) else { return Ok(end) };
        if !advice.fits(&piece) {
            return Err(SpaceError::NotSuitable);
        }
        has_hole |= piece.start != mapped_to;
        mapped_to = piece.end;
        if !advice.discards(&piece) {
            return Ok(piece.end);
        }
        let next = space.free_some(piece.start, piece.end)?;
        space.publish();
        // The rest of the region is looked at anew.
        mapped_to = next;
        Ok(next)
    })?;
    if has_hole || mapped_to < end { Err(SpaceError::NotMapped) } else { Ok(()) }
}

/// Why pages could not be faulted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PopulateError {
    /// The range is no good, or what is mapped there does not allow the access.
    NotAllowed,
    /// Nothing is mapped there.
    NotMapped,
    /// Memory is exhausted.
    OutOfMemory,
    /// A touch would end in SIGBUS: behind the end of a file, or its disk cannot be read or is full.
    NoPage,
    /// The app ends.
    Interrupted,
}

impl From<Failure> for PopulateError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotMapped => Self::NotMapped,
            Failure::NotAllowed => Self::NotAllowed,
            Failure::NoPage | Failure::NotReadable => Self::NoPage,
            Failure::OutOfMemory => Self::OutOfMemory,
        }
    }
}

/// Has all pages of a range be there as after a load, or a store, from each. May sleep.
pub(crate) fn populate(start: u64, len: u64, is_write: bool) -> Result<(), PopulateError> {
    let end = check_range(start, len).map_err(|_| PopulateError::NotAllowed)?;
    let mut at = start;
    while at < end {
        let next = SPACE.lock().pass_present(at, end, is_write)?;
        if next == at {
            fault::handle(at, Access { is_write, is_execute: false })?;
            at += PAGE_BYTES;
        } else {
            at = next;
        }
        if process::is_ending() {
            return Err(PopulateError::Interrupted);
        }
        scheduler::breathe();
    }
    Ok(())
}

/// Pages that are looked at with the address space locked, at most.
const AT_ONCE: u64 = 512;

impl Space {
    /// Passes over pages from `at` on that are there already; answers the first that may not be.
    fn pass_present(&self, at: u64, end: u64, is_write: bool) -> Result<u64, PopulateError> {
        let region = self.regions.find(at).ok_or(PopulateError::NotMapped)?;
        let needed = if is_write { Protection::WRITE } else { Protection::READ };
        if region.kind == RegionKind::Kernel || !region.protection.contains(needed) {
            return Err(PopulateError::NotAllowed);
        }
        let end = end.min(region.end).min(at + AT_ONCE * PAGE_BYTES);
        let wanted = if is_write { Flags::WRITABLE } else { Flags::PRESENT };
        let is_there = |page| {
            page_table::lookup(VirtAddr::new(page)).is_some_and(|mapping| mapping.flags.contains(wanted))
        };
        Ok((at..end).step_by(PAGE_BYTES as usize).find(|page| !is_there(*page)).unwrap_or(end))
    }
}
