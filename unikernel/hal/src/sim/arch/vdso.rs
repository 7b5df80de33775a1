//! The app has no use for the clock's page, but it is mapped.

use x86_64::PhysAddr;

use crate::sim::image;

/// Where the object lies.
pub fn image() -> PhysAddr {
    PhysAddr::new(image::VDSO_PAGE)
}

/// Where the clock's page lies.
pub fn clock() -> PhysAddr {
    PhysAddr::new(image::CLOCK_PAGE)
}
