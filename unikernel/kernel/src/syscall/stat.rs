//! What files are (stat(2), statx(2), statfs(2)), and what is in directories (getdents64(2)).

use alloc::vec::Vec;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::file::notify;
use crate::file::{self, Metadata};
use crate::fs::mounts;
use crate::fs::node::{self, NameOnly};
use crate::fs::{self, Located, NodeId};
use crate::kmem::frames;
use crate::mem::shared;
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::ops::path::{Named, resolve};
use crate::ops::stat::{BLOCK_BYTES, PREFERRED_BYTES, STAT_FLAGS, metadata, parts};
use crate::vfs::file::InodeName;
use crate::vfs::{self, Mount};

/// Bytes of a directory entry before its name (getdents64(2)).
const ENTRY_HEADER_BYTES: usize = 19;
/// `f_flags` means something; files' times of reading are kept as `relatime` has it (linux/statfs.h).
const ST_VALID: i64 = 0x20;
const ST_RELATIME: i64 = 0x1000;
/// A listing is handed out in pieces of this size at most.
const MAX_LISTING_BYTES: usize = 32_768;

/// stat(2).
pub(crate) fn sys_stat(path: UserPtr<u8>, answer: UserPtr<stat>) -> SysResult {
    sys_newfstatat(AT_FDCWD, path, answer, 0)
}

/// lstat(2).
pub(crate) fn sys_lstat(path: UserPtr<u8>, answer: UserPtr<stat>) -> SysResult {
    sys_newfstatat(AT_FDCWD, path, answer, AT_SYMLINK_NOFOLLOW)
}

/// fstat(2).
pub(crate) fn sys_fstat(fd: i32, answer: UserPtr<stat>) -> SysResult {
    answer.write(to_stat(&file::get_any(fd)?.file.metadata()))?;
    Ok(0)
}

/// newfstatat(2).
pub(crate) fn sys_newfstatat(
    directory: i32,
    path: UserPtr<u8>,
    answer: UserPtr<stat>,
    flags: u32,
) -> SysResult {
    if flags & !STAT_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    answer.write(to_stat(&metadata(directory, path, flags)?))?;
    Ok(0)
}

fn to_stat(metadata: &Metadata) -> stat {
    let (accessed, modified) = (parts(metadata.accessed_ns), parts(metadata.modified_ns));
    let changed = parts(metadata.changed_ns);
    stat {
        st_dev: metadata.device,
        st_ino: metadata.inode,
        st_nlink: u64::from(metadata.links),
        st_mode: metadata.mode,
        st_uid: metadata.user,
        st_gid: metadata.group,
        st_rdev: metadata.special_device,
        st_size: metadata.size as i64,
        st_blksize: i64::from(PREFERRED_BYTES),
        st_blocks: metadata.occupied_bytes.div_ceil(BLOCK_BYTES) as i64,
        st_atime: accessed.0 as u64,
        st_atime_nsec: u64::from(accessed.1),
        st_mtime: modified.0 as u64,
        st_mtime_nsec: u64::from(modified.1),
        st_ctime: changed.0 as u64,
        st_ctime_nsec: u64::from(changed.1),
        ..stat::zeroed()
    }
}

/// statfs(2).
pub(crate) fn sys_statfs(path: UserPtr<u8>, answer: UserPtr<statfs>) -> SysResult {
    match resolve(AT_FDCWD, path, 0)? {
        Named::Node(Located::Inode(opened)) => write_mount_statfs(opened.inode.mount, answer),
        Named::Opened(opened) => statfs_of(&opened, answer),
        Named::Node(Located::Memory(handle)) => {
            let filesystem = filesystem_of(handle.id);
            write_statfs(filesystem, answer)
        }
    }
}

/// fstatfs(2).
pub(crate) fn sys_fstatfs(fd: i32, answer: UserPtr<statfs>) -> SysResult {
    statfs_of(&*file::get_any(fd)?, answer)
}

fn statfs_of(opened: &file::OpenFile, answer: UserPtr<statfs>) -> SysResult {
    match vfs::file::of(&*opened.file) {
        Some(opened) => write_mount_statfs(opened.inode.mount, answer),
        None => {
            let metadata = opened.file.metadata();
            let named = node::handle_of(&*opened.file).map(|handle| filesystem_of(handle.id));
            let magic = match metadata.mode & S_IFMT {
                S_IFIFO => PIPEFS_MAGIC,
                S_IFSOCK => SOCKFS_MAGIC,
                // The console, which is a file of `/dev`.
                S_IFCHR => TMPFS_MAGIC,
                _ => ANON_INODE_FS_MAGIC,
            };
            write_statfs(named.unwrap_or((magic, metadata.device)), answer)
        }
    }
}

fn write_mount_statfs(mount: &Mount, answer: UserPtr<statfs>) -> SysResult {
    let statistics = mount.statistics()?;
    let block_bytes = i64::from(statistics.block_bytes);
    // As Linux makes it of the identity.
    let identity = u128::from_le_bytes(statistics.uuid);
    answer.write(statfs {
        f_type: i64::from(mount.kind.magic),
        f_bsize: block_bytes,
        f_frsize: block_bytes,
        f_blocks: statistics.blocks as _,
        f_bfree: statistics.free_blocks as _,
        f_bavail: statistics.available_blocks as _,
        f_files: statistics.inodes as _,
        f_ffree: statistics.free_inodes as _,
        f_namelen: unikernel_fs::MAX_NAME_BYTES as i64,
        f_fsid: to_fsid(identity as u64 ^ (identity >> 64) as u64),
        f_flags: ST_VALID
            | if mount.is_read_only() { 0 } else { ST_RELATIME }
            | mounts::flags(mount.is_read_only(), mount.options),
        ..statfs::zeroed()
    })?;
    Ok(0)
}

/// Kind (`f_type`) and device number of the filesystem of a node.
fn filesystem_of(id: NodeId) -> (u32, u64) {
    let tree = fs::tree();
    (mounts::of(&tree, id).magic, mounts::device_number(&tree, id))
}

/// A filesystem in memory. Those for files may take half of it, together; the others take nothing that anybody counts.
fn write_statfs((magic, device): (u32, u64), answer: UserPtr<statfs>) -> SysResult {
    let flags = ST_VALID | mounts::flags_of(device);
    let facts = statfs {
        f_type: i64::from(magic),
        f_bsize: i64::from(PREFERRED_BYTES),
        f_frsize: i64::from(PREFERRED_BYTES),
        f_namelen: unikernel_fs::MAX_NAME_BYTES as i64,
        f_fsid: to_fsid(device),
        f_flags: flags,
        ..statfs::zeroed()
    };
    if magic != TMPFS_MAGIC {
        answer.write(facts)?;
        return Ok(0);
    }
    let (limit, used) = (shared::limit() as i64, shared::count() as i64);
    let free = (limit - used).clamp(0, frames::free_pages() as i64);
    // Before the copy, which may wait for a page: the tree is locked for the count only.
    let used = fs::tree().len() as i64;
    answer.write(statfs {
        f_blocks: limit as _,
        f_bfree: free as _,
        f_bavail: free as _,
        f_files: limit as _,
        f_ffree: (limit - used) as _,
        ..facts
    })?;
    Ok(0)
}

/// `f_fsid` tells filesystems apart, and nothing else.
const fn to_fsid(number: u64) -> __kernel_fsid_t {
    __kernel_fsid_t { val: [number as i32, (number >> 32) as i32] }
}

/// getdents64(2).
pub(crate) fn sys_getdents64(fd: i32, buffer: u64, size: u32) -> SysResult {
    let opened = file::get(fd)?;
    // Linux keeps it in an `int`: in less than nothing, no entry finds room.
    let size = usize::try_from(size as i32).unwrap_or(0).min(MAX_LISTING_BYTES);
    opened.with_offset(|offset| {
        let (listing, position) = match (opened.downcast::<NameOnly>(), opened.downcast::<InodeName>()) {
            (Some(directory), _) => list(directory, *offset, size)?,
            (_, Some(directory)) => list_disk(directory, *offset, size)?,
            _ => return Err(Errno::ENOTDIR),
        };
        notify::used(&*opened.file, IN_ACCESS);
        UserSlice::new(buffer, size).write(&listing)?;
        *offset = position;
        Ok(listing.len())
    })
}

/// As much of a listing as fits `size` bytes, and where it goes on.
fn list(directory: &NameOnly, position: u64, size: usize) -> Result<(Vec<u8>, u64), Errno> {
    let tree = fs::tree();
    let mut entries = tree.list(directory.handle.id, position).ok_or(Errno::ENOTDIR)?.peekable();
    let is_at_end = entries.peek().is_none();
    let (mut listing, mut position) = (Vec::new(), position);
    for entry in entries {
        let facts = (tree.inode(entry.id), entry.next, node::entry_type(&tree, entry.id));
        if !put_entry(&mut listing, size, entry.name, facts) {
            break;
        }
        position = entry.next;
    }
    if listing.is_empty() && !is_at_end { Err(Errno::EINVAL) } else { Ok((listing, position)) }
}

/// The same of a directory on a disk.
fn list_disk(directory: &InodeName, position: u64, size: usize) -> Result<(Vec<u8>, u64), Errno> {
    let inode = &directory.opened().inode;
    if !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let entries = vfs::file::list(inode, position, size)?;
    let (mut listing, mut position) = (Vec::new(), position);
    for entry in &entries {
        if !put_entry(&mut listing, size, &entry.name, (entry.inode, entry.next, entry.entry_type)) {
            break;
        }
        position = entry.next;
    }
    if listing.is_empty() && !entries.is_empty() { Err(Errno::EINVAL) } else { Ok((listing, position)) }
}

/// Appends an entry (inode, position after it, type) to a listing; false if it does not fit.
fn put_entry(listing: &mut Vec<u8>, size: usize, name: &[u8], (inode, next, kind): (u64, u64, u8)) -> bool {
    let len = (ENTRY_HEADER_BYTES + name.len() + 1).next_multiple_of(8);
    let end = listing.len() + len;
    if end > size {
        return false;
    }
    listing.extend_from_slice(&inode.to_le_bytes());
    listing.extend_from_slice(&next.to_le_bytes());
    listing.extend_from_slice(&(len as u16).to_le_bytes());
    listing.push(kind);
    listing.extend_from_slice(name);
    listing.resize(end, 0);
    true
}
