//! The way into the kernel and out of it: what a system call, an exception and an interrupt come to first, and what
//! is done last before ring 3. It stands above all others, because it calls them; the machine's stubs lead here
//! (`entry_points!` in `lib.rs`).
//!
//! - [`syscall`]: the `syscall` instruction; [`trap`]: exceptions and interrupts;
//! - [`exit`]: the last steps before ring 3, common to both; [`idle`]: what a core does when it has nobody to return to.

pub(crate) mod exit;
mod idle;
mod syscall;
mod trap;

pub(crate) use idle::IdleWork;
pub(crate) use syscall::system_call;
pub(crate) use trap::{paranoid_handler, trap_handler};
