//! What a loader or the firmware leaves in memory, and programs.

pub(crate) mod cpio;
pub(crate) mod elf;
pub(crate) mod firmware;
pub(crate) mod multiboot2;
pub(crate) mod object;
pub(crate) mod relocations;
pub(crate) mod signed;
pub(crate) mod symbols;
