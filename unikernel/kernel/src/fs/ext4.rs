//! ext4 (`unikernel_ext4`) on a disk or a partition.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use linux_raw_sys::general::EXT4_SUPER_MAGIC;
use unikernel_ext4::{
    BlockDevice, DeviceError, Ext4, FormatOptions, MountError as Ext4Error, MountMode, identify, write_zeros,
};

use crate::block::device::DiskError;
use crate::block::volume::Volume;
use crate::platform::random;
use crate::vfs::filesystem_type::{Access, FilesystemType, Format, MountError, MountResult, Source};
use crate::vfs::now;

/// The kind.
pub(super) const TYPE: FilesystemType = FilesystemType {
    name: "ext4",
    magic: EXT4_SUPER_MAGIC,
    source: Source::Device {
        mount,
        identify: |volume| identify(volume),
        format: Some(Format { make: format, command: "mke2fs -t ext4" }),
    },
};

fn mount(volume: &Volume, access: Access, disk: &str) -> MountResult {
    let mode = match access {
        Access::ReadOnly => MountMode::ReadOnly,
        Access::ReadWrite => MountMode::ReadWrite,
    };
    let ext4 = Ext4::mount(volume.clone(), mode, now()).map_err(|error| match error {
        Ext4Error::NotExt4 => MountError::NotFound,
        error => MountError::Refused(reason(&error)),
    })?;
    if let Some(feature) = ext4.read_only_feature() {
        log::warn!("{disk}: read-only, for this kernel does not know ext4's feature `{feature}`");
    }
    Ok(Box::new(ext4))
}

/// Why a filesystem is not mounted, for people.
fn reason(error: &Ext4Error) -> String {
    match error {
        Ext4Error::UnknownFeature(feature) => format!("this kernel does not know ext4's feature `{feature}`"),
        Ext4Error::MissingFeature(feature) => format!(
            "it lacks ext4's feature `{feature}`, as ext2 and ext3 do; make a new filesystem with `mke2fs -t ext4`"
        ),
        Ext4Error::LargeSectors => "its sectors are larger than the filesystem's blocks; make one with \
                                    `mke2fs -t ext4 -b 4096`"
            .into(),
        Ext4Error::NeedsRecovery => "its journal must be replayed, but the disk is read-only".into(),
        error => format!("{error:?}"),
    }
}

fn format(volume: &Volume) -> Result<(), String> {
    let mut options = FormatOptions::default();
    random::fill(&mut options.uuid);
    random::fill(&mut options.hash_seed);
    Ext4::format(volume, &options, now()).map_err(|error| format!("{error:?}"))
}

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
