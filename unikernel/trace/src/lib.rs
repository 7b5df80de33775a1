//! What the owner of a machine sees of it.
//!
//! - [`request`]: what is asked for over the observation channel, and the heads of answers.
//! - [`event`]: what is recorded of a machine that runs; [`ring`]: where a core keeps its last events; [`frame`]: what an event says of a frame; [`recording`]: events as bytes.
//! - [`perfetto`]: a recording as a timeline for the Perfetto UI; [`text`]: as lines; [`filter`]: which frames are meant; [`tail`]: where the time of a server's requests goes.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod event;
pub mod filter;
pub mod frame;
pub mod perfetto;
pub mod recording;
pub mod request;
pub mod ring;
pub mod tail;
pub mod text;

#[cfg(test)]
extern crate std;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
