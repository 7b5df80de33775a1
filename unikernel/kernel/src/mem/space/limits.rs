//! What the app lets itself map at most (setrlimit(2)): of everything (`RLIMIT_AS`), and of what only it can change
//! (`RLIMIT_DATA`). (Linux: `may_expand_vm`.)

use linux_raw_sys::general::{RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK};
use unikernel_mm::ObjectPart;

use super::{PAGE_BYTES, Placement, Protection, Region, RegionKind, Space, SpaceError};
use crate::task::limits::{self, UNLIMITED};

/// True for what `RLIMIT_DATA` counts: private pages that can be written, but not the stack.
fn is_data(region: &Region) -> bool {
    let is_private = match region.kind {
        RegionKind::Anonymous | RegionKind::Unreserved | RegionKind::Image => true,
        RegionKind::Object(ObjectPart { is_shared, .. }) => !is_shared,
        RegionKind::Stack | RegionKind::Kernel => false,
    };
    is_private && region.protection.contains(Protection::WRITE)
}

impl Space {
    /// Whether a new mapping stays within the limits.
    pub(super) fn check_limits(&self, place: Placement, len: u64, is_data: bool) -> Result<(), SpaceError> {
        if !has_limits() {
            return Ok(());
        }
        let replaced: u64 = match place {
            Placement::Fixed(start) => {
                self.regions.overlapping(start, start.saturating_add(len)).map(|piece| piece.pages()).sum()
            }
            _ => 0,
        };
        let more = len.div_ceil(PAGE_BYTES).saturating_sub(replaced);
        self.check_growth(more, if is_data { more } else { 0 })
    }

    /// Whether a region may grow by so many pages.
    pub(super) fn check_longer(&self, region: &Region, pages: u64) -> Result<(), SpaceError> {
        self.check_growth(pages, if is_data(region) { pages } else { 0 })
    }

    /// Whether a range may be given a protection, which may make it data.
    pub(super) fn check_protection(&self, start: u64, end: u64, to: Protection) -> Result<(), SpaceError> {
        if !has_limits() {
            return Ok(());
        }
        let becomes_data = |piece: &Region| !is_data(piece) && is_data(&Region { protection: to, ..*piece });
        let more = self.regions.overlapping(start, end).filter(becomes_data).map(|piece| piece.pages()).sum();
        self.check_growth(0, more)
    }

    fn check_growth(&self, pages: u64, data_pages: u64) -> Result<(), SpaceError> {
        let is_within = |more: u64, resource, counts: fn(&Region) -> bool| {
            let limit = limits::soft(resource);
            if more == 0 || limit == UNLIMITED {
                return true;
            }
            let there: u64 = self.regions.iter().filter(|region| counts(region)).map(Region::pages).sum();
            there.saturating_add(more) <= limit / PAGE_BYTES
        };
        let is_good = is_within(pages, RLIMIT_AS, |_| true) && is_within(data_pages, RLIMIT_DATA, is_data);
        if is_good { Ok(()) } else { Err(SpaceError::OutOfMemory) }
    }
}

/// True if the app has set itself any.
pub(super) fn has_limits() -> bool {
    limits::soft(RLIMIT_AS) != UNLIMITED || limits::soft(RLIMIT_DATA) != UNLIMITED
}

/// True if the first stack would grow beyond `RLIMIT_STACK` with a page at `address`.
pub(super) fn exceeds_stack(region: &Region, address: u64) -> bool {
    region.kind == RegionKind::Stack && region.end - address > limits::soft(RLIMIT_STACK)
}
