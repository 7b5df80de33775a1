//! The machine as it is: an x86-64 processor, and what hypervisors put around it.

pub mod arch;
pub mod platform;
