//! Threads: what one is, and how it runs and sleeps.
//!
//! - [`thread`]: one thread: a kernel stack, saved registers, its signal state;
//! - [`scheduler`]: which thread runs, blocking and waking; `cores`: its state for each core;
//!   `idle`: what a core does when nobody can run;
//! - [`wait`]: sleeping until a condition holds; [`mutex`]: the lock that does; [`timer`]: waking at a time;
//! - [`process`]: what all threads share; [`signal`], [`signal_queue`]: signals that wait, and what is to become of them;
//! - [`credentials`], [`limits`], [`settings`]: who the app is, what it may use, what prctl(2) keeps;
//! - [`confinement`]: what a thread has forbidden itself;
//! - [`release`], [`exit_watch`], [`restart`]: what a thread has still to close, who waits for its end, how its call goes on.
//!
//! Nothing here touches the app's memory. What signals do, how threads end, futexes and clocks are in the room `process`.

pub(crate) mod accounting;
pub(crate) mod confinement;
mod cores;
pub(crate) mod credentials;
mod errors;
pub(crate) mod exit_watch;
pub(crate) mod idle;
pub(crate) mod limits;
pub(crate) mod mutex;
pub(crate) mod process;
pub(crate) mod release;
pub(crate) mod restart;
pub(crate) mod scheduler;
pub(crate) mod settings;
pub(crate) mod signal;
pub(crate) mod signal_queue;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod wait;

use thread::Thread;
pub(crate) use wait::WaitQueue;

use crate::kmem::kernel_map::STACK_BYTES;

/// The running thread.
pub(crate) type CurrentThread = unikernel_hal::thread::Current<Thread>;

/// The running thread.
///
/// # Panics
///
/// Before the first thread runs (debug builds).
#[inline]
pub(crate) fn current() -> CurrentThread {
    unikernel_hal::thread::current()
}

/// True if the running thread is one of the kernel's own.
pub(crate) fn is_kernel_thread() -> bool {
    current().id == 0
}

/// True if `bytes` are left of the stack that this runs on, for work that takes more of it than most. So it is on the boot stack, which is large.
pub(crate) fn has_stack_for(bytes: usize) -> bool {
    !scheduler::can_block() || current().stack_used().saturating_add(bytes) <= STACK_BYTES
}

/// True if a signal waits for the running thread: a call that may end early does.
pub(crate) fn has_signal() -> bool {
    current().signals.lock().has_deliverable()
}
