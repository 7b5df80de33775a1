//! What the owner of a machine sees of it.
//!
//! - [`request`]: what is asked for over the observation channel, and the heads of answers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod request;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
