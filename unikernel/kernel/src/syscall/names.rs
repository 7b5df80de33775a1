//! The older calls that make, remove and rename, which begin at the current directory.

use linux_raw_sys::general::{AT_FDCWD, AT_REMOVEDIR};

use crate::abi::SysResult;
use crate::mem::user::UserPtr;
use crate::ops::{names, rename};

/// mkdir(2).
pub(crate) fn sys_mkdir(path: UserPtr<u8>, mode: u32) -> SysResult {
    names::mkdirat(AT_FDCWD, path, mode)
}

/// mknod(2).
pub(crate) fn sys_mknod(path: UserPtr<u8>, mode: u32) -> SysResult {
    names::mknodat(AT_FDCWD, path, mode)
}

/// symlink(2).
pub(crate) fn sys_symlink(target: UserPtr<u8>, path: UserPtr<u8>) -> SysResult {
    names::symlinkat(target, AT_FDCWD, path)
}

/// link(2).
pub(crate) fn sys_link(path: UserPtr<u8>, new_path: UserPtr<u8>) -> SysResult {
    names::linkat(AT_FDCWD, path, AT_FDCWD, new_path, 0)
}

/// unlink(2).
pub(crate) fn sys_unlink(path: UserPtr<u8>) -> SysResult {
    names::unlinkat(AT_FDCWD, path, 0)
}

/// rmdir(2).
pub(crate) fn sys_rmdir(path: UserPtr<u8>) -> SysResult {
    names::unlinkat(AT_FDCWD, path, AT_REMOVEDIR)
}

/// rename(2).
pub(crate) fn sys_rename(path: UserPtr<u8>, new_path: UserPtr<u8>) -> SysResult {
    rename::renameat2(AT_FDCWD, path, AT_FDCWD, new_path, 0)
}

/// renameat(2).
pub(crate) fn sys_renameat(
    directory: i32,
    path: UserPtr<u8>,
    new_directory: i32,
    new_path: UserPtr<u8>,
) -> SysResult {
    rename::renameat2(directory, path, new_directory, new_path, 0)
}
