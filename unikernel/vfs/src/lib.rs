//! What a filesystem is to the kernel.
//!
//! A filesystem implements [`FileSystem`]: operations on inodes, found by their numbers, and on names in directories. The kernel does the rest, once for all of
//! them: walking paths, remembering names, permissions, locks. Where content lies is told in one of two ways
//! ([`Storage`]): in blocks of a device, which the kernel reads and writes itself ([`BlockMap`]), or the filesystem moves it ([`ByteStorage`]).
//!
//! The page cache, too, is here ([`cache`]), and who may do what with files ([`access`]).
//!
//! No clock: the time comes in as an argument. No errno: the kernel translates [`Error`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod cache;
mod error;
mod filesystem;
mod types;
mod volume;

pub use error::Error;
pub use filesystem::{BlockMap, ByteStorage, EachEntry, FileSystem, Storage};
pub use types::{
    AttributeChange, Attributes, Entry, FileKind, Identity, InodeNumber, NewKind, NewNode, RenameMode, Run,
    RunState, Statistics, Sync, Timestamp, WriteRun,
};
pub use volume::{ReadError, Volume};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
