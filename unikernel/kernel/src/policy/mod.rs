//! What the app may do, beside what users and modes say.
//!
//! - [`access`], [`net`]: which files and addresses they allow, and what a thread has forbidden itself;
//! - [`calls`]: which system calls the image and the command line allow;
//! - [`judge`]: what becomes of a system call before it is done;
//! - [`learn`]: what was done, as words that would allow it;
//! - [`refusals`]: who is told of it.
//!
//! The logic is `unikernel_policy`, which knows no thread and no clock. What a thread has forbidden itself is in
//! [`task::confinement`](crate::task::confinement).

pub(crate) mod access;
pub(crate) mod calls;
pub(crate) mod judge;
pub(crate) mod learn;
pub(crate) mod net;
pub(crate) mod refusals;
