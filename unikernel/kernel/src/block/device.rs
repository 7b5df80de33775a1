//! What the kernel asks of a disk, whatever drives it.

use alloc::vec::Vec;

pub(crate) use unikernel_machine::disk::{Limits, Memory, SECTOR_BYTES, Transfer};
use x86_64::VirtAddr;

use crate::kmem::virt_to_phys;

/// A disk, started. Calls block the calling thread; threads that wait at the same time have their requests in flight together.
pub(crate) trait BlockDevice: Send + Sync {
    /// Where it sits, for messages.
    fn place(&self) -> &str;

    /// Its size, which may change.
    fn sectors(&self) -> u64;

    /// What requests must keep to.
    fn limits(&self) -> &Limits;

    /// True if it cannot be written.
    fn is_read_only(&self) -> bool;

    /// Reads or writes; all requests are in flight together as far as there is room. All have ended when this returns, and
    /// the error names those that failed.
    fn transfer(&self, operation: Operation, transfers: &[Transfer]) -> Result<(), FailedRequests>;

    /// When this returns, all writes that had completed before survive a power cut.
    fn flush(&self) -> Result<(), DiskError>;

    /// [`Operation::Discard`] or [`Operation::WriteZeroes`] of `count` sectors, of which [`Self::limits`] says how many they may
    /// be.
    fn clear(&self, operation: Operation, sector: u64, count: u32) -> Result<(), DiskError>;

    /// Keeps the disk from being taken away, for good: it is mounted, and nothing is unmounted before the end. False if it goes already.
    fn hold(&self) -> bool {
        true
    }

    /// Called from the interrupt handler when some disk has raised its interrupt.
    fn interrupt(&self);
}

/// Where bytes of the kernel's lie for a device. They are one run there, too: all but those on stacks are.
pub(crate) fn memory(bytes: &[u8]) -> Memory {
    Memory { address: virt_to_phys(VirtAddr::from_ptr(bytes.as_ptr())).as_u64(), len: bytes.len() as u32 }
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// Sectors to memory.
    Read,
    /// Memory to sectors.
    Write,
    /// What was written survives a power cut.
    Flush,
    /// The sectors are not needed any more.
    Discard,
    /// The sectors become zeros.
    WriteZeroes,
}

/// The device could not do it; a line in the log says what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DiskError;

/// Requests of one transfer that failed, by their places in it; the others are done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FailedRequests(pub Vec<usize>);

impl From<FailedRequests> for DiskError {
    fn from(_: FailedRequests) -> Self {
        Self
    }
}
