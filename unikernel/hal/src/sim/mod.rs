//! The machine on a host: the same interface as `x86`, for tests of the kernel above it.
//!
//! A machine is a child process of the test, so that each begins with the kernel's statics as they are at boot. Everything in it
//! runs on one thread of the host: cores are stacks of which one runs at a time, and a seed decides at every lock, wait and
//! interrupt which ([`engine`]). So a run is the same whenever its seed is.
//!
//! - [`machine`]: what a test asks for and gets; [`app`]: the app, which is closures that make system calls;
//! - [`engine`]: cores, the clock, interrupts, choices; [`stack`]: the stacks they run on; [`faults`]: what goes wrong;
//! - [`memory`]: RAM, which is memory of the host, with page tables as the processor has them, walked by [`arch::user_copy`];
//!   [`heap`]: the allocator of such a program, where kernel and host live side by side; [`poison`]: what memory is full of that was not written;
//! - [`bus`]: registers in memory and the devices behind them; [`virtio`]: a virtio device on PCI; [`disk`]: one that keeps blocks;
//!   [`card`]: one that sends and receives frames; [`plain`]: one whose other side is the test;
//! - [`arch`], [`platform`], [`image`], [`kernel_map`], `module_map`, [`symbols`]: what the kernel sees.

pub mod app;
pub mod arch;
pub mod bus;
pub mod card;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod heap;
pub mod image;
pub mod kernel_map;
pub mod machine;
pub mod memory;
pub(crate) mod module_map;
pub mod plain;
pub mod platform;
pub mod poison;
pub mod stack;
pub mod symbols;
pub mod virtio;
