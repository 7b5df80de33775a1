//! What the app's threads do with each other, and what becomes of them.
//!
//! - [`signal`], [`signal_delivery`] and [`signal_frame`]: faults and signals, to a handler or to the end; [`signal_timer`]: timers
//!   that send them;
//! - [`futex`], [`futex_many`]: the wait queues behind the app's own locks; [`futex_pi`]: behind those with an owner;
//!   [`futex_robust`]: what becomes of them when a thread ends;
//! - [`exit`]: how a thread, and the app, end; [`out_of_memory`]: for want of memory; [`cpu_limit`], [`file_size`]: by its limits;
//! - [`clocks`]: what time it is, and whose;
//! - [`program`]: what runs, [`linked`]: what is in the image to run; [`host_name`]: what the machine is called.

pub(crate) mod clocks;
pub(crate) mod cpu_limit;
mod errors;
pub(crate) mod exit;
pub(crate) mod file_size;
pub(crate) mod futex;
pub(crate) mod futex_many;
pub(crate) mod futex_pi;
pub(crate) mod futex_robust;
pub(crate) mod host_name;
pub(crate) mod linked;
pub(crate) mod out_of_memory;
pub(crate) mod program;
pub(crate) mod signal;
pub(crate) mod signal_delivery;
pub(crate) mod signal_frame;
pub(crate) mod signal_timer;
