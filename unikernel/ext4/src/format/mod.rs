//! Formatting: what `mke2fs -t ext4` makes by default, without `resize_inode`. `plan` decides where everything
//! lies, `write` puts it there.

mod plan;
mod write;

use alloc::vec::Vec;

use crate::{BlockDevice, Ext4, FormatError, Timestamp};

/// How a device is formatted. `Default` is what `mke2fs -t ext4` does, but for the block size: 4096 bytes from
/// 64 MiB on, where `mke2fs` waits for 512 MiB.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// Up to 16 bytes of label.
    pub label: Vec<u8>,
    /// The filesystem's identity; should be random.
    pub uuid: [u8; 16],
    /// Seeds the directories' hashes; should be random.
    pub hash_seed: [u8; 16],
    /// Bytes in a block: 1024, 2048 or 4096; `None` chooses by size.
    pub block_bytes: Option<u32>,
    /// Bytes of disk for each inode; `None` chooses by size.
    pub inode_ratio: Option<u32>,
}

impl<D: BlockDevice> Ext4<D> {
    /// Makes an empty filesystem of the whole device. What was there is lost.
    pub fn format(device: &D, options: &FormatOptions, now: Timestamp) -> Result<(), FormatError> {
        if device.is_read_only() {
            return Err(FormatError::ReadOnly);
        }
        let mut options = options.clone();
        if options.block_bytes.is_none() && device.sector_bytes() > 1024 {
            options.block_bytes = u32::try_from(device.sector_bytes()).ok();
        }
        if options.block_bytes.is_some_and(|bytes| (bytes as usize) < device.sector_bytes()) {
            return Err(FormatError::BadOptions);
        }
        let plan = plan::Plan::new(device.size_bytes(), &options, now)?;
        write::write(device, &plan, now)
    }
}
