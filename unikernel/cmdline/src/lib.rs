//! The boot command line: words for the kernel, then `--`, then the app's arguments.
//!
//! ```text
//! ip=10.0.2.15/24 gw=10.0.2.2 log=net:debug,info env.RUST_LOG=debug -- --port 80 "two words"
//! ```
//!
//! A word that is not known is an error which names it and the nearest known one, because a
//! silently ignored `ipp=` costs an hour. Linux's own words are ignored, by name and not silently. Double quotes hold words together.
//!
//! - [`text`] is the line if it is one, [`of_file`] the line in a file; [`parse`] makes [`Options`]; [`ParseError`] says what is
//!   wrong, for people;
//! - [`parse_for_image`]: with what an image brings along itself;
//! - [`moves_kernel`]: what has to be known before there is memory;
//! - [`SystemOptions`]: the host name, and what the machine does beside running the app;
//! - [`PolicyOptions`]: what the app may do;
//! - [`TrustOptions`]: who may sign what is used;
//! - [`MountPoint`]: where a disk goes; [`User`]: whom the app runs as; [`VerityOptions`]: against what blocks are checked, whose hashes [`from_hex`] reads;
//! - [`Observe`]: where the kernel tells what goes on;
//! - [`Shown`]: a word in a message;
//! - [`MmioDevice`]: what hypervisors append on their own account;
//! - `words` splits and unquotes; `suggest` finds the nearest known key.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod card;
mod early;
mod error;
mod file;
mod filter;
mod linux;
mod linux_ip;
mod mmio;
mod mounts;
mod observe;
mod offloads;
mod options;
mod packed;
mod policy;
mod route;
mod suggest;
mod system;
#[cfg(test)]
mod tests;
mod trust;
mod user;
mod verity;
mod words;

pub use card::{Address, CardOptions, MAX_CARDS};
pub use early::moves_kernel;
pub use error::ParseError;
pub use file::of_file;
pub use filter::{FilterProtocol, FilterRule};
pub use mmio::MmioDevice;
pub use mounts::{MountOptions, MountPoint};
pub use observe::Observe;
pub use offloads::Offloads;
pub use options::{ExitAction, Options, parse};
pub use packed::parse_for_image;
pub use policy::PolicyOptions;
pub use route::Route;
pub use system::{ConfigSource, SystemOptions, TimeServers, is_host_name};
pub use trust::TrustOptions;
pub use user::{Identity, UnknownUser, User};
pub use verity::{HashPlace, OnCorruption, VerityOptions, from_hex};
pub use words::{NotUtf8, Shown, text};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
