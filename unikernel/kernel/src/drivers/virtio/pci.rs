//! Virtio over PCI (specification, section 4.1), through the modern capabilities, which
//! transitional devices have too. A pair of queues has an MSI-X vector of its own; a notification is one
//! write.

use alloc::boxed::Box;
use alloc::vec::Vec;

use pci_types::capability::PciCapability;
use unikernel_hal::registers;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::transport::{Doorbell, read_fields, write_fields};
use super::{OpenError, StartError};
use crate::arch::cpu::{self, this_cpu};
use crate::platform::interrupts::{self, Vector};
use crate::platform::io::Mmio;
use crate::platform::pci::{Function, MsixTable};
use crate::platform::{shared_line, time};

/// How long a device may take to reset itself.
const RESET_PATIENCE_NS: u64 = 1_000_000_000;

const VIRTIO_VENDOR: u16 = 0x1af4;
/// Device ids: transitional ones, and modern ones (this plus the device type).
const FIRST_TRANSITIONAL: u16 = 0x1000;
const LAST_TRANSITIONAL: u16 = 0x103f;
const FIRST_MODERN: u16 = 0x1040;
/// Kinds of configuration structures (section 4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
/// The most of a structure that is mapped: QEMU's notifications have 4 MiB.
const MOST_BYTES: u32 = 8 << 20;
/// "No vector" in the vector registers.
const NO_VECTOR: u16 = 0xffff;

/// Offsets in the common configuration (section 4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_VECTOR: usize = 0x10;
    pub(super) const STATUS: usize = 0x14;
    pub(super) const GENERATION: usize = 0x15;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
    pub(super) const QUEUE_DESCRIPTORS: usize = 0x20;
    pub(super) const QUEUE_DRIVER: usize = 0x28;
    pub(super) const QUEUE_DEVICE: usize = 0x30;
    pub(super) const SIZE_BYTES: usize = 0x38;
}

/// A virtio device on the PCI bus.
pub(crate) struct PciTransport {
    function: Function,
    device_type: DeviceType,
    common: Mmio,
    notify: Mmio,
    notify_multiplier: usize,
    isr: Mmio,
    config: Option<Mmio>,
    /// Where in `notify` to write for each queue.
    notify_offsets: Vec<Option<usize>>,
    msix: Option<MsixTable>,
    /// The vectors of the table's first entries.
    vectors: Vec<Vector>,
}

/// A configuration structure: where it is, and for notifications the distance between queues.
struct Structure {
    kind: u8,
    registers: Mmio,
    multiplier: u32,
}

impl PciTransport {
    /// Finds the structures of a virtio function.
    pub(crate) fn open(mut function: Function) -> core::result::Result<Self, OpenError> {
        let device_type = device_type(&function).ok_or(OpenError::NoDriver)?;
        function.enable_memory();
        let is_vendors = |capability| matches!(capability, PciCapability::Vendor(_));
        if !function.capabilities().any(is_vendors) {
            return Err(OpenError::Legacy);
        }
        let find = |kind| {
            let found = structures(&function).find(|structure| structure.kind == kind);
            found.ok_or(OpenError::NoStructures)
        };
        let common = find(COMMON)?.registers;
        let notify = find(NOTIFY)?;
        let isr = find(ISR)?.registers;
        let config = find(DEVICE).ok().map(|structure| structure.registers);
        if common.size_bytes() < common::SIZE_BYTES {
            return Err(OpenError::NoStructures);
        }
        Ok(Self {
            device_type,
            common,
            notify: notify.registers,
            notify_multiplier: notify.multiplier as usize,
            isr,
            config,
            notify_offsets: Vec::new(),
            msix: None,
            vectors: Vec::new(),
            function,
        })
    }

    /// Takes a vector for each pair of queues, as far as the device's MSI-X table reaches. All go to this
    /// core; see [`Self::spread_interrupts`].
    pub(crate) fn connect_interrupt(
        &mut self,
        on_interrupt: fn(),
        count: usize,
    ) -> core::result::Result<(), StartError> {
        let Some(table) = self.function.enable_msix() else { return self.connect_line(on_interrupt) };
        let handler = Box::leak(Box::new(on_interrupt));
        let count = if table.count() < count { 1 } else { count };
        for index in 0..count {
            let vector = interrupts::register(handler).ok_or(StartError::NoInterrupt)?;
            table.set(index, vector, this_cpu().index());
            self.vectors.push(vector);
        }
        self.msix = Some(table);
        Ok(())
    }

    /// Without MSI-X, the device has the line that the firmware chose, perhaps with others.
    fn connect_line(&mut self, on_interrupt: fn()) -> core::result::Result<(), StartError> {
        let isr = self.isr;
        let line = self.function.enable_line().ok_or(StartError::NoInterrupt)?;
        let is_shared = shared_line::add(line, move || {
            // Reading takes the request back (section 4.1.4.5). Bit 0: a queue; bit 1: the configuration.
            if isr.read::<u8>(0) & 0b11 != 0 {
                on_interrupt();
            }
        });
        if is_shared { Ok(()) } else { Err(StartError::NoInterrupt) }
    }

    /// Sends the interrupts of each pair of queues to a core of its own, now that all of them run.
    pub(crate) fn spread_interrupts(&self) {
        let Some(table) = &self.msix else { return };
        for (index, vector) in self.vectors.iter().enumerate() {
            table.set(index, *vector, index % cpu::online());
        }
    }

    /// See [`super::transport::VirtioTransport::doorbell`].
    pub(crate) fn doorbell(&self, queue: u16) -> Doorbell {
        let offset = self.notify_offsets.get(usize::from(queue)).copied().flatten();
        Doorbell { registers: self.notify, offset, queue, is_wide: false }
    }

    fn select(&self, queue: u16) {
        self.common.write(common::QUEUE_SELECT, queue);
    }

    /// The number of a queue's vector in the device's table: that of its pair, if there are so many.
    fn vector(&self, queue: u16) -> u16 {
        match self.vectors.len() as u16 {
            0 => NO_VECTOR,
            count => queue / 2 % count,
        }
    }

    fn write_address(&self, register: usize, address: u64) {
        self.common.write(register, address as u32);
        self.common.write(register + 4, (address >> 32) as u32);
    }
}

fn device_type(function: &Function) -> Option<DeviceType> {
    if function.vendor != VIRTIO_VENDOR {
        return None;
    }
    let number = match function.device {
        // The subsystem id of a transitional device is its type (section 4.1.2.3).
        FIRST_TRANSITIONAL..=LAST_TRANSITIONAL => (function.read_config(0x2c) >> 16) as u16,
        device => device.checked_sub(FIRST_MODERN)?,
    };
    DeviceType::try_from(number).ok()
}

/// The structures that the function's vendor capabilities point to (section 4.1.4).
fn structures(function: &Function) -> impl Iterator<Item = Structure> {
    function.capabilities().filter_map(move |capability| {
        let PciCapability::Vendor(at) = capability else { return None };
        let [_, _, capability_bytes, kind] = function.read_config(at.offset).to_le_bytes();
        let bar = function.read_config(at.offset + 4).to_le_bytes()[0];
        let offset = function.read_config(at.offset + 8);
        let len = function.read_config(at.offset + 12);
        if !(COMMON..=DEVICE).contains(&kind) || capability_bytes < 16 || len == 0 {
            return None;
        }
        let multiplier = if kind == NOTIFY { function.read_config(at.offset + 16) } else { 0 };
        let start = function.memory_bar(bar, offset)?;
        // Section 4.1.4.1: fields are where their width can be read.
        let align = match kind {
            ISR => 1,
            NOTIFY => 2,
            _ => 4,
        };
        if !offset.is_multiple_of(align) {
            return None;
        }
        // The device says that its registers are there.
        let registers = registers::map(start, len.min(MOST_BYTES) as usize)?;
        Some(Structure { kind, registers, multiplier })
    })
}

impl Transport for PciTransport {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |select: u32| -> u64 {
            self.common.write(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read::<u32>(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        for (select, half) in [(0u32, driver_features as u32), (1, (driver_features >> 32) as u32)] {
            self.common.write(common::DRIVER_FEATURE_SELECT, select);
            self.common.write(common::DRIVER_FEATURE, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u32::from(self.common.read::<u16>(common::QUEUE_SIZE))
    }

    #[inline]
    fn notify(&mut self, queue: u16) {
        if let Some(Some(offset)) = self.notify_offsets.get(usize::from(queue)) {
            self.notify.write(*offset, queue);
        }
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(u32::from(self.common.read::<u8>(common::STATUS)))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.common.write(common::STATUS, status.bits() as u8);
        if status.is_empty() {
            // A reset is done when the status reads 0 (section 4.1.4.3.2).
            let deadline_ns = time::now_ns().saturating_add(RESET_PATIENCE_NS);
            while self.common.read::<u8>(common::STATUS) != 0 {
                if time::now_ns() >= deadline_ns {
                    log::warn!("PCI {}: the device does not finish its reset", self.function.address());
                    break;
                }
                core::hint::spin_loop();
            }
            self.function.enable_bus_master();
        }
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        self.common.write(common::QUEUE_SIZE, size as u16);
        self.common.write(common::QUEUE_VECTOR, self.vector(queue));
        self.write_address(common::QUEUE_DESCRIPTORS, descriptors);
        self.write_address(common::QUEUE_DRIVER, driver_area);
        self.write_address(common::QUEUE_DEVICE, device_area);
        let offset =
            usize::from(self.common.read::<u16>(common::QUEUE_NOTIFY_OFFSET)) * self.notify_multiplier;
        let is_inside = offset + size_of::<u16>() <= self.notify.size_bytes() && offset.is_multiple_of(2);
        let slots = self.notify_offsets.len().max(usize::from(queue) + 1);
        self.notify_offsets.resize(slots, None);
        self.notify_offsets[usize::from(queue)] = is_inside.then_some(offset);
        self.common.write(common::CONFIG_VECTOR, self.vector(0));
        self.common.write(common::QUEUE_ENABLE, 1u16);
    }

    fn queue_unset(&mut self, _: u16) {
        // A modern device without VIRTIO_F_RING_RESET lets go of queues only with a whole reset.
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.common.read::<u16>(common::QUEUE_ENABLE) == 1
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // Reading clears it. With MSI-X, nobody needs to.
        InterruptStatus::from_bits_truncate(u32::from(self.isr.read::<u8>(0)))
    }

    fn read_config_generation(&self) -> u32 {
        u32::from(self.common.read::<u8>(common::GENERATION))
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let config = self.config.ok_or(Error::ConfigSpaceMissing)?;
        read_fields(config, 0, offset)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<()> {
        let config = self.config.ok_or(Error::ConfigSpaceMissing)?;
        write_fields(config, 0, offset, &value)
    }
}
