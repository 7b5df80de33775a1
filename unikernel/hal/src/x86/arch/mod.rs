//! The processor: everything that is x86-64 and nothing that is a policy.
//!
//! - [`boot`]: from the hypervisor's 32-bit entry to `kernel_main`; [`multiboot2`]: from GRUB's;
//! - [`startup`]: the other cores;
//! - [`cpu`]: the per-CPU blocks behind GS, and which features are on; [`per_core`]: one value each;
//! - [`descriptor`]: GDT, TSS, IDT; [`entry`]: the stubs that lead into the kernel, and back;
//! - [`trap`]: the registers of interrupted code; [`fault`]: the address of a page fault;
//! - [`switch`]: kernel stacks and the switch between them; [`fpu`]: the app's vector state;
//! - [`paging`]: which page tables are in force;
//! - [`memory`]: `memcpy` and its relatives; [`tlb`]: forgetting translations on every core;
//! - [`user_copy`]: the copy that survives a fault; [`vdso`]: the clock for ring 3.
//!
//! **Interrupts.** The kernel runs with IF clear, always: `syscall` clears it (SFMASK), interrupt
//! gates clear it, and it is set only by the return to ring 3 and by the idle loop's `sti; hlt`.
//! So kernel code is never interrupted, and locks need not mask anything. The price is that long
//! work in the kernel delays interrupts; the rooms above keep their steps short.

pub mod boot;
pub mod cpu;
pub mod descriptor;
pub mod entry;
pub mod fault;
pub mod fpu;
pub mod memory;
pub mod multiboot2;
pub mod paging;
pub mod startup;
pub mod switch;
pub mod tlb;
pub mod user_copy;
pub mod vdso;

pub use crate::common::{per_core, trap};
