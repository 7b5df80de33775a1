//! The machine around the processor: its firmware tables, clocks, interrupt controllers, console,
//! randomness, and the way to switch it off. Nothing here knows the app, a thread or a socket. What can
//! be decided without touching a register is decided in the crate `unikernel-machine`.
//!
//! - [`console`], [`logger`]: the serial line and the log on it; [`records`]: both, for whoever else wants them;
//! - [`acpi`], [`smbios`]: what the firmware says; [`pci`]: devices on the PCI bus;
//! - [`interrupts`], with [`apic`], [`ioapic`] and [`shared_line`]: from a device to its handler;
//! - [`time`], with `calibrate`, `pvclock` and `rtc`; [`timer`]: an interrupt at a time; [`stopwatch`]: whose the time is;
//! - [`events`]: what happened last on each core;
//! - [`random`]; [`generation`]: whether the machine goes on from a saved state; [`power`]: off, reboot, exit code, power button,
//!   with `keyboard`: Ctrl-Alt-Delete where there is none;
//! - [`io`]: the handles for registers that all of them stand on.

pub mod acpi;
pub mod apic;
mod calibrate;
pub mod console;
pub mod generation;
pub mod io;
pub mod ioapic;
mod keyboard;
mod pic;
pub mod power;
mod pvclock;
pub mod random;
mod rtc;
pub mod smbios;
pub mod time;

pub use crate::common::{events, interrupts, logger, pci, records, shared_line, stopwatch, timer};

use x86_64::PhysAddr;

/// Sets up the console and the log: before anything that may have something to say. Needs no heap.
pub fn init_early() {
    console::init();
    logger::init();
}

/// Reads the firmware's tables and brings up interrupts, clocks, the timer and randomness. Needs
/// the final page tables and the heap; interrupts stay masked. `rsdp` is the hypervisor's word on
/// where the ACPI tables begin.
pub fn init(rsdp: Option<PhysAddr>) {
    acpi::init(rsdp);
    pic::mask();
    apic::init_this_cpu();
    ioapic::init(acpi::machine().io_apics.as_slice());
    time::init();
    timer::init_this_cpu();
    random::init();
    generation::init();
}
