//! The machine: everything below the kernel. It has no policy; what becomes of an interrupt, a fault or a frame is decided
//! by who registers for it.
//!
//! - [`arch`]: the processor; [`platform`]: clocks, interrupts, ACPI, console, randomness;
//! - [`boot_info`]: what the loader tells; [`kmem`]: frames, page tables, heap; [`sync`]: spin locks; [`thread`]: stacks, and the switch between them;
//! - [`registers`] and [`dma`]: what drivers need; [`loaded`]: the program in the image; [`backtrace`]: what a panic reads;
//! - [`frame`]: frames and who owns them; [`user`]: the app's memory; [`module`]: code that is loaded into the kernel.

#![no_std]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod backtrace;
pub mod boot_info;
mod common;
pub mod dma;
mod entry_points;
pub mod frame;
pub mod kmem;
pub mod loaded;
pub mod module;
pub mod registers;
#[cfg(not(target_os = "none"))]
pub mod sim;
pub mod sync;
pub mod thread;
pub mod user;
#[cfg(target_os = "none")]
mod x86;

#[cfg(not(target_os = "none"))]
use sim as machine;
#[cfg(target_os = "none")]
use x86 as machine;

pub use machine::{arch, platform};
