//! Virtio devices (Virtual I/O Device specification 1.2), modern and transitional.
//!
//! - [`transport`]: how a device is reached, over [`pci`] or [`mmio`], as one type;
//! - [`ring`]: the queue, for devices with fixed buffers (over [`unikernel_machine::ring`]);
//! - [`net`]; [`blk`], with [`blk_queue`]; [`rng`]; [`console`] and [`terminal`]; [`vsock`]; [`balloon`]; [`p9`]: the drivers.
//!
//! A device is not trusted with memory safety: what it writes (indices, lengths, contents) is
//! checked or clamped before use. It is trusted not to write where it was not told to.

pub(crate) mod balloon;
pub(crate) mod blk;
pub(crate) mod blk_queue;
pub(crate) mod console;
pub(crate) mod mmio;
pub(crate) mod net;
pub(crate) mod p9;
pub(crate) mod pci;
pub(crate) mod ring;
pub(crate) mod rng;
pub(crate) mod terminal;
pub(crate) mod transport;
pub(crate) mod vsock;

use alloc::format;
use alloc::string::String;
use core::fmt;

use virtio_drivers::transport::Transport;

use crate::drivers::registry::{self, Driver};
use crate::platform::acpi::MmioDevice;
use crate::platform::pci::Function;
use mmio::MmioTransport;
use pci::PciTransport;
use transport::VirtioTransport;

/// A device that was found but not started.
pub(crate) struct VirtioDevice {
    /// Who drives it.
    pub driver: &'static Driver,
    /// The way to it.
    pub link: VirtioTransport,
    /// Where it sits, for messages.
    pub place: String,
}

/// Why a device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartError {
    /// It has no interrupt that we can take.
    NoInterrupt,
    /// It refused the features that we asked for.
    FeaturesRefused,
    /// It is so old that it wants packets and their headers apart.
    NoAnyLayout,
    /// It has no queue with this number, or one that is too small.
    BadQueue(u16),
    /// Its configuration space cannot be read.
    BadConfiguration,
    /// It reads and writes so many bytes at once.
    BadBlocks(u32),
    /// There is no memory for its queues.
    OutOfMemory,
    /// There are so many of its kind already, and no more can be used.
    TooMany(usize),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterrupt => write!(f, "it has no interrupt that can be used"),
            Self::FeaturesRefused => write!(f, "it refuses the features asked for"),
            Self::NoAnyLayout => write!(f, "it is a legacy device without VIRTIO_F_ANY_LAYOUT"),
            Self::BadQueue(queue) => write!(f, "its queue {queue} is missing or too small"),
            Self::BadConfiguration => write!(f, "its configuration space is too small"),
            Self::OutOfMemory => {
                write!(f, "there is not enough memory for its queues (more, or fewer devices)")
            }
            Self::TooMany(most) => write!(f, "{most} of its kind can be used at most"),
            Self::BadBlocks(bytes) => {
                write!(f, "its blocks have {bytes} bytes: expected a power of two up to 4096")
            }
        }
    }
}

/// Why a device cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenError {
    /// It is no virtio device, or one of a kind that has no driver.
    NoDriver,
    /// There are no registers of such a device.
    NoDevice,
    /// There is a place for a device, and none in it.
    Empty,
    /// It has no register structures of virtio 1.
    Legacy,
    /// Some of them are missing, or have no address.
    NoStructures,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => write!(f, "there is no driver for it"),
            Self::NoDevice => write!(f, "no virtio device has its registers there"),
            Self::Empty => write!(f, "the place is empty"),
            Self::Legacy => {
                write!(f, "it is a legacy device without virtio 1 (with QEMU, leave `disable-modern=on` out)")
            }
            Self::NoStructures => {
                write!(f, "its registers are incomplete, or the firmware gave them no address")
            }
        }
    }
}

/// Opens a PCI function, if it is a virtio device that we drive.
pub(crate) fn open_pci(function: Function) -> Result<VirtioDevice, OpenError> {
    let place = format!("virtio at PCI {}", function.address());
    VirtioDevice::new(VirtioTransport::Pci(PciTransport::open(function)?), place)
}

/// Opens a device in memory, if it is one that we drive.
pub(crate) fn open_mmio(device: &MmioDevice) -> Result<VirtioDevice, OpenError> {
    VirtioDevice::new(
        VirtioTransport::Mmio(MmioTransport::open(device)?),
        format!("virtio at {:#x}", device.address),
    )
}

impl VirtioDevice {
    fn new(link: VirtioTransport, place: String) -> Result<Self, OpenError> {
        let driver = registry::find(link.device_type()).ok_or(OpenError::NoDriver)?;
        Ok(Self { driver, link, place })
    }
}
