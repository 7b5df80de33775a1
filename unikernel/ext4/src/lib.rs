//! ext4, as `mke2fs -t ext4` makes it, over a [`BlockDevice`].
//!
//! Layers, each of which uses only those below it:
//!
//! - names and data: [`Ext4`]'s public operations (`names`, `rename`, `data`, `write`, `truncate`, `xattr`);
//! - structures: directories (`directory`), extent trees (`extents`), inodes (`inode`), the orphan list (`orphan`);
//! - space: bitmaps and group descriptors (`blocks`, `inodes`);
//! - the running transaction (`transaction`) over the metadata cache (`cache`);
//! - the journal (`journal`): commit, checkpoint, replay;
//! - the disk's bytes (`layout`), checksums, dimensions (`geometry`).
//!
//! Principles. Every change of metadata goes through the journal; data goes straight to its place, before the
//! metadata that makes it part of a file. An operation that fails has changed nothing. What the disk says is
//! checked where it is read, so a damaged image gives an error. Time comes in as an argument.
//!
//! Limits. Block-mapped files of ext3, inline data, encryption, case folding, quotas, clusters (`bigalloc`) and
//! external journals are not read; `features` says which of those refuse a mount.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bitmap;
mod blocks;
mod cache;
mod checksum;
mod data;
mod device;
mod directory;
mod error;
mod extents;
mod features;
mod filesystem;
mod format;
mod geometry;
mod inode;
mod inodes;
mod journal;
mod layout;
mod mount;
mod names;
mod orphan;
mod rename;
mod transaction;
mod trim;
mod truncate;
mod types;
mod write;
mod xattr;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;

pub use device::{BlockDevice, DeviceError, write_zeros};
pub use error::{Error, FormatError, MountError};
pub use format::FormatOptions;
pub use mount::identify;
pub use types::{
    AttributeChange, Attributes, Entry, FileKind, Identity, InodeNumber, MountMode, NewKind, NewNode,
    RenameMode, Run, Statistics, Sync, Timestamp, WriteRun,
};

use cache::Cache;
use geometry::Geometry;
use layout::Superblock;
use layout::group::Group;
use transaction::Transaction;

/// A mounted filesystem.
pub struct Ext4<D> {
    device: D,
    geometry: Geometry,
    /// As last written, but for the counts, which follow `groups`.
    superblock: Box<Superblock>,
    /// All group descriptors.
    groups: Vec<Group>,
    /// Those that changed since the last commit; some may be listed in vain.
    dirty_groups: Vec<u32>,
    cache: Cache,
    journal: Option<journal::Journal>,
    running: Transaction,
    /// When the last operation was, for commits that nobody asked for.
    latest: Timestamp,
    is_writable: bool,
    /// The feature for which the mount is read-only.
    read_only_feature: Option<String>,
    /// Free inodes and free blocks in all groups.
    free_inodes: u64,
    free_blocks: u64,
    /// Blocks set aside for data that is being written: start and length.
    reservations: BTreeMap<u64, u32>,
    reserved_blocks: u64,
    /// Inodes that somebody holds open, and how often.
    open: HashMap<u32, u32>,
    /// Inodes without a name, in the order of the list on the disk, its head last.
    orphans: Vec<u32>,
}

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod tests;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
