//! What the app lets itself map at most (setrlimit(2)): of everything (`RLIMIT_AS`), and of what only it can change
//! (`RLIMIT_DATA`). (Linux: `may_expand_vm`.)

use linux_raw_sys::general::{RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK};

use super::{PAGE_BYTES, Placement, Protection, Region, RegionKind, Space, SpaceError};
use crate::task::limits::{self, UNLIMITED};

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
        self.check_growth(pages, if region.is_data() { pages } else { 0 })
    }

    /// Whether a range may be given a protection, which may make it data.
    pub(super) fn check_protection(&self, start: u64, end: u64, to: Protection) -> Result<(), SpaceError> {
        if !has_limits() {
            return Ok(());
        }
        let becomes_data = |piece: &Region| !piece.is_data() && Region { protection: to, ..*piece }.is_data();
        let more = self.regions.overlapping(start, end).filter(becomes_data).map(|piece| piece.pages()).sum();
        self.check_growth(0, more)
    }

    fn check_growth(&self, pages: u64, data_pages: u64) -> Result<(), SpaceError> {
        let is_within = |there: u64, more: u64, resource| {
            let limit = limits::soft(resource);
            more == 0 || limit == UNLIMITED || there.saturating_add(more) <= limit / PAGE_BYTES
        };
        let there = self.regions.totals();
        let is_good =
            is_within(there.mapped, pages, RLIMIT_AS) && is_within(there.data, data_pages, RLIMIT_DATA);
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
