//! dm-verity's format: each block of a read-only disk is checked against a tree of hashes, whose root is known from elsewhere. `veritysetup` of
//! Debian's package `cryptsetup-bin` makes the tree; the format is described by Linux's `Documentation/admin-guide/device-mapper/verity.rst` and
//! cryptsetup's page *DMVerity*.
//!
//! - [`Superblock`]: what the hash area says of itself;
//! - [`Tree`]: where the hashes lie, and the check of a block ([`Tree::check`]);
//! - [`Hashes`]: how blocks of the hash area are had; [`Cache`]: those that were checked, as far as there is room;
//! - [`Algorithm`], [`Digest`]: SHA-256 and SHA-512, with the salt in front (hash type 1).
//!
//! It has no disk: who reads a block gives it here, and does not use it if it is not [`Ok`].
//!
//! # What is promised
//!
//! - **Whatever the disk holds, a block that is found good is the one that was there when the tree was made**, as long as SHA-256 holds. That is so for
//!   hashes read anew and for those that were kept.
//! - **The superblock is not to be trusted**, and need not be: with another salt, algorithm or size of blocks nothing is found good. It can say
//!   that there are fewer blocks than there are, or more, which are not found good then; and that a block of hashes is a block of data.
//! - Nothing panics or loops without end, and one block of hashes for each level is all the memory that a check takes.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cache;
mod digest;
mod error;
mod superblock;
#[cfg(test)]
mod tests;
mod tree;

pub use cache::Cache;
pub use digest::{Algorithm, Digest};
pub use error::{CheckError, FormatError, ReadError};
pub use superblock::{SUPERBLOCK_BYTES, Superblock};
pub use tree::{Hashes, Tree};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
