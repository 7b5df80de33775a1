//! What a machine is told at boot beside its command line, as cloud-init reads it: who it is, its addresses, files and
//! variables for its program. The caller has the disks and the network.
//!
//! - [`read_seed`] reads a NoCloud volume (`cidata`): FAT (`unikernel-fat`) or [`iso`];
//! - [`MetaData`], [`UserData`] and [`network`] say what its files mean; [`yaml`] is their language;
//! - [`http`]: questions to a metadata service and its answers.
//!
//! Nothing of it is believed: sizes, counts and depths are bounded, and what is not understood is told in a sentence.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cloud;
pub mod http;
pub mod iso;
pub mod network;
mod seed;
#[cfg(test)]
mod tests;
mod volume;
pub mod yaml;

pub use cloud::{File, MetaData, UserData, Variable};
pub use seed::{Seed, read_seed};
pub use unikernel_vfs::{ReadError, Volume};
pub use volume::VolumeError;

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
