//! Signed files: an Ed25519 signature (RFC 8032) stands behind the content, in 128 bytes. The host makes it, the kernel checks it before it uses
//! what is in front.
//!
//! - [`PublicKey`]: who may sign, as `trust=` says it; [`Keys`]: all of them, and the check ([`Keys::open`]);
//! - [`Kind`]: what something is signed as;
//! - [`Signer`]: a secret key, from a file of `openssl genpkey -algorithm ed25519`;
//! - [`TrustError`]: what is wrong, for people.
//!
//! # What is signed
//!
//! Not the content itself but a few lines about it (`statement`), so that a content of gigabytes is hashed once, by SHA-256, and that other tools can make
//! and check signatures:
//!
//! ```text
//! unikernel-signature 1
//! kind initrd
//! bytes 12345
//! sha256 7d86...
//! ```
//!
//! # What is promised
//!
//! - **What [`Keys::open`] answers is what the owner of one of the keys has signed, as this kind**: none can be taken for another.
//! - It says nothing about *when*: an older content with its signature is good for as long as its key is.
//! - Nothing panics, whatever the bytes are. Keys of small order, and signatures in another than the one form that RFC 8032 has, are refused.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod key;
mod signer;
mod statement;
#[cfg(test)]
mod tests;
mod trailer;

pub use error::TrustError;
pub use key::{Keys, PublicKey};
pub use signer::Signer;
pub use statement::Kind;
pub use trailer::{TRAILER_BYTES, without_trailer};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
