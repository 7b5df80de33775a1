//! Devices. [`probe`] looks at the PCI bus and at the devices in memory that the firmware or the
//! command line lists, and starts the drivers that it has.
//!
//! - [`virtio`]: transports, queues, and the drivers for network, block, entropy, console and socket devices.

pub mod virtio;

use alloc::boxed::Box;
use alloc::vec::Vec;

use unikernel_cmdline::{MAX_CARDS, Offloads};

use crate::block::device::BlockDevice;
use crate::platform::acpi::{self, MmioDevice};
use crate::platform::pci::Function;
use crate::platform::{pci, random};
use virtio::blk::Disk;
use virtio::net::Card;
use virtio::{OpenError, StartError, VirtioDevice};

/// What [`probe`] found.
#[derive(Default)]
pub struct Devices {
    /// Network devices, ready for use.
    pub cards: Vec<Card>,
    /// Disks, ready for use, in the order of the bus.
    pub disks: Vec<Box<dyn BlockDevice>>,
    /// A console that nobody has started: who needs one does.
    pub console: Option<VirtioDevice>,
    /// A way to the host, not started either.
    pub socket: Option<VirtioDevice>,
}

/// Finds and starts all devices. `listed` are virtio devices that the command line names, for
/// machines without ACPI; cards may do what `offloads` says; `on_network` is called from the interrupt
/// handler when a network device has something to say, `on_disk` when a disk does.
pub fn probe(listed: &[MmioDevice], offloads: Offloads, on_network: fn(), on_disk: fn()) -> Devices {
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
        devices.start(device, offloads, on_network, on_disk);
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

impl Devices {
    fn start(&mut self, device: VirtioDevice, offloads: Offloads, on_network: fn(), on_disk: fn()) {
        let cores = acpi::machine().processors.len().max(1);
        let place = device.place.clone();
        let outcome = match device.kind {
            virtio::Kind::Network if self.cards.len() == MAX_CARDS => Err(StartError::TooMany(MAX_CARDS)),
            virtio::Kind::Network => {
                Card::start(device, offloads, on_network, cores).map(|card| self.cards.push(card))
            }
            virtio::Kind::Block => {
                Disk::start(device, on_disk, cores).map(|disk| self.disks.push(Box::new(disk)))
            }
            virtio::Kind::Entropy => virtio::rng::start(device),
            virtio::Kind::Socket => {
                self.socket.get_or_insert(device);
                Ok(())
            }
            virtio::Kind::Console => {
                self.console.get_or_insert(device);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            log::warn!("{place}: not used: {error}");
        }
    }
}
