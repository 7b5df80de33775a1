//! The machine around the processor, as the kernel sees it.

pub mod acpi;
pub mod apic;
pub mod console;
pub mod generation;
pub mod io;
pub mod ioapic;
pub mod power;
pub mod random;
pub mod smbios;
pub mod time;

pub use crate::common::{events, interrupts, logger, pci, records, shared_line, stopwatch, timer};

use x86_64::PhysAddr;

/// Sets up the log.
pub fn init_early() {
    logger::init();
}

/// Brings up clocks and the timer.
pub fn init(_: Option<PhysAddr>) {
    timer::init_this_cpu();
}
