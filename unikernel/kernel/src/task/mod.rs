//! Threads: what one is, and how it runs and sleeps.
//!
//! - [`thread`]: one thread: a kernel stack, saved registers, its signal state;
//! - [`scheduler`]: which thread runs, blocking and waking; `cores`: its state for each core;
//!   `idle`: what a core does when nobody can run;
//! - [`wait`]: sleeping until a condition holds; [`mutex`]: the lock that does; [`timer`]: waking at a time;
//! - [`process`]: what all threads share; [`signal`], [`signal_queue`]: signals that wait, and what is to become of them;
//! - [`credentials`], [`limits`], [`settings`]: who the app is, what it may use, what prctl(2) keeps;
//! - [`release`], [`exit_watch`], [`restart`]: what a thread has still to close, who waits for its end, how its call goes on.
//!
//! Nothing here touches the app's memory. What signals do, how threads end, futexes and clocks are in the room `process`.

pub mod accounting;
mod cores;
pub mod credentials;
mod errors;
pub mod exit_watch;
pub mod idle;
pub mod limits;
pub mod mutex;
pub mod process;
pub mod release;
pub mod restart;
pub mod scheduler;
pub mod settings;
pub mod signal;
pub mod signal_queue;
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
