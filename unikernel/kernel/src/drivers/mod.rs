//! Devices. [`probe`] looks at the PCI bus and at the devices in memory that the firmware or the
//! command line lists, and starts the driver of each.
//!
//! - [`bus`]: where devices are found; [`registry`]: which drivers there are; [`virtio`]: transports, queues, and the drivers; [`tpm`]: a TPM;
//! - [`network`]: what is asked of network cards, whatever drives them. (Of disks: `block::device`.)

pub(crate) mod bus;
pub(crate) mod network;
pub(crate) mod registry;
pub(crate) mod tpm;
pub(crate) mod virtio;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_cmdline::Offloads;
pub(crate) use virtio_drivers::transport::DeviceType;

use crate::block::device::BlockDevice;
use crate::platform::acpi::{self, MmioDevice};
use crate::platform::random;
use bus::{Bus, MmioBus, PciBus};
use network::NetDevice;
use virtio::VirtioDevice;

/// What [`probe`] found.
#[derive(Default)]
pub(crate) struct Devices {
    /// Network devices, ready for use.
    pub cards: Vec<Box<dyn NetDevice>>,
    /// Disks, ready for use, in the order of the bus.
    pub disks: Vec<Arc<dyn BlockDevice>>,
    /// Devices that nobody has started: who needs one does.
    kept: Vec<VirtioDevice>,
}

impl Devices {
    /// The first device of a type that is not started.
    pub(crate) fn take(&mut self, device_type: DeviceType) -> Option<VirtioDevice> {
        let place = self.kept.iter().position(|device| device.driver.device_type == device_type)?;
        Some(self.kept.remove(place))
    }
}

/// What drivers have to know.
pub(crate) struct Settings {
    /// What network cards may do.
    pub offloads: Offloads,
    /// Called from the interrupt handler when a network device has something to say.
    pub on_network: fn(),
    /// The same for disks.
    pub on_disk: fn(),
}

impl Settings {
    /// Queues, or pairs of them, that there is a use for: one for each core.
    pub(crate) fn most_queues(&self) -> usize {
        acpi::machine().processors.len().max(1)
    }
}

/// Finds and starts all devices. `listed` are virtio devices that the command line names, for machines without ACPI.
pub(crate) fn probe(listed: &[MmioDevice], settings: &Settings) -> Devices {
    let memory = MmioBus { described: &acpi::machine().mmio_devices, listed };
    let buses: [&dyn Bus; 2] = [&PciBus, &memory];
    let mut devices = Devices::default();
    for device in buses.into_iter().flat_map(Bus::open_devices) {
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
