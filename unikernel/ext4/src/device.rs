//! What the filesystem stands on: a block device that can read, write and flush.

use alloc::sync::Arc;

/// Bytes of zeros that are written at once.
const ZEROS_BYTES: u64 = 1 << 20;

/// The device reported an I/O error, or the request went past its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceError;

/// A disk. Calls block the calling thread until done; offsets and lengths are in bytes and multiples of 512.
pub trait BlockDevice: Send + Sync {
    /// Returns the device's size in bytes.
    fn size_bytes(&self) -> u64;

    /// Bytes that the device reads and writes at once; it takes others, but slower, and not atomically.
    fn sector_bytes(&self) -> usize {
        512
    }

    /// True if writes would fail.
    fn is_read_only(&self) -> bool;

    /// Fills `into` with what the device holds at `offset`.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes all of `writes`, several at once where the device can, in no order; returns when all have
    /// completed, perhaps only into the device's cache.
    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError>;

    /// Returns when all completed writes survive a power cut.
    fn flush(&self) -> Result<(), DeviceError>;

    /// Sets bytes to zero. Devices that can do so by themselves do.
    fn zero(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        write_zeros(self, offset, len)
    }

    /// Tells the device that these bytes are not needed any more. What they read as afterwards is undefined.
    fn discard(&self, _offset: u64, _len: u64) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for &D {
    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn sector_bytes(&self) -> usize {
        (**self).sector_bytes()
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        (**self).read(offset, into)
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        (**self).write(writes)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        (**self).flush()
    }

    fn zero(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        (**self).zero(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        (**self).discard(offset, len)
    }
}

/// Reads what is to be checked and parsed. The device was given other memory than this: what it writes there once it has
/// answered, against all rules, changes nothing that was found right.
pub(crate) fn read_to_parse<D: BlockDevice + ?Sized>(
    device: &D,
    offset: u64,
    len: usize,
) -> Result<Arc<[u8]>, DeviceError> {
    let mut given = alloc::vec![0; len];
    device.read(offset, &mut given)?;
    Ok(Arc::from(given.as_slice()))
}

/// Sets bytes to zero by writing zeros.
pub fn write_zeros<D: BlockDevice + ?Sized>(device: &D, offset: u64, len: u64) -> Result<(), DeviceError> {
    let zeros = alloc::vec![0; len.min(ZEROS_BYTES) as usize];
    (offset..offset + len).step_by(ZEROS_BYTES as usize).try_for_each(|at| {
        let len = (offset + len - at).min(ZEROS_BYTES) as usize;
        device.write(&[(at, &zeros[..len])])
    })
}
