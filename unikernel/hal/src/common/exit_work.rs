//! Work to do before the return to ring 3: bits of [`crate::arch::cpu::Cpu::request`].

/// Another thread should run.
pub const RESCHEDULE: u32 = 1;
/// The current thread has a signal to take.
pub const SIGNAL: u32 = 2;
/// A device has something for the network stack.
pub const NETWORK: u32 = 4;
/// Requests of an io_uring can go on.
pub const RINGS: u32 = 8;
/// Something was logged that is to be sent.
pub const LOG: u32 = 16;
