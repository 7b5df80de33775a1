//! What the firmware would say.

use core::ops::Range;

use arrayvec::ArrayVec;
use spin::Once;
use unikernel_machine::line::Line;
use unikernel_sched::MAX_CORES;
use x86_64::PhysAddr;

pub use crate::common::firmware::{Ecam, MmioDevice};
use crate::sim::bus;

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The APIC ids of the processors that can be used.
    pub processors: ArrayVec<u32, MAX_CORES>,
    /// Where a TPM's control area is: there is none.
    pub tpm_control_area: Option<PhysAddr>,
    /// PCI configuration space.
    pub ecam: Option<Ecam>,
    /// Addresses for the devices on it; they have theirs.
    pub pci_window: Option<Range<u64>>,
    /// The first buses of other PCI roots.
    pub pci_roots: ArrayVec<u8, 1>,
    /// Virtio devices in memory: there are none.
    pub mmio_devices: ArrayVec<MmioDevice, 1>,
}

impl Machine {
    /// Where a line of the ISA bus ended up.
    pub fn isa_line(&self, irq: u8) -> Line {
        Line::isa(irq)
    }
}

static MACHINE: Once<Machine> = Once::new();

/// Sets how many cores there are.
pub(in crate::sim) fn init(cores: usize) {
    let ecam = Ecam { address: PhysAddr::new(bus::ECAM), first_bus: 0, last_bus: 0 };
    MACHINE.call_once(|| Machine {
        processors: (0..cores as u32).collect(),
        tpm_control_area: None,
        ecam: Some(ecam),
        pci_window: None,
        pci_roots: ArrayVec::new(),
        mmio_devices: ArrayVec::new(),
    });
}

/// The machine.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("a machine has begun")
}
