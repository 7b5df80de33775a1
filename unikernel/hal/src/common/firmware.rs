//! What firmware lists, or the command line in its place.

use unikernel_machine::line::Line;
use x86_64::PhysAddr;

/// A virtio device behind registers in memory.
#[derive(Clone, Copy, Debug)]
pub struct MmioDevice {
    /// Its registers.
    pub address: PhysAddr,
    /// Bytes of registers.
    pub len: usize,
    /// Its interrupt.
    pub line: Line,
}

impl MmioDevice {
    /// A device that the command line lists. Its line is edge-triggered, as ISA lines are, which
    /// is how QEMU's microvm and Firecracker wire virtio devices that no table describes.
    pub fn listed(address: PhysAddr, len: usize, gsi: u32) -> Self {
        Self { address, len, line: Line { gsi, ..Line::isa(0) } }
    }
}

/// PCI configuration space in memory (PCI Express "ECAM").
#[derive(Clone, Copy, Debug)]
pub struct Ecam {
    /// Configuration space of `first_bus`.
    pub address: PhysAddr,
    /// The first bus that it shows.
    pub first_bus: u8,
    /// The last one.
    pub last_bus: u8,
}
