//! What may be wrong with what is on a volume, and bounded reading from it.

use alloc::vec::Vec;
use core::fmt;

use unikernel_vfs::{Error, ReadError, Volume};

use crate::MAX_FILE_BYTES;

/// Why a volume cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumeError {
    /// The disk fails.
    Read,
    /// A number on it leads beyond its end, or in a circle.
    Damaged,
    /// A file is larger than anybody needs.
    TooLarge,
    /// There is no memory for a file.
    OutOfMemory,
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("it cannot be read"),
            Self::Damaged => f.write_str("its filesystem is damaged"),
            Self::TooLarge => write!(f, "a file on it has more than {} KiB", MAX_FILE_BYTES >> 10),
            Self::OutOfMemory => f.write_str("there is no memory for a file on it"),
        }
    }
}

impl From<ReadError> for VolumeError {
    fn from(_: ReadError) -> Self {
        Self::Read
    }
}

impl From<Error> for VolumeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Device => Self::Read,
            Error::NoMemory => Self::OutOfMemory,
            _ => Self::Damaged,
        }
    }
}

/// Reads bytes if they are on the volume.
pub(crate) fn read_at(volume: &dyn Volume, offset: u64, into: &mut [u8]) -> Result<(), VolumeError> {
    let end = offset.checked_add(into.len() as u64).ok_or(VolumeError::Damaged)?;
    if end > volume.size_bytes() {
        return Err(VolumeError::Damaged);
    }
    Ok(volume.read(offset, into)?)
}

/// So many zeros, if they are not too many.
pub(crate) fn zeros(len: usize) -> Result<Vec<u8>, VolumeError> {
    if len > MAX_FILE_BYTES {
        return Err(VolumeError::TooLarge);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| VolumeError::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// The number of two bytes there, little-endian; 0 behind the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// The same of four bytes.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
