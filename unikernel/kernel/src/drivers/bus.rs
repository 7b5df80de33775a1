//! Where devices are found.

use alloc::vec::Vec;

use super::virtio::{self, OpenError, VirtioDevice};
use crate::platform::acpi::MmioDevice;
use crate::platform::pci::{self, Function};

/// A way to find devices. How one is talked to afterwards is its [`VirtioTransport`](virtio::transport::VirtioTransport).
pub(crate) trait Bus {
    /// Opens the devices that have a driver, in the order in which they are named. Tells of those that somebody may miss.
    fn open_devices(&self) -> Vec<VirtioDevice>;
}

/// PCI: all roots that ACPI lists, and what lies behind their bridges.
pub(crate) struct PciBus;

impl Bus for PciBus {
    fn open_devices(&self) -> Vec<VirtioDevice> {
        pci::scan().into_iter().filter_map(open_pci).collect()
    }
}

/// Registers in memory, which nothing but a list names.
pub(crate) struct MmioBus<'a> {
    /// Those of ACPI's tables.
    pub described: &'a [MmioDevice],
    /// Those of the command line, for machines without ACPI.
    pub listed: &'a [MmioDevice],
}

impl Bus for MmioBus<'_> {
    fn open_devices(&self) -> Vec<VirtioDevice> {
        // A hypervisor that has tables may list the same devices once more, and a user may list one twice.
        let is_new = |(index, device): &(usize, &MmioDevice)| {
            let mut before = self.described.iter().chain(&self.listed[..*index]);
            before.all(|known| known.address != device.address)
        };
        let described = self.described.iter().filter_map(|device| virtio::open_mmio(device).ok());
        let new = self.listed.iter().enumerate().filter(is_new).filter_map(|(_, device)| open_listed(device));
        described.chain(new).collect()
    }
}

/// Opens a PCI function. One that somebody may miss is named if that cannot be: a network card, a disk other than the
/// controllers that every PC has, and any virtio device of a kind that we drive.
fn open_pci(function: Function) -> Option<VirtioDevice> {
    let (address, vendor, device) = (function.address(), function.vendor, function.device);
    let what = match function.class() {
        (0x01, 0x01 | 0x06) => None,
        // The module says whether it does.
        (0x01, 0x08) => {
            log::info!("PCI {address}: NVMe {vendor:04x}:{device:04x}: for `module=nvme`");
            None
        }
        (0x01, _) => Some("storage"),
        (0x02, _) => Some("network card"),
        _ => None,
    };
    let error = match virtio::open_pci(function) {
        Ok(device) => {
            pci::note_driven(address);
            return Some(device);
        }
        Err(error) => error,
    };
    let is_ours = error != OpenError::NoDriver;
    match what.or(is_ours.then_some("virtio device")) {
        Some(what) => log::warn!("PCI {address}: {what} {vendor:04x}:{device:04x}: not used: {error}"),
        None => log::debug!("PCI {address}: {vendor:04x}:{device:04x}: not used: {error}"),
    }
    None
}

/// Opens a device that the command line names, or says why that cannot be.
fn open_listed(device: &MmioDevice) -> Option<VirtioDevice> {
    match virtio::open_mmio(device) {
        Ok(device) => return Some(device),
        // Hypervisors list their places with and without a device.
        Err(OpenError::Empty) => {}
        Err(error) => log::warn!("`virtio_mmio.device=` at {:#x}: not used: {error}", device.address),
    }
    None
}
