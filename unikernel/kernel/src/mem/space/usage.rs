//! How much the app uses, and where.

use alloc::sync::Arc;

use super::{PageSource, Region, RegionKind, SPACE};

/// Sizes in pages, for `/proc` and metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Present.
    pub resident_pages: u64,
    /// Those of them that a file or another object has, too.
    pub shared_pages: u64,
    /// Of the image, which is no part of the memory that is given out.
    pub image_pages: u64,
    /// Promised as writable.
    pub charged_pages: u64,
    /// Mapped.
    pub mapped_pages: u64,
    /// Of them, locked.
    pub locked_pages: u64,
}

/// How much the app uses.
pub(crate) fn usage() -> Usage {
    let space = SPACE.lock();
    let totals = space.regions.totals();
    Usage {
        resident_pages: space.resident_pages,
        shared_pages: space.shared_pages.len() as u64,
        image_pages: totals.image,
        charged_pages: space.charged_pages,
        mapped_pages: totals.mapped,
        locked_pages: totals.locked,
    }
}

/// A region, and what it shows.
pub(crate) struct Shown {
    /// The region.
    pub region: Region,
    /// The object, and from which of its bytes on.
    pub object: Option<(Arc<dyn PageSource>, u64)>,
    /// True if the break has grown over it.
    pub is_heap: bool,
}

/// All regions, lowest first; each as it is when its turn comes.
pub(crate) fn listing() -> impl Iterator<Item = Shown> {
    let mut next = 0;
    core::iter::from_fn(move || {
        let space = SPACE.lock();
        let region = space.regions.first_overlapping(next, u64::MAX)?;
        next = region.end;
        let object = match region.kind {
            RegionKind::Object(part) => {
                let object = space.objects[part.object as usize].as_ref();
                object.map(|object| (Arc::clone(object), part.offset_of(region.start)))
            }
            _ => None,
        };
        let is_heap = region.start < space.break_end && region.end > space.break_start;
        Some(Shown { region, object, is_heap })
    })
}
