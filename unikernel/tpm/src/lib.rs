//! What is said to a TPM 2.0 and what it answers, as far as measured boot needs it, and the log of what was measured.
//!
//! - [`Bank`], [`Banks`]: the hash algorithms for which a TPM has registers (PCRs), and which of them are in use;
//! - [`command`]: commands as bytes, big-endian; [`response`]: answers, which are a device's and checked;
//! - [`EventLog`]: the events behind the registers' values, in the form that `tpm2_eventlog` reads;
//! - [`digests`]: the hashes of what is measured, for all banks.
//!
//! Sources: *TPM 2.0 Library Specification*, parts 2 (structures) and 3 (commands), of the Trusted Computing Group; the log: *PC Client Platform Firmware
//! Profile*, section 10 (*Event Logging*), with the crypto-agile form.
//!
//! It has no device. Whatever the device answers, nothing panics, and no length that it says is believed.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bank;
pub mod command;
mod log;
pub mod response;
#[cfg(test)]
mod tests;

pub use bank::{Bank, Banks, Digest, Digests, Hasher, MOST_BANKS, digests};
pub use log::{EventLog, EventType};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
