//! Mappings of objects that lose pages: a file is truncated, a hole is punched.

use core::ops::Range;

use unikernel_mm::{ObjectPart, Region, RegionKind};

use super::object::visit_all;
use super::pieces::MOST_REGIONS;
use super::{PageSource, Space};
use crate::kmem::layout::USER_END;

/// What a private mapping has copied of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copies {
    /// It stays: the bytes changed, but the page is still the object's.
    Keep,
    /// It goes, too: the object ends before it.
    Drop,
}

/// Takes pages of an object, by number, out of all mappings, so that the next touch asks the object anew. When this
/// returns, no core reaches the old pages any more. Called without locks that a [`PageSource`] takes when it is asked,
/// and after the object has changed, so that no fault brings the old page back.
pub(crate) fn unmap_object(object: &dyn PageSource, pages: Range<u64>, copies: Copies) {
    let identity = object.identity();
    visit_all(|space, at| match space.next_shown(at, identity, &pages, copies) {
        Err(passed) => passed,
        Ok((region, part)) => {
            let range = part.addresses_of(&region, pages.clone());
            let (start, end) = (range.start.max(at), range.end);
            // No large page shows an object, so nothing is split, and regions lie outside of the kernel's image: nothing
            // can fail.
            let next = space.free_some(start, end).unwrap_or(end);
            space.publish();
            if next < end { next } else { region.end }
        }
    });
}

impl Space {
    /// The next region from `at` on that shows some of an object's pages; or up to where there is none among as many as may be
    /// looked at with one lock.
    pub(super) fn next_shown(
        &self,
        at: u64,
        identity: usize,
        pages: &Range<u64>,
        copies: Copies,
    ) -> Result<(Region, ObjectPart), u64> {
        let mut passed = USER_END;
        for (count, region) in self.regions.overlapping(at, USER_END).enumerate() {
            if count == MOST_REGIONS {
                passed = region.start;
                break;
            }
            let RegionKind::Object(part) = region.kind else { continue };
            let is_spared = copies == Copies::Keep && !part.is_shared;
            if is_spared || !self.is_object(part.object, identity) {
                continue;
            }
            let range = part.addresses_of(&region, pages.clone());
            if range.start < range.end {
                return Ok((region, part));
            }
        }
        Err(passed)
    }
}
