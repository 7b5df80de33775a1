//! What files are.

use linux_raw_sys::general::*;

use super::path::{Named, resolve};
use crate::abi::{Errno, SysResult};
use crate::file::Metadata;
use crate::fs::{device, mounts};
use crate::mem::user::{UserAbi, UserPtr};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// What a program should read at once.
pub(crate) const PREFERRED_BYTES: u32 = 4096;
/// How fresh the facts are to be: here they always are.
const SYNC_FLAGS: u32 = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC;
/// What stat(2) and its relatives may be told.
pub(crate) const STAT_FLAGS: u32 = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | SYNC_FLAGS;
/// `st_blocks` counts these, whatever the filesystem does.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// statx(2). It tells the basic facts, whatever is asked for.
pub(crate) fn statx(
    directory: i32,
    path: UserPtr<u8>,
    flags: u32,
    mask: u32,
    answer: UserPtr<statx>,
) -> SysResult {
    if flags & !STAT_FLAGS != 0 || flags & SYNC_FLAGS == SYNC_FLAGS || mask & STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    answer.write(to_statx(&metadata(directory, path, flags)?))?;
    Ok(0)
}

/// What is known of what a path and flags of the `*at` calls name.
pub(crate) fn metadata(directory: i32, path: UserPtr<u8>, flags: u32) -> Result<Metadata, Errno> {
    Ok(match resolve(directory, path, flags)? {
        Named::Node(found) => found.metadata(),
        Named::Opened(opened) => opened.file.metadata(),
    })
}

/// Seconds and nanoseconds.
pub(crate) fn parts(ns: i128) -> (i64, u32) {
    // All but the odd file: a division of 128 bits is a hundred instructions, and `stat` has four.
    if let Ok(ns) = u64::try_from(ns) {
        return ((ns / NANOS_PER_SECOND) as i64, (ns % NANOS_PER_SECOND) as u32);
    }
    let second = i128::from(NANOS_PER_SECOND);
    (ns.div_euclid(second) as i64, ns.rem_euclid(second) as u32)
}

fn to_statx(metadata: &Metadata) -> statx {
    let time = |ns| {
        let (seconds, nanos) = parts(ns);
        statx_timestamp { tv_sec: seconds, tv_nsec: nanos, __reserved: 0 }
    };
    let (stx_dev_major, stx_dev_minor) = device::parts(metadata.device);
    let mount = mounts::id_of(metadata.device);
    let (stx_rdev_major, stx_rdev_minor) = device::parts(metadata.special_device);
    statx {
        stx_mask: STATX_BASIC_STATS | STATX_BTIME | mount.map_or(0, |_| STATX_MNT_ID),
        stx_blksize: PREFERRED_BYTES,
        stx_nlink: metadata.links,
        stx_mode: metadata.mode as u16,
        stx_ino: metadata.inode,
        stx_size: metadata.size,
        stx_uid: metadata.user,
        stx_gid: metadata.group,
        stx_blocks: metadata.occupied_bytes.div_ceil(BLOCK_BYTES),
        stx_atime: time(metadata.accessed_ns),
        stx_btime: time(metadata.born_ns),
        stx_ctime: time(metadata.changed_ns),
        stx_mtime: time(metadata.modified_ns),
        stx_dev_major,
        stx_dev_minor,
        stx_rdev_major,
        stx_rdev_minor,
        stx_mnt_id: mount.unwrap_or(0),
        ..statx::zeroed()
    }
}
