//! Why a volume is not mounted.

use core::fmt;

use unikernel_vfs::Error;

/// Why a mount failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MountError {
    /// There is no boot sector of FAT: unformatted, or something else.
    NotFat,
    /// What the volume holds contradicts itself; the text says where.
    Corrupt(&'static str),
    /// The device reported an I/O error.
    Device,
    /// There is no memory.
    NoMemory,
}

impl From<Error> for MountError {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt(place) => Self::Corrupt(place),
            Error::NoMemory => Self::NoMemory,
            _ => Self::Device,
        }
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFat => f.write_str("has no FAT filesystem"),
            Self::Corrupt(place) => write!(f, "its FAT filesystem is damaged: {place}"),
            Self::Device => f.write_str("it cannot be read"),
            Self::NoMemory => f.write_str("there is no memory"),
        }
    }
}

impl core::error::Error for MountError {}
