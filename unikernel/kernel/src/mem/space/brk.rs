//! The break (brk(2)), which few allocators use today.

use super::{Placement, Protection, RegionKind, Space, change, pieces};
use crate::kmem::layout::page_up;

/// Moves the break (brk(2)); answers where it was, and where it is then.
pub(crate) fn set_break(wanted: u64) -> (u64, u64) {
    let (old, new) = change(|space| (space.break_end, space.set_break(wanted)));
    let (old_page, new_page) = (page_up(old), page_up(new));
    if new_page < old_page {
        // Nothing is split any more that was not before.
        let _ = pieces::unmap_checked(new_page, old_page);
    }
    (old, new)
}

impl Space {
    /// Moves the break; what it leaves behind is still to be unmapped.
    fn set_break(&mut self, wanted: u64) -> u64 {
        let (start, old) = (self.break_start, self.break_end);
        if wanted < start || wanted > self.break_limit {
            return old;
        }
        let (old_page, new_page) = (page_up(old), page_up(wanted));
        let can_move = if new_page > old_page {
            let protection = Protection::READ | Protection::WRITE;
            let kind = RegionKind::Anonymous;
            self.map(Placement::FixedNoReplace(old_page), new_page - old_page, protection, kind).is_ok()
        } else {
            new_page == old_page || self.check_split(new_page, old_page).is_ok()
        };
        if can_move {
            self.break_end = wanted;
        }
        self.break_end
    }
}
