//! Which kinds of filesystems can be mounted. One is its file, or folder, and a line in [`FILESYSTEMS`].

use alloc::format;
use alloc::string::String;

use super::{ext4, fat, mounts, p9};
use crate::vfs::filesystem_type::{FilesystemType, Source};

/// All of them; where nobody says which one a disk has, they are tried in this order.
pub(crate) const FILESYSTEMS: [&FilesystemType; 3] = [&ext4::TYPE, &fat::TYPE, &p9::TYPE];

/// `/proc/filesystems`: those of the tree first, which need no device, as others do.
pub(crate) fn render() -> String {
    let line = |kind: &&FilesystemType| match kind.source {
        Source::Device { .. } => format!("\t{}\n", kind.name),
        Source::Name(_) => format!("nodev\t{}\n", kind.name),
    };
    let in_memory = mounts::kinds_in_memory().map(|name| format!("nodev\t{name}\n"));
    in_memory.chain(FILESYSTEMS.iter().map(line)).collect()
}
