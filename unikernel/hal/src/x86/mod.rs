//! The machine as it is: an x86-64 processor, and what hypervisors put around it.

pub mod arch;
pub(crate) mod image;
pub mod kernel_map;
pub(crate) mod module_map;
pub mod platform;
pub(crate) mod relocate;
pub mod symbols;
