//! What can go wrong: at a mount, at a format, in an operation. No errno: the kernel's glue translates.

use alloc::string::String;

pub use unikernel_vfs::Error;

use crate::device::DeviceError;

impl From<DeviceError> for Error {
    fn from(_: DeviceError) -> Self {
        Self::Device
    }
}

/// Why a device cannot be mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountError {
    /// There is no ext4 superblock: unformatted, or something else.
    NotExt4,
    /// An incompatible feature that this crate does not know, by its name in `dumpe2fs`.
    UnknownFeature(String),
    /// A feature without which this crate reads no files, by its name in `dumpe2fs`: ext2 or ext3.
    MissingFeature(&'static str),
    /// The device's sectors have more bytes than the filesystem's blocks.
    LargeSectors,
    /// The journal must be replayed, and the device cannot be written.
    NeedsRecovery,
    /// What the disk holds contradicts itself; the text says where.
    Corrupt(&'static str),
    /// The device reported an I/O error.
    Device,
    /// There is no memory.
    NoMemory,
}

impl From<DeviceError> for MountError {
    fn from(_: DeviceError) -> Self {
        Self::Device
    }
}

impl From<Error> for MountError {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt(place) => Self::Corrupt(place),
            Error::Device => Self::Device,
            Error::NoSpace => Self::Corrupt("no space to recover into"),
            // Only the journal is a file that a mount reads.
            Error::Unsupported => Self::UnknownFeature("a journal with a block map".into()),
            _ => Self::Corrupt("recovery failed"),
        }
    }
}

/// Why a device cannot be formatted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatError {
    /// Too small for a journal, or too large for 32-bit block groups.
    BadSize,
    /// The device cannot be written.
    ReadOnly,
    /// The options contradict each other or the format.
    BadOptions,
    /// The device reported an I/O error.
    Device,
}

impl From<DeviceError> for FormatError {
    fn from(_: DeviceError) -> Self {
        Self::Device
    }
}
