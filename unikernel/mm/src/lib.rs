//! Memory-management logic without memory: what the kernel's `mem` room decides, as plain data
//! structures that are tested on the host.
//!
//! - [`buddy`]: which pages are free, in blocks;
//! - [`kernel_place`]: where the kernel runs, at random;
//! - [`places`]: where the app's things are, at random;
//! - [`region`]: one run of the app's address space, and what may be done with it;
//! - [`region_map`]: all of them, ordered: `mmap`, `munmap`, `mprotect` as pure operations.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buddy;
pub mod kernel_place;
pub mod places;
pub mod region;
pub mod region_map;

pub use buddy::{Buddy, PageEntry};
pub use region::{ObjectPart, Protection, Region, RegionKind};
pub use region_map::{RangeError, RegionMap};

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
