//! What the kernel's reports are made of, as far as it needs no machine: crash reports, panics and
//! the system-call trace are written while something is wrong, so the code that makes them must
//! not fail on anything it finds, and is tested on the host.
//!
//! - [`symbols`]: the table of function names in an image, made by the build and read by the kernel;
//! - [`stack`]: who called whom, from a thread's registers and stack;
//! - [`calls`] and [`flags`]: the names of system calls and of the bits and choices in their arguments;
//! - [`address`]: socket addresses.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod calls;
pub mod flags;
pub mod stack;
pub mod symbols;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
