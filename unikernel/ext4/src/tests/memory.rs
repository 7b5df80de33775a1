//! A disk in memory.

use std::sync::Mutex;
use std::vec::Vec;

use crate::{BlockDevice, DeviceError};

/// A disk in memory, whose content can be looked at.
pub(crate) struct MemoryDevice(Mutex<Vec<u8>>);

impl MemoryDevice {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Mutex::new(std::vec![0; bytes]))
    }

    pub(crate) fn of(image: Vec<u8>) -> Self {
        Self(Mutex::new(image))
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.lock().expect("no test panicked with it").clone()
    }
}

fn range(offset: u64, len: usize, all: usize) -> Result<core::ops::Range<usize>, DeviceError> {
    assert!(offset.is_multiple_of(512) && len.is_multiple_of(512), "offset {offset}, length {len}");
    let from = usize::try_from(offset).map_err(|_| DeviceError)?;
    let end = from.checked_add(len).filter(|end| *end <= all).ok_or(DeviceError)?;
    Ok(from..end)
}

impl BlockDevice for MemoryDevice {
    fn size_bytes(&self) -> u64 {
        self.0.lock().expect("no test panicked with it").len() as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let bytes = self.0.lock().map_err(|_| DeviceError)?;
        into.copy_from_slice(&bytes[range(offset, into.len(), bytes.len())?]);
        Ok(())
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut bytes = self.0.lock().map_err(|_| DeviceError)?;
        for (offset, data) in writes {
            let range = range(*offset, data.len(), bytes.len())?;
            bytes[range].copy_from_slice(data);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Discarded bytes read as rubbish, so that nobody can rely on them.
    fn discard(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        let mut bytes = self.0.lock().map_err(|_| DeviceError)?;
        let range = range(offset, len as usize, bytes.len())?;
        bytes[range].fill(0xdb);
        Ok(())
    }
}
