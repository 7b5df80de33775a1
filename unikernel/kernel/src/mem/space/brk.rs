//! The break (brk(2)), which few allocators use today.

use super::{Placement, Protection, RegionKind, Space, change};
use crate::mem::layout::page_up;

/// Moves the break (brk(2)); answers where it was, and where it is then.
pub fn set_break(wanted: u64) -> (u64, u64) {
    change(|space| (space.break_end, space.set_break(wanted)))
}

impl Space {
    fn set_break(&mut self, wanted: u64) -> u64 {
        let (start, old) = (self.break_start, self.break_end);
        if wanted < start || wanted > self.break_limit {
            return old;
        }
        let (old_page, new_page) = (page_up(old), page_up(wanted));
        let changed = if new_page > old_page {
            let protection = Protection::READ | Protection::WRITE;
            let kind = RegionKind::Anonymous;
            self.map(Placement::FixedNoReplace(old_page), new_page - old_page, protection, kind).is_ok()
        } else {
            new_page == old_page || self.unmap(new_page, old_page).is_ok()
        };
        if changed {
            self.break_end = wanted;
        }
        self.break_end
    }
}
