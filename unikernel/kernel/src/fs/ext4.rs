//! A disk or a partition, as ext4 sees it.

use unikernel_ext4::{BlockDevice, DeviceError, write_zeros};

use crate::block::device::DiskError;
use crate::block::volume::Volume;

fn device_error(_: DiskError) -> DeviceError {
    DeviceError
}

impl BlockDevice for Volume {
    fn size_bytes(&self) -> u64 {
        Volume::size_bytes(self)
    }

    fn sector_bytes(&self) -> usize {
        self.limits().block_bytes as usize
    }

    fn is_read_only(&self) -> bool {
        Volume::is_read_only(self)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        Volume::read(self, offset, into).map_err(device_error)
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        Volume::write(self, writes).map_err(device_error)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Volume::flush(self).map_err(device_error)
    }

    fn zero(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        match self.can_zero() {
            true => Volume::zero(self, offset, len).map_err(device_error),
            false => write_zeros(self, offset, len),
        }
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        Volume::discard(self, offset, len).map_err(device_error)
    }
}
