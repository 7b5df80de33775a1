//! What a filesystem that is only read lies on.

use alloc::vec::Vec;

/// Bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadError;

/// A disk or a partition.
pub trait Volume {
    /// Its size in bytes.
    fn size_bytes(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on, which are all on it.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

impl<V: Volume + ?Sized> Volume for &V {
    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(offset, into)
    }
}

/// An image in memory.
impl Volume for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).map_err(|_| ReadError)?;
        let end = start.checked_add(into.len()).ok_or(ReadError)?;
        into.copy_from_slice(self.get(start..end).ok_or(ReadError)?);
        Ok(())
    }
}
