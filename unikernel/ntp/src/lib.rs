//! An SNTP client (RFC 4330, RFC 5905): its packets, and what becomes of the clock. The caller has the sockets and the
//! clocks.
//!
//! - [`request`] is what a server is asked; [`Reply::check`] believes an answer or says why not ([`Refusal`]);
//! - [`agree`] finds the offset that most servers agree on;
//! - [`Discipline`] turns an offset into a [`Correction`] within bounds; [`Schedule`] says when to ask again.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod agreement;
mod discipline;
mod packet;
#[cfg(test)]
mod tests;

pub use agreement::agree;
pub use discipline::{Correction, Discipline, OutOfBounds, SLEW_PPM, Schedule};
pub use packet::{Exchange, Refusal, Reply, Sample, request};

/// Where servers listen.
pub const PORT: u16 = 123;
pub(crate) const NS_PER_SECOND: i64 = 1_000_000_000;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
