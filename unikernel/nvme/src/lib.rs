//! NVMe controllers (NVM Express base specification 2.0, NVM command set specification 1.0, PCIe transport specification 1.0), over any registers and
//! memory: a [`Machine`] has both, and the clock.
//!
//! - [`Controller`]: a controller from its reset to its shutdown, and the commands for it;
//! - [`Namespace`]: what it stores, with a pair of queues of its own: reads, writes, flushes;
//! - `registers`, `identify`, `command`, `queue`: what the specification lays out, read and written.
//!
//! Everything that a controller says is checked before it is used: what cannot be is a [`StartError`], or the end of the one request that it is about. An
//! answer to what nobody has asked is counted and passed over. Every wait is bounded, and every loop by a number that is not the controller's. What is *not*
//! checked is where the controller writes: without an IOMMU nobody can.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod command;
mod controller;
mod errors;
mod identify;
mod namespace;
mod queue;
mod registers;
#[cfg(test)]
mod tests;

pub use command::Part;
pub use controller::{Controller, MOST_NAMESPACES};
pub use errors::{Refused, StartError, Status};
pub use namespace::{Answer, Kind, Namespace, Request};
pub use registers::REGISTER_BYTES;

/// Bytes of a page, as controllers are told to count.
pub const PAGE_BYTES: usize = 4096;

/// Memory that a controller reads and writes, too. It is zero at first, and aligned to a page.
pub trait Memory {
    /// Where it is, for the controller.
    fn address(&self) -> u64;

    /// Reads 32 bits at a multiple of 4; what is read later is not older.
    fn load(&self, offset: usize) -> u32;

    /// Writes as many, after all that was written before.
    fn store(&self, offset: usize, value: u32);
}

/// What a controller is reached by.
pub trait Machine: Clone {
    /// Memory for both.
    type Memory: Memory;

    /// Reads a register of 32 bits; `offset` is below [`REGISTER_BYTES`].
    fn read(&self, offset: usize) -> u32;

    /// Writes one, after all that was stored to memory before.
    fn write(&self, offset: usize, value: u32);

    /// Memory of so many bytes; `None` if there is none.
    fn allocate(&self, bytes: usize) -> Option<Self::Memory>;

    /// Nanoseconds of a clock that only goes on.
    fn now_ns(&self) -> u64;

    /// Lets a little time pass.
    fn pause(&self);

    /// Keeps the controller from memory for good: it does not do what it is told.
    fn cut_off(&self);
}
