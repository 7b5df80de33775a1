//! Mappings of objects that lose pages: a file is truncated, a hole is punched.

use core::ops::Range;

use unikernel_mm::{Region, RegionKind};

use super::{PageSource, SPACE, Space};
use crate::mem::user::USER_END;

/// What a private mapping has copied of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// It stays: the bytes changed, but the page is still the object's.
    Keep,
    /// It goes, too: the object ends before it.
    Drop,
}

/// Takes pages of an object, by number, out of all mappings, so that the next touch asks the object anew. When this
/// returns, no core reaches the old pages any more. Called without locks that a [`PageSource`] takes when it is asked,
/// and after the object has changed, so that no fault brings the old page back.
pub fn unmap_object(object: &dyn PageSource, pages: Range<u64>, copies: Copies) {
    let mut space = SPACE.lock();
    let identity = object.identity();
    if !(0..space.objects.len()).any(|number| space.is_object(number as u32, identity)) {
        return;
    }
    let mut at = 0;
    while let Some((region, range)) = space.next_shown(at, identity, &pages, copies) {
        at = region.end;
        // No large page shows an object, so nothing is split, and regions lie outside of the kernel's image: nothing can
        // fail.
        let _ = space.free_pages(range.start, range.end);
    }
    space.publish();
}

impl Space {
    /// The next region from `at` on that shows some of an object's pages, and at which addresses.
    fn next_shown(
        &self,
        at: u64,
        identity: usize,
        pages: &Range<u64>,
        copies: Copies,
    ) -> Option<(Region, Range<u64>)> {
        self.regions.overlapping(at, USER_END).find_map(|region| {
            let RegionKind::Object(part) = region.kind else { return None };
            let is_spared = copies == Copies::Keep && !part.is_shared;
            if is_spared || !self.is_object(part.object, identity) {
                return None;
            }
            let range = part.addresses_of(&region, pages.start..pages.end);
            (range.start < range.end).then_some((region, range))
        })
    }
}
