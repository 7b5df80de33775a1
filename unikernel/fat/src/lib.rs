//! FAT12, FAT16 and FAT32 with long names (vfat), read-only, over a [`Volume`].
//!
//! Layers, each of which uses only those below it:
//!
//! - [`Fat`] as the kernel sees every filesystem (`filesystem`): names, attributes, content;
//! - directories (`directory`): slots, long and short names (`name`), what an entry says (`entry`, `time`);
//! - chains of clusters (`chain`) in the allocation table (`table`);
//! - where everything lies, by the boot sector (`geometry`), and what was read of it lately (`cache`).
//!
//! Principles. An inode's number is the place of its entry on the volume, so that nothing has to be remembered of what was looked up.
//! What the volume says is checked where it is read: a lie gives an error, never a panic, and no loop is longer than the bounds
//! at [`MAX_DIRECTORY_BYTES`] and the number of clusters. Memory is bounded, and its lack is an error.
//!
//! Source: Microsoft, "FAT: General Overview of On-Disk Format", 1.03, and for what it leaves open what Linux's `vfat` does.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cache;
mod chain;
mod directory;
mod entry;
mod error;
mod filesystem;
mod geometry;
mod mount;
mod name;
mod table;
mod time;

pub use error::MountError;
pub use mount::identify;
pub use unikernel_vfs::{Identity, ReadError, Volume};

use alloc::boxed::Box;

use cache::Cache;
use chain::Chains;
use geometry::Geometry;

/// A directory has at most 65,536 slots.
pub const MAX_DIRECTORY_BYTES: u32 = 65_536 * entry::SLOT_BYTES;

/// A mounted filesystem.
pub struct Fat<'volume> {
    volume: Box<dyn Volume + Send + 'volume>,
    geometry: Geometry,
    cache: Cache,
    chains: Chains,
    /// Free clusters, once they were asked for.
    free_clusters: Option<u32>,
}

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod tests;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
