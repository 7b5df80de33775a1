//! 9P: folders of the host, by the tags of its virtio-9p devices.

use alloc::boxed::Box;
use alloc::format;

use linux_raw_sys::general::V9FS_MAGIC;
use unikernel_p9::{MountOptions, P9, Transport, TransportError};

use crate::drivers::virtio::p9::{self, MESSAGE_BYTES, Share};
use crate::vfs::filesystem_type::{Access, FilesystemType, MountError, MountResult, Source};

/// The kind.
pub(super) const TYPE: FilesystemType =
    FilesystemType { name: "9p", magic: V9FS_MAGIC, source: Source::Name(mount) };

impl Transport for Share {
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError> {
        Self::exchange(self, request, reply).map_err(|_| TransportError)
    }
}

fn mount(tag: &str, access: Access) -> MountResult {
    let Some(share) = p9::take(tag) else {
        return Err(MountError::Refused(match p9::tags() {
            tags if tags.is_empty() => "the machine has no 9p share (with QEMU: `-device virtio-9p`)".into(),
            tags => format!("the machine has no 9p share of this tag, but {}", tags.join(", ")),
        }));
    };
    let options = MountOptions {
        message_bytes: MESSAGE_BYTES as u32,
        is_read_only: access == Access::ReadOnly,
        ..MountOptions::default()
    };
    match P9::mount(share, &options) {
        Ok(filesystem) => Ok(Box::new(filesystem)),
        Err(error) => Err(MountError::Refused(format!("{error}"))),
    }
}
