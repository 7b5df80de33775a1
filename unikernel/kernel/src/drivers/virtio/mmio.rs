//! Virtio through registers in memory (specification, section 4.2), as `microvm` and Firecracker
//! have it, and its legacy version (QEMU's default).

use alloc::boxed::Box;

use unikernel_hal::registers;
use unikernel_machine::line::Line;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{PhysAddr, Result as DriverResult};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::transport::{Doorbell, read_fields, write_fields};
use super::{OpenError, StartError};
use crate::kmem::PAGE_BYTES;
use crate::platform::acpi::MmioDevice;
use crate::platform::interrupts;
use crate::platform::io::Mmio;

const MAGIC_VALUE: usize = 0x00;
const VERSION: usize = 0x04;
const DEVICE_ID: usize = 0x08;
const DEVICE_FEATURES: usize = 0x10;
const DEVICE_FEATURES_SELECT: usize = 0x14;
const DRIVER_FEATURES: usize = 0x20;
const DRIVER_FEATURES_SELECT: usize = 0x24;
const QUEUE_SELECT: usize = 0x30;
const QUEUE_SIZE_MAX: usize = 0x34;
const QUEUE_SIZE: usize = 0x38;
const QUEUE_READY: usize = 0x44;
const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const STATUS: usize = 0x70;
const QUEUE_DESCRIPTORS: usize = 0x80;
const QUEUE_DRIVER: usize = 0x90;
const QUEUE_DEVICE: usize = 0xa0;
const CONFIG_GENERATION: usize = 0xfc;
const CONFIG: usize = 0x100;
/// Of the legacy version only (section 4.2.4).
const LEGACY_PAGE_BYTES: usize = 0x28;
const LEGACY_QUEUE_ALIGN: usize = 0x3c;
const LEGACY_QUEUE_PAGE: usize = 0x40;
/// Registers without the device's own configuration.
const MIN_BYTES: usize = CONFIG;
/// With it, the most that there is a use for.
const MOST_BYTES: usize = 0x1000;
/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// What the version register says.
const LEGACY: u32 = 1;
const MODERN: u32 = 2;

/// A virtio device in memory.
pub(crate) struct MmioTransport {
    registers: Mmio,
    device_type: DeviceType,
    is_legacy: bool,
    line: Line,
}

impl MmioTransport {
    /// Opens the device, if there is one.
    pub(crate) fn open(device: &MmioDevice) -> Result<Self, OpenError> {
        if device.len < MIN_BYTES || !device.address.is_aligned(size_of::<u32>() as u64) {
            return Err(OpenError::NoDevice);
        }
        // Firmware or the command line says that a virtio device is there.
        let registers =
            registers::map(device.address, device.len.min(MOST_BYTES)).ok_or(OpenError::NoDevice)?;
        if registers.read::<u32>(MAGIC_VALUE) != MAGIC {
            return Err(OpenError::NoDevice);
        }
        // Of an empty slot.
        let id = registers.read::<u32>(DEVICE_ID);
        if id == 0 {
            return Err(OpenError::Empty);
        }
        let version = registers.read::<u32>(VERSION);
        let device_type = DeviceType::try_from(id).ok().filter(|_| matches!(version, LEGACY | MODERN));
        let device_type = device_type.ok_or(OpenError::NoDriver)?;
        Ok(Self { registers, device_type, is_legacy: version == LEGACY, line: device.line })
    }

    /// See [`super::transport::VirtioTransport::doorbell`].
    pub(crate) fn doorbell(&self, queue: u16) -> Doorbell {
        Doorbell { registers: self.registers, offset: Some(QUEUE_NOTIFY), queue, is_wide: true }
    }

    /// Routes the device's line to a handler that acknowledges and calls `on_interrupt`.
    pub(crate) fn connect_interrupt(&mut self, on_interrupt: fn()) -> Result<(), StartError> {
        let registers = self.registers;
        let handler = Box::leak(Box::new(move || {
            // Acknowledged before anybody looks at the queues: what comes after the look raises
            // the line anew.
            let status = registers.read::<u32>(INTERRUPT_STATUS);
            registers.write(INTERRUPT_ACKNOWLEDGE, status);
            on_interrupt();
        }));
        let vector = interrupts::register(handler).ok_or(StartError::NoInterrupt)?;
        interrupts::route(self.line, vector);
        Ok(())
    }
}

impl MmioTransport {
    fn select(&self, queue: u16) {
        self.registers.write(QUEUE_SELECT, u32::from(queue));
    }

    fn write_address(&self, register: usize, address: PhysAddr) {
        self.registers.write(register, address as u32);
        self.registers.write(register + 4, (address >> 32) as u32);
    }
}

impl Transport for MmioTransport {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |select: u32| -> u64 {
            self.registers.write(DEVICE_FEATURES_SELECT, select);
            u64::from(self.registers.read::<u32>(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        for (select, half) in [(0u32, driver_features as u32), (1, (driver_features >> 32) as u32)] {
            self.registers.write(DRIVER_FEATURES_SELECT, select);
            self.registers.write(DRIVER_FEATURES, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        self.registers.read(QUEUE_SIZE_MAX)
    }

    #[inline]
    fn notify(&mut self, queue: u16) {
        self.registers.write(QUEUE_NOTIFY, u32::from(queue));
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.registers.read(STATUS))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.registers.write(STATUS, status.bits());
    }

    fn set_guest_page_size(&mut self, bytes: u32) {
        if self.is_legacy {
            self.registers.write(LEGACY_PAGE_BYTES, bytes);
        }
    }

    fn requires_legacy_layout(&self) -> bool {
        self.is_legacy
    }

    /// A legacy device knows where the parts lie behind the first (`unikernel_machine::ring::Layout`).
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        self.registers.write(QUEUE_SIZE, size);
        if self.is_legacy {
            let page = u32::try_from(descriptors / PAGE_BYTES as u64).expect("a ring below 16 TiB");
            self.registers.write(LEGACY_QUEUE_ALIGN, PAGE_BYTES as u32);
            self.registers.write(LEGACY_QUEUE_PAGE, page);
            return;
        }
        self.write_address(QUEUE_DESCRIPTORS, descriptors);
        self.write_address(QUEUE_DRIVER, driver_area);
        self.write_address(QUEUE_DEVICE, device_area);
        self.registers.write(QUEUE_READY, 1u32);
    }

    fn queue_unset(&mut self, _: u16) {
        // Rings are kept for ever; a device lets go of them with its reset.
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        let register = if self.is_legacy { LEGACY_QUEUE_PAGE } else { QUEUE_READY };
        self.registers.read::<u32>(register) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let status = self.registers.read(INTERRUPT_STATUS);
        self.registers.write(INTERRUPT_ACKNOWLEDGE, status);
        InterruptStatus::from_bits_truncate(status)
    }

    fn read_config_generation(&self) -> u32 {
        self.registers.read(CONFIG_GENERATION)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> DriverResult<T> {
        read_fields(self.registers, CONFIG, offset)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> DriverResult<()> {
        write_fields(self.registers, CONFIG, offset, &value)
    }
}
