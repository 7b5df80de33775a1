//! How much the app uses, and where.

use alloc::vec::Vec;

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

/// A copy of all regions, lowest first.
pub fn regions() -> Vec<Region> {
    SPACE.lock().regions.iter().copied().collect()
}
