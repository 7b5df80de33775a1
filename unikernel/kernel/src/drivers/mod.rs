//! Devices. [`probe`] looks at the PCI bus and at the devices in memory that the firmware or the
//! command line lists, and starts the driver of each.
//!
//! - [`registry`]: which drivers there are; [`virtio`]: transports, queues, and the drivers.

pub mod registry;
pub mod virtio;

use alloc::boxed::Box;
use alloc::vec::Vec;

use unikernel_cmdline::Offloads;
pub use virtio_drivers::transport::DeviceType;

use crate::block::device::BlockDevice;
use crate::platform::acpi::{self, MmioDevice};
use crate::platform::pci::Function;
use crate::platform::{pci, random};
use virtio::net::Card;
use virtio::{OpenError, VirtioDevice};

/// What [`probe`] found.
#[derive(Default)]
pub struct Devices {
    /// Network devices, ready for use.
    pub cards: Vec<Card>,
    /// Disks, ready for use, in the order of the bus.
    pub disks: Vec<Box<dyn BlockDevice>>,
    /// Devices that nobody has started: who needs one does.
    kept: Vec<VirtioDevice>,
}

impl Devices {
    /// The first device of a type that is not started.
    pub fn take(&mut self, device_type: DeviceType) -> Option<VirtioDevice> {
        let place = self.kept.iter().position(|device| device.driver.device_type == device_type)?;
        Some(self.kept.remove(place))
    }
}

/// What drivers have to know.
pub struct Settings {
    /// What network cards may do.
    pub offloads: Offloads,
    /// Called from the interrupt handler when a network device has something to say.
    pub on_network: fn(),
    /// The same for disks.
    pub on_disk: fn(),
}

impl Settings {
    /// Queues, or pairs of them, that there is a use for: one for each core.
    pub fn most_queues(&self) -> usize {
        acpi::machine().processors.len().max(1)
    }
}

/// Finds and starts all devices. `listed` are virtio devices that the command line names, for machines without ACPI.
pub fn probe(listed: &[MmioDevice], settings: &Settings) -> Devices {
    let from_pci = pci::scan().into_iter().filter_map(open_pci);
    let described = &acpi::machine().mmio_devices;
    // A hypervisor that has tables may list the same devices once more, and a user may list one twice.
    let is_new = |(index, device): &(usize, &MmioDevice)| {
        described.iter().chain(&listed[..*index]).all(|known| known.address != device.address)
    };
    let new = listed.iter().enumerate().filter(is_new).filter_map(|(_, device)| open_listed(device));
    let from_memory = described.iter().filter_map(|device| virtio::open_mmio(device).ok()).chain(new);
    let mut devices = Devices::default();
    for device in from_pci.chain(from_memory) {
        let place = device.place.clone();
        if let Err(error) = (device.driver.probe)(device, settings, &mut devices) {
            log::warn!("{place}: not used: {error}");
        }
    }
    if !random::has_strong_source() {
        log::warn!(
            "neither the processor nor a device gives entropy: random numbers can be guessed (add virtio-rng)"
        );
    }
    devices
}

/// Opens a PCI function. One that somebody may miss is named if that cannot be: a network card, a disk other than the
/// controllers that every PC has, and any virtio device of a kind that we drive.
fn open_pci(function: Function) -> Option<VirtioDevice> {
    let (address, vendor, device) = (function.address(), function.vendor, function.device);
    let what = match function.class() {
        (0x01, 0x01 | 0x06) => None,
        (0x01, _) => Some("storage"),
        (0x02, _) => Some("network card"),
        _ => None,
    };
    let error = match virtio::open_pci(function) {
        Ok(device) => return Some(device),
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
