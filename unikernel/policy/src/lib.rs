//! What an app may do: pure logic, without a clock, a file or a socket. The kernel asks, and does what is answered.
//!
//! - [`bpf`]: programs of classic BPF, checked and run, for [`seccomp`] and for packets;
//! - [`seccomp`]: filters that threads put upon themselves (seccomp(2));
//! - [`access`]: rights over files and ports that threads give up (landlock(7));
//! - [`calls`], `profiles`; [`paths`]; [`net`]: the words by which the image or the command line says what the app may do;
//! - [`learn`]: the words that a run would have needed;
//! - [`rate`]: how often a refusal is told.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod bpf;
pub mod calls;
mod flags;
pub mod learn;
pub mod net;
pub mod paths;
mod profiles;
pub mod rate;
pub mod seccomp;

/// The value of `allow-paths=` and `allow-net=` that allows nothing.
pub const NONE: &str = "none";

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
