//! Paths: resolving them, links, the current directory (readlink(2), access(2), chdir(2)). Opening is in
//! [`open`](crate::ops::open), what changes names in [`names`](crate::ops::names).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_fs::{LastLink, Node};
use unikernel_vfs::access::Wanted;

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::fs::{self, Located, permission};
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::path::{Named, base_of, node_of, read_path, resolve};
use crate::task::credentials;
use crate::vfs;

/// access(2).
pub(crate) fn sys_access(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(AT_FDCWD, path, mode, 0)
}

/// faccessat(2).
pub(crate) fn sys_faccessat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(directory, path, mode, 0)
}

/// faccessat2(2): whether the real user may use something, or the effective one with `AT_EACCESS`.
pub(crate) fn sys_faccessat2(directory: i32, path: UserPtr<u8>, mode: u32, flags: u32) -> SysResult {
    if mode & !(R_OK | W_OK | X_OK) != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & AT_EACCESS != 0 {
        return may_use(directory, path, mode, flags);
    }
    // The path, too, is walked as that user.
    let real = Arc::new(credentials::mine().with_real_ids());
    credentials::acting_as(real, || may_use(directory, path, mode, flags))
}

fn may_use(directory: i32, path: UserPtr<u8>, mode: u32, flags: u32) -> SysResult {
    let (named, wanted) = (resolve(directory, path, flags)?, Wanted::from_bits(mode));
    let metadata = match &named {
        Named::Node(found) => found.metadata(),
        Named::Opened(opened) => opened.file.metadata(),
    };
    let is_regular = metadata.mode & S_IFMT == S_IFREG;
    let (has_no_programs, is_read_only) = match &named {
        Named::Node(found) => permission::limits_of(found),
        Named::Opened(opened) => permission::limits_of_opened(&*opened.file),
    };
    if mode & X_OK != 0 && is_regular && has_no_programs {
        return Err(Errno::EACCES);
    }
    let is_content = matches!(metadata.mode & S_IFMT, S_IFREG | S_IFDIR | S_IFLNK);
    if mode & W_OK != 0 && is_content && is_read_only {
        return Err(Errno::EROFS);
    }
    let who = credentials::mine();
    match &named {
        Named::Node(found) => permission::check_as(&who, found, wanted)?,
        Named::Opened(opened) => permission::check_opened_as(&who, &*opened.file, wanted)?,
    }
    Ok(0)
}

/// readlink(2).
pub(crate) fn sys_readlink(path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    sys_readlinkat(AT_FDCWD, path, buffer, size)
}

/// readlinkat(2).
pub(crate) fn sys_readlinkat(directory: i32, path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = read_path(path)?;
    let target = link_target(directory, &path)?;
    let count = target.len().min(size);
    UserSlice::new(buffer, size).write(&target[..count])?;
    Ok(count)
}

fn link_target(directory: i32, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let found = match path {
        [] if directory == AT_FDCWD => return Err(Errno::ENOENT),
        [] => node_of(&*file::get_any(directory)?).ok_or(Errno::ENOENT)?,
        _ => fs::find(&base_of(directory, path)?, path, LastLink::Keep)?,
    };
    match found {
        Located::Inode(opened) => vfs::file::link_target(&opened.inode),
        Located::Memory(handle) => {
            // Asked before the tree is locked: it may take that lock.
            let made = fs::listing::link_target(handle.id);
            match (made, fs::tree().node(handle.id)) {
                (Some(target), _) => Ok(target),
                (None, Node::Symlink(target)) => Ok(target.to_vec()),
                _ => Err(Errno::EINVAL),
            }
        }
    }
}

/// getcwd(2). The raw call answers the length with the NUL.
pub(crate) fn sys_getcwd(buffer: u64, size: usize) -> SysResult {
    let directory = fs::current_directory();
    let mut path = match directory {
        Located::Memory(handle) => fs::tree().path_of(handle.id).ok_or(Errno::ENOENT)?,
        Located::Inode(opened) if opened.inode.links() == 0 => return Err(Errno::ENOENT),
        Located::Inode(opened) => opened.path.clone(),
    };
    path.push(0);
    if path.len() > size {
        return Err(Errno::ERANGE);
    }
    UserSlice::new(buffer, size).write(&path)?;
    Ok(path.len())
}

fn enter(directory: Located) -> SysResult {
    if !directory.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permission::check(&directory, Wanted::EXECUTE)?;
    fs::set_current_directory(directory);
    Ok(0)
}

/// chdir(2).
pub(crate) fn sys_chdir(path: UserPtr<u8>) -> SysResult {
    let path = read_path(path)?;
    enter(fs::find(&fs::current_directory(), &path, LastLink::Follow)?)
}

/// fchdir(2).
pub(crate) fn sys_fchdir(fd: i32) -> SysResult {
    enter(node_of(&*file::get_any(fd)?).ok_or(Errno::ENOTDIR)?)
}

/// umask(2).
pub(crate) fn sys_umask(mask: u32) -> SysResult {
    Ok(fs::set_mask(mask) as usize)
}
