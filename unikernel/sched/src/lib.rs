//! Scheduling policy: who runs next on which core, how a thread falls asleep and is woken, and how
//! long an idle core looks around before it halts. No clock, no stacks, no interrupts: the kernel's
//! `task` room brings those.
//!
//! - [`RunQueue`]: round robin, one a core; [`Dispatcher`]: all queues together, with placement,
//!   stealing, and the protocol between a core that halts and one that gives it work;
//! - [`SleepState`]: one thread between running and sleeping;
//! - [`futex`]: the queues of threads that sleep on a word of the app's; [`futex::pi`]: those for locks with an owner;
//! - [`ready`]: the list of an epoll instance's watches whose files have had news;
//! - [`CoreSet`]: affinity and idleness; [`AdaptiveSpin`]: polling before halting, learned.
//!
//! The first four are the parts where a wrong order loses a wake-up, so they are model-checked: `make model` runs the tests in
//! `model.rs`, `futex/model.rs`, `futex/pi/model.rs` and `ready/model.rs` under `loom`, which tries every interleaving and every
//! reordering that the memory model allows.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

mod atomic;
mod core_set;
mod dispatcher;
pub mod futex;
mod placement;
pub mod ready;
mod run_queue;
mod sleep_state;
mod spin;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod simulation;

pub use core_set::{CoreSet, MAX_CORES};
pub use dispatcher::{Dispatcher, Machine, Schedulable};
pub use run_queue::RunQueue;
pub use sleep_state::SleepState;
pub use spin::AdaptiveSpin;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
