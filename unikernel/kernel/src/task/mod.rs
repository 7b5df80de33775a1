//! The app's threads, and how they run, sleep and end.
//!
//! - [`thread`]: one thread: a kernel stack, saved registers, its signal state;
//! - [`scheduler`]: which thread runs, blocking and waking; `cores`: its state for each core;
//!   `idle`: what a core does when nobody can run;
//! - [`wait`]: sleeping until a condition holds; [`mutex`]: the lock that does; [`timer`]: waking at a time; [`clocks`]: what time it is, and whose;
//! - [`futex`]: the wait queues behind the app's own locks; [`futex_pi`]: behind those with an owner; [`futex_robust`]:
//!   what becomes of them when a thread ends;
//! - [`signal`], [`signal_delivery`] and [`signal_frame`]: faults and signals, to a handler or to the end;
//!   [`signal_queue`]: those that wait; [`signal_timer`]: timers that send them;
//! - [`process`]: what all threads share; [`program`]: what runs, [`linked`]: what is in the image to run; [`host_name`]: what
//!   the machine is called; [`settings`]: what prctl(2) keeps.

pub mod accounting;
pub mod clocks;
mod cores;
pub mod cpu_limit;
pub mod credentials;
mod errors;
pub mod exit_watch;
pub mod file_size;
pub mod futex;
pub mod futex_many;
pub mod futex_pi;
pub mod futex_robust;
pub mod host_name;
pub mod idle;
pub mod limits;
pub mod linked;
pub mod mutex;
pub mod out_of_memory;
pub mod process;
pub mod program;
pub mod release;
pub mod restart;
pub mod scheduler;
pub mod settings;
pub mod signal;
pub mod signal_delivery;
pub mod signal_frame;
pub mod signal_queue;
pub mod signal_timer;
pub mod thread;
pub mod timer;
pub mod wait;

use thread::Thread;
pub use wait::WaitQueue;

/// The running thread.
pub type CurrentThread = unikernel_hal::thread::Current<Thread>;

/// The running thread.
///
/// # Panics
///
/// Before the first thread runs (debug builds).
#[inline]
pub fn current() -> CurrentThread {
    unikernel_hal::thread::current()
}

/// True if the running thread is one of the kernel's own.
pub fn is_kernel_thread() -> bool {
    current().id == 0
}

/// True if a signal waits for the running thread: a call that may end early does.
pub fn has_signal() -> bool {
    current().signals.lock().has_deliverable()
}
