//! The machine: everything below the kernel. It has no policy; what becomes of an interrupt, a fault or a frame is decided
//! by who registers for it.
//!
//! - [`arch`]: the processor; [`platform`]: clocks, interrupts, ACPI, console, randomness;
//! - [`boot_info`]: what the loader tells; [`kmem`]: frames, page tables, heap; [`sync`]: spin locks.

#![no_std]

extern crate alloc;

pub mod boot_info;
mod entry_points;
pub mod kmem;
pub mod sync;
mod x86;

pub use x86::{arch, platform};
