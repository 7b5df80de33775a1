//! What stands behind an app's descriptors, as far as it needs no device and no clock.
//!
//! File trees, which hold what the initrd holds and what the kernel adds to it:
//!
//! - [`cpio`]: reads an archive as a sequence of entries, trusting none of its numbers;
//! - [`Tree`]: directories, files, links and the kernel's special nodes: made, linked, renamed and
//!   removed as Unix has it; path lookup and directory listing are methods of it. What a file's content
//!   and a special node are is the kernel's business.
//!
//! Open files:
//!
//! - [`DescriptorTable`]: numbers for them; [`Ring`]: a pipe's bytes;
//! - [`RangeLocks`]: who locks which bytes;
//! - [`terminal`]: the line discipline of terminals; [`Expirations`]: a timer's count; [`MessageQueue`]: messages by priority.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cpio;
mod descriptors;
mod expiration;
mod lookup;
mod message_queue;
mod range_locks;
mod ring;
pub mod terminal;
mod tree;

pub use cpio::ArchiveError;
pub use descriptors::{DescriptorTable, TableFull};
pub use expiration::Expirations;
pub use lookup::{LastLink, LookupError, Place, Walk, next_name};
pub use message_queue::{Message, MessageQueue, QueueEnd, Sent, Turn};
pub use range_locks::{HeldLock, LockKind, Owner, Progress, RangeLocks, Refusal, Released};
pub use ring::Ring;
pub use tree::{
    AddError, Attributes, Directory, EditError, Entry, FilesystemId, Future, Node, NodeId, RenameMode, Tree,
};

/// The longest name in a directory (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
