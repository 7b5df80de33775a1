//! What can be known about machines and their devices without touching one. The kernel's
//! `platform` and `drivers` read the registers and memory; what the bytes mean is decided here,
//! where it can be tested on the host, with hostile input too.
//!
//! - [`aml`]: the few constants that matter in the firmware's bytecode; [`mod@line`]: how an interrupt
//!   line is wired;
//! - [`calendar`]: the battery-backed clock's date; [`calibration`]: counters of known rate;
//! - [`ring`]: the split virtqueue; [`packet`], [`checksum`]: what stands in front of a network card's packets, and what its
//!   checksum offload needs;
//! - [`levels`]: which lines of the log are shown.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aml;
pub mod calendar;
pub mod calibration;
pub mod checksum;
pub mod levels;
pub mod line;
pub mod packet;
pub mod ring;
