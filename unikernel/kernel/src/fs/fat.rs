//! FAT with long names (`unikernel_fat`), as USB sticks and the partitions of UEFI have it; read-only.

use alloc::boxed::Box;
use alloc::format;

use linux_raw_sys::general::MSDOS_SUPER_MAGIC;
use unikernel_fat::{Fat, MountError as FatError, identify};

use crate::block::volume::Volume;
use crate::vfs::filesystem_type::{Access, FilesystemType, MountError, MountResult, Source};

/// The kind.
pub(super) const TYPE: FilesystemType = FilesystemType {
    name: "vfat",
    magic: MSDOS_SUPER_MAGIC,
    source: Source::Device { mount, identify: |volume| identify(volume), format: None },
};

fn mount(volume: &Volume, access: Access, disk: &str) -> MountResult {
    let fat = Fat::mount(volume.clone()).map_err(|error| match error {
        FatError::NotFat => MountError::NotFound,
        error => MountError::Refused(format!("{error}")),
    })?;
    if access == Access::ReadWrite {
        log::warn!(
            "{disk}: read-only, as this kernel does not write FAT (`:ro` behind `mount=` says so, too)"
        );
    }
    Ok(Box::new(fat))
}
