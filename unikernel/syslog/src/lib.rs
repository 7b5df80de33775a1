//! Syslog (RFC 5424): what is written and logged, as messages for a server. The caller has the socket and the clocks.
//!
//! - [`Lines`] finds the lines in what a program writes to its terminal;
//! - [`Queue`] keeps [`Record`]s in a bounded memory until they can be sent, and counts what found no room;
//! - [`Message`] writes a record as a message.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod date;
mod lines;
mod message;
mod queue;
mod record;
#[cfg(test)]
mod tests;

pub use lines::Lines;
pub use message::{MAX_MESSAGE_BYTES, Message};
pub use queue::Queue;
pub use record::{MAX_TEXT_BYTES, MAX_TOPIC_BYTES, Origin, Record, Severity};

/// Where servers listen (RFC 5426, section 3.3).
pub const PORT: u16 = 514;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
