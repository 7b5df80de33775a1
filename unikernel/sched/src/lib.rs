//! Scheduling policy: who runs next, and how long an idle core looks around before it sleeps. No
//! clock, no stacks, no locks: the kernel's `task` room brings those.
//!
//! - [`RunQueue`]: round robin;
//! - [`AdaptiveSpin`]: polling before halting, learned from how waits ended.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod run_queue;
mod spin;

pub use run_queue::RunQueue;
pub use spin::AdaptiveSpin;
