//! File trees without a disk: what the initrd holds, and what the kernel adds to it.
//!
//! - [`cpio`]: reads an archive as a sequence of entries, trusting none of its numbers;
//! - [`Tree`]: directories, files, links and the kernel's special nodes, built from archives and
//!   single additions, then only read;
//! - path lookup and directory listing are methods of the tree.
//!
//! File contents stay where the archive has them. A tree does not know what its special nodes
//! mean: the kernel picks the type.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cpio;
mod lookup;
mod tree;

pub use cpio::ArchiveError;
pub use lookup::{LastLink, LookupError};
pub use tree::{AddError, Attributes, Directory, Entry, Node, NodeId, Tree};

/// The longest name in a directory (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;
