//! What can be known about machines and their devices without touching one. The kernel's
//! `platform` and `drivers` read the registers and memory; what the bytes mean is decided here,
//! where it can be tested on the host, with hostile input too.
//!
//! - [`aml`]: the few constants that matter in the firmware's bytecode; [`mod@line`]: how an interrupt
//!   line is wired;
//! - [`pci_setup`]: numbers for buses and addresses for devices where no firmware has given any;
//! - [`calendar`]: the battery-backed clock's date; [`calibration`]: counters of known rate;
//! - [`disk`]: what a disk says of itself, and requests that it takes;
//! - [`ring`]: the split virtqueue; [`packet`], [`checksum`]: what stands in front of a network card's packets, and what its
//!   checksum offload needs;
//! - [`vmclock`]: what a hypervisor says of breaks in the machine's life;
//! - [`multiboot2`]: what GRUB says at entry; [`ram`]: which memory is RAM, of what a loader says;
//! - [`levels`]: which lines of the log are shown.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aml;
pub mod calendar;
pub mod calibration;
pub mod checksum;
pub mod disk;
pub mod levels;
pub mod line;
pub mod multiboot2;
pub mod packet;
pub mod pci_setup;
pub mod ram;
pub mod ring;
pub mod smbios;
pub mod vmclock;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
