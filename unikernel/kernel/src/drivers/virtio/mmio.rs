//! Virtio through registers in memory (specification, section 4.2), as `microvm` and Firecracker
//! have it. The registers are driven by `virtio-drivers`' transport, which knows the legacy version
//! too (QEMU's default); the interrupt is ours.

use alloc::boxed::Box;
use core::ptr::NonNull;

use unikernel_machine::line::Line;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};

use super::transport::Doorbell;
use super::{OpenError, StartError};
use crate::platform::acpi::MmioDevice;
use crate::platform::interrupts;
use crate::platform::io::Mmio;

const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
/// Registers without the device's own configuration.
const MIN_BYTES: usize = 0x100;
/// With it, the most that there is a use for.
const MOST_BYTES: usize = 0x1000;
const MAGIC_VALUE: usize = 0x00;
const DEVICE_ID: usize = 0x08;
/// "virt".
const MAGIC: u32 = 0x7472_6976;

/// A virtio device in memory.
pub struct MmioLink {
    pub(super) transport: MmioTransport<'static>,
    registers: Mmio,
    line: Line,
}

impl MmioLink {
    /// Opens the device, if there is one.
    pub fn open(device: &MmioDevice) -> Result<Self, OpenError> {
        if device.len < MIN_BYTES || !device.address.is_aligned(size_of::<u32>() as u64) {
            return Err(OpenError::NoDevice);
        }
        let len = device.len.min(MOST_BYTES);
        // SAFETY: firmware or the command line says that a virtio device is there. It uses memory
        // only as queues tell it to, and the drivers put only DMA memory of their own into queues.
        let registers = unsafe { Mmio::map(device.address, len) };
        if registers.read::<u32>(MAGIC_VALUE) != MAGIC {
            return Err(OpenError::NoDevice);
        }
        // Of an empty slot.
        if registers.read::<u32>(DEVICE_ID) == 0 {
            return Err(OpenError::Empty);
        }
        let header = NonNull::new(registers.as_ptr().cast::<VirtIOHeader>()).ok_or(OpenError::NoDevice)?;
        // SAFETY: the registers are mapped for ever; the handle kept here touches only the
        // interrupt registers, which the transport leaves to us, and notifies.
        let transport = unsafe { MmioTransport::new(header, len) }.map_err(|_| OpenError::NoDriver)?;
        Ok(Self { transport, registers, line: device.line })
    }

    /// See [`super::transport::Link::doorbell`].
    pub fn doorbell(&self, queue: u16) -> Doorbell {
        Doorbell { registers: self.registers, offset: Some(QUEUE_NOTIFY), queue, is_wide: true }
    }

    /// Routes the device's line to a handler that acknowledges and calls `on_interrupt`.
    pub fn connect_interrupt(&mut self, on_interrupt: fn()) -> Result<(), StartError> {
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
