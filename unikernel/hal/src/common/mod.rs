//! What both machines have in common: it stands on their registers, and is part of `arch` and `platform` in either.

pub mod events;
pub mod exit_work;
pub(crate) mod firmware;
pub mod interrupts;
pub mod logger;
pub mod pci;
pub mod per_core;
pub mod records;
pub mod shared_line;
pub mod stopwatch;
pub mod timer;
pub mod trap;
