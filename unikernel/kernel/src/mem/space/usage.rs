//! How much the app uses, and where.

use super::{Region, RegionKind, SPACE};

/// Sizes in pages, for `/proc` and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
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
}

/// How much the app uses.
pub fn usage() -> Usage {
    let space = SPACE.lock();
    let mapped_pages = space.regions.iter().map(Region::pages).sum();
    let image = space.regions.iter().filter(|region| region.kind == RegionKind::Image);
    Usage {
        resident_pages: space.resident_pages,
        shared_pages: space.shared_pages.len() as u64,
        image_pages: image.map(Region::pages).sum(),
        charged_pages: space.charged_pages,
        mapped_pages,
    }
}

/// All regions, lowest first; each as it is when its turn comes.
pub fn regions() -> impl Iterator<Item = Region> {
    let mut next = 0;
    core::iter::from_fn(move || {
        let region = SPACE.lock().regions.first_overlapping(next, u64::MAX)?;
        next = region.end;
        Some(region)
    })
}
