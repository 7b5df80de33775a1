//! One type for a device on either transport, so that drivers need not be generic.

use bitflags::Flags;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::StartError;
use super::mmio::MmioTransport;
use super::pci::PciTransport;
use crate::kmem::PAGE_BYTES;
use crate::platform::io::Mmio;

/// The way to a device.
pub(crate) enum VirtioTransport {
    /// Over PCI.
    Pci(PciTransport),
    /// Through registers in memory.
    Mmio(MmioTransport),
}

/// The features that belong to the transport rather than to the device: the device uses memory as the platform
/// lets it (section 6), which is by physical addresses where nobody set up an IOMMU.
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;

impl VirtioTransport {
    /// Resets the device and agrees with it on features (section 3.1.1): those of `wanted` that it offers. The bits of
    /// its status are set one by one, which Firecracker insists on. `choose` may leave out more of them.
    pub(crate) fn negotiate<F: Flags<Bits = u64>>(
        &mut self,
        choose: impl FnOnce(F) -> F,
    ) -> core::result::Result<F, StartError> {
        self.set_status(DeviceStatus::empty());
        let mut status = DeviceStatus::ACKNOWLEDGE;
        self.set_status(status);
        status |= DeviceStatus::DRIVER;
        self.set_status(status);
        let offered = self.read_device_features();
        let features = choose(F::from_bits_truncate(offered));
        self.write_driver_features(features.bits() & offered | offered & ACCESS_PLATFORM);
        let is_modern = features.bits() & offered & VERSION_1 != 0;
        if is_modern {
            status |= DeviceStatus::FEATURES_OK;
            self.set_status(status);
            if !self.get_status().contains(DeviceStatus::FEATURES_OK) {
                self.set_status(status | DeviceStatus::FAILED);
                return Err(StartError::FeaturesRefused);
            }
        }
        self.set_guest_page_size(PAGE_BYTES as u32);
        Ok(F::from_bits_truncate(features.bits() & offered))
    }

    /// Lets the device begin, after its queues were set up.
    pub(crate) fn start(&mut self) {
        let status = self.get_status();
        self.set_status(status | DeviceStatus::DRIVER_OK);
    }

    /// Calls `on_interrupt` from the interrupt handler when the device raises its interrupt. Call
    /// before the queues are set up.
    ///
    /// A device that can has an interrupt for each of `count` queue pairs; one that cannot has one for all of
    /// them.
    pub(crate) fn connect_interrupt(
        &mut self,
        on_interrupt: fn(),
        count: usize,
    ) -> core::result::Result<(), StartError> {
        match self {
            Self::Pci(link) => link.connect_interrupt(on_interrupt, count),
            Self::Mmio(link) => link.connect_interrupt(on_interrupt),
        }
    }

    /// Sends the interrupts of each pair of queues to a core of its own, where that can be.
    pub(crate) fn spread_interrupts(&self) {
        match self {
            Self::Pci(link) => link.spread_interrupts(),
            // One line has one target.
            Self::Mmio(_) => {}
        }
    }

    /// What to write to to notify the device of a queue that is set up.
    pub(crate) fn doorbell(&self, queue: u16) -> Doorbell {
        match self {
            Self::Pci(link) => link.doorbell(queue),
            Self::Mmio(link) => link.doorbell(queue),
        }
    }
}

/// A register that notifies the device of one queue (section 4.1.4.4, 4.2.2): each queue's owner has its own,
/// so that cores need no common lock for it.
#[derive(Clone, Copy)]
pub(crate) struct Doorbell {
    pub(super) registers: Mmio,
    /// `None` if the device says that it is where there are no registers: then nobody is notified.
    pub(super) offset: Option<usize>,
    pub(super) queue: u16,
    /// Whether the register takes 32 bits (memory) or 16 (PCI).
    pub(super) is_wide: bool,
}

impl Doorbell {
    /// Notifies the device.
    #[inline]
    pub(crate) fn ring(self) {
        match (self.offset, self.is_wide) {
            (Some(offset), true) => self.registers.write(offset, u32::from(self.queue)),
            (Some(offset), false) => self.registers.write(offset, self.queue),
            (None, _) => {}
        }
    }
}

/// Reads a field of a device's configuration, which begins at `start`, in its own width (section 4.1.3.1, 4.2.2.2), 64 bits as twice 32;
/// what is longer is an array of bytes. Readers that mind a change in between use `read_consistent` (section 2.5.3).
pub(super) fn read_fields<T: FromBytes + IntoBytes>(
    registers: Mmio,
    start: usize,
    offset: usize,
) -> Result<T> {
    if start + offset + size_of::<T>() > registers.size_bytes() {
        return Err(Error::ConfigSpaceTooSmall);
    }
    let mut value = T::new_zeroed();
    let width = align_of::<T>().min(size_of::<u32>());
    for (index, part) in value.as_mut_bytes().chunks_exact_mut(width).enumerate() {
        let at = start + offset + index * width;
        match width {
            4 if at.is_multiple_of(4) => part.copy_from_slice(&registers.read::<u32>(at).to_le_bytes()),
            2 if at.is_multiple_of(2) => part.copy_from_slice(&registers.read::<u16>(at).to_le_bytes()),
            1 => part[0] = registers.read(at),
            _ => return Err(Error::InvalidParam),
        }
    }
    Ok(value)
}

/// Writes a field of a device's configuration; see [`read_fields`].
pub(super) fn write_fields<T: IntoBytes + Immutable>(
    registers: Mmio,
    start: usize,
    offset: usize,
    value: &T,
) -> Result<()> {
    if start + offset + size_of::<T>() > registers.size_bytes() {
        return Err(Error::ConfigSpaceTooSmall);
    }
    let width = align_of::<T>().min(size_of::<u32>());
    for (index, part) in value.as_bytes().chunks_exact(width).enumerate() {
        let at = start + offset + index * width;
        match *part {
            [byte] => registers.write(at, byte),
            [a, b] if at.is_multiple_of(2) => registers.write(at, u16::from_le_bytes([a, b])),
            [a, b, c, d] if at.is_multiple_of(4) => registers.write(at, u32::from_le_bytes([a, b, c, d])),
            _ => return Err(Error::InvalidParam),
        }
    }
    Ok(())
}

/// Calls a method of whichever transport it is.
macro_rules! each {
    ($link:expr, $transport:ident => $call:expr) => {
        match $link {
            VirtioTransport::Pci($transport) => $call,
            VirtioTransport::Mmio($transport) => $call,
        }
    };
}

impl Transport for VirtioTransport {
    fn device_type(&self) -> DeviceType {
        each!(self, t => t.device_type())
    }

    fn read_device_features(&mut self) -> u64 {
        each!(self, t => t.read_device_features())
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        each!(self, t => t.write_driver_features(driver_features));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        each!(self, t => t.max_queue_size(queue))
    }

    #[inline]
    fn notify(&mut self, queue: u16) {
        each!(self, t => t.notify(queue));
    }

    fn get_status(&self) -> DeviceStatus {
        each!(self, t => t.get_status())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        each!(self, t => t.set_status(status));
    }

    fn set_guest_page_size(&mut self, guest_page_size: u32) {
        each!(self, t => t.set_guest_page_size(guest_page_size));
    }

    fn requires_legacy_layout(&self) -> bool {
        each!(self, t => t.requires_legacy_layout())
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        each!(self, t => t.queue_set(queue, size, descriptors, driver_area, device_area));
    }

    fn queue_unset(&mut self, queue: u16) {
        each!(self, t => t.queue_unset(queue));
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        each!(self, t => t.queue_used(queue))
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        each!(self, t => t.ack_interrupt())
    }

    fn read_config_generation(&self) -> u32 {
        each!(self, t => t.read_config_generation())
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        each!(self, t => t.read_config_space(offset))
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<()> {
        each!(self, t => t.write_config_space(offset, value))
    }
}
