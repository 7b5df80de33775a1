//! The processor, as the kernel sees it.

pub mod boot;
pub mod cpu;
pub mod descriptor;
pub mod entry;
pub mod fault;
pub mod fpu;
pub mod memory;
pub mod paging;
pub mod startup;
pub mod switch;
pub mod tlb;
pub mod user_copy;
pub mod vdso;

pub use crate::common::{per_core, trap};
