//! Extended attributes (xattr(7)): files on disks have them; the tree in memory has none.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, XATTR_CREATE, XATTR_REPLACE};
use unikernel_vfs::FileKind;

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::fs::Located;
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::ops::path::{Named, resolve};
use crate::vfs::inode::Inode;
use crate::vfs::{self, now};

/// The longest name, and the largest value and list (xattr(7), "Limits").
const MAX_NAME_BYTES: usize = 255;
const MAX_BYTES: usize = 65_536;

/// A file, however it was named: its inode, if that is on a disk.
type Target = Option<Arc<Inode>>;

fn by_path(path: UserPtr<u8>, flags: u32) -> Result<Target, Errno> {
    Ok(match resolve(AT_FDCWD, path, flags)? {
        Named::Node(Located::Inode(opened)) => Some(Arc::clone(&opened.inode)),
        Named::Node(Located::Memory(_)) => None,
        Named::Opened(opened) => inode_of(&opened),
    })
}

fn by_descriptor(fd: i32) -> Result<Target, Errno> {
    Ok(inode_of(&*file::get(fd)?))
}

fn inode_of(opened: &file::OpenFile) -> Target {
    vfs::file::of(&*opened.file).map(|opened| Arc::clone(&opened.inode))
}

fn read_name(name: UserPtr<u8>) -> Result<Vec<u8>, Errno> {
    let name = read_c_string(name, MAX_NAME_BYTES)?.ok_or(Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// The app's own names are for content: files and directories (xattr(7)).
fn check_kind(inode: &Inode, name: &[u8], refusal: Errno) -> Result<(), Errno> {
    let may_have = matches!(inode.kind(), FileKind::File | FileKind::Directory);
    if name.starts_with(b"user.") && !may_have { Err(refusal) } else { Ok(()) }
}

/// Copies an answer out, or tells its length if no room was given.
fn answer(bytes: &[u8], into: UserSlice) -> SysResult {
    match into.len() {
        0 => Ok(bytes.len()),
        room if room < bytes.len() => Err(Errno::ERANGE),
        _ => {
            into.write(bytes)?;
            Ok(bytes.len())
        }
    }
}

fn get(target: Target, name: &[u8], value: u64, size: usize) -> SysResult {
    let inode = target.ok_or(Errno::EOPNOTSUPP)?;
    check_kind(&inode, name, Errno::ENODATA)?;
    let found = inode.mount.with(|filesystem| filesystem.extended_attribute(inode.number, name))?;
    answer(&found, UserSlice::new(value, size.min(MAX_BYTES)))
}

fn list(target: Target, names: u64, size: usize) -> SysResult {
    let Some(inode) = target else { return Ok(0) };
    let found = inode.mount.with(|filesystem| filesystem.extended_attribute_names(inode.number))?;
    let all: Vec<u8> = found.into_iter().flat_map(|name| name.into_iter().chain([0])).collect();
    answer(&all, UserSlice::new(names, size.min(MAX_BYTES)))
}

/// What setxattr(2) wants to be set.
struct Setting {
    name: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
}

impl Setting {
    fn read(name: UserPtr<u8>, value: u64, size: usize, flags: u32) -> Result<Self, Errno> {
        if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
            return Err(Errno::EINVAL);
        }
        let name = read_name(name)?;
        if size > MAX_BYTES {
            return Err(Errno::E2BIG);
        }
        let mut bytes = room::filled(0, size)?;
        UserSlice::new(value, size).read(&mut bytes)?;
        Ok(Self { name, value: bytes, flags })
    }

    fn apply(&self, target: Target) -> SysResult {
        let inode = target.ok_or(Errno::EOPNOTSUPP)?;
        check_kind(&inode, &self.name, Errno::EPERM)?;
        inode.mount.check_writable()?;
        inode.mount.with(|filesystem| {
            let is_there = match filesystem.extended_attribute(inode.number, &self.name) {
                Ok(_) => true,
                Err(unikernel_vfs::Error::NoAttribute) => false,
                Err(error) => return Err(error),
            };
            match is_there {
                true if self.flags & XATTR_CREATE != 0 => Err(unikernel_vfs::Error::Exists),
                false if self.flags & XATTR_REPLACE != 0 => Err(unikernel_vfs::Error::NoAttribute),
                _ => filesystem.set_extended_attribute(inode.number, &self.name, &self.value, now()),
            }
        })?;
        inode.refresh()?;
        Ok(0)
    }
}

fn remove(target: Target, name: &[u8]) -> SysResult {
    let inode = target.ok_or(Errno::EOPNOTSUPP)?;
    check_kind(&inode, name, Errno::EPERM)?;
    inode.mount.check_writable()?;
    inode.mount.with(|filesystem| filesystem.remove_extended_attribute(inode.number, name, now()))?;
    inode.refresh()?;
    Ok(0)
}

/// setxattr(2).
pub(crate) fn sys_setxattr(
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    value: u64,
    size: usize,
    flags: u32,
) -> SysResult {
    Setting::read(name, value, size, flags)?.apply(by_path(path, 0)?)
}

/// lsetxattr(2).
pub(crate) fn sys_lsetxattr(
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    value: u64,
    size: usize,
    flags: u32,
) -> SysResult {
    Setting::read(name, value, size, flags)?.apply(by_path(path, AT_SYMLINK_NOFOLLOW)?)
}

/// fsetxattr(2).
pub(crate) fn sys_fsetxattr(fd: i32, name: UserPtr<u8>, value: u64, size: usize, flags: u32) -> SysResult {
    let target = by_descriptor(fd)?;
    Setting::read(name, value, size, flags)?.apply(target)
}

/// getxattr(2).
pub(crate) fn sys_getxattr(path: UserPtr<u8>, name: UserPtr<u8>, value: u64, size: usize) -> SysResult {
    let name = read_name(name)?;
    get(by_path(path, 0)?, &name, value, size)
}

/// lgetxattr(2).
pub(crate) fn sys_lgetxattr(path: UserPtr<u8>, name: UserPtr<u8>, value: u64, size: usize) -> SysResult {
    let name = read_name(name)?;
    get(by_path(path, AT_SYMLINK_NOFOLLOW)?, &name, value, size)
}

/// fgetxattr(2).
pub(crate) fn sys_fgetxattr(fd: i32, name: UserPtr<u8>, value: u64, size: usize) -> SysResult {
    let target = by_descriptor(fd)?;
    get(target, &read_name(name)?, value, size)
}

/// listxattr(2).
pub(crate) fn sys_listxattr(path: UserPtr<u8>, names: u64, size: usize) -> SysResult {
    list(by_path(path, 0)?, names, size)
}

/// llistxattr(2).
pub(crate) fn sys_llistxattr(path: UserPtr<u8>, names: u64, size: usize) -> SysResult {
    list(by_path(path, AT_SYMLINK_NOFOLLOW)?, names, size)
}

/// flistxattr(2).
pub(crate) fn sys_flistxattr(fd: i32, names: u64, size: usize) -> SysResult {
    list(by_descriptor(fd)?, names, size)
}

/// removexattr(2).
pub(crate) fn sys_removexattr(path: UserPtr<u8>, name: UserPtr<u8>) -> SysResult {
    let name = read_name(name)?;
    remove(by_path(path, 0)?, &name)
}

/// lremovexattr(2).
pub(crate) fn sys_lremovexattr(path: UserPtr<u8>, name: UserPtr<u8>) -> SysResult {
    let name = read_name(name)?;
    remove(by_path(path, AT_SYMLINK_NOFOLLOW)?, &name)
}

/// fremovexattr(2).
pub(crate) fn sys_fremovexattr(fd: i32, name: UserPtr<u8>) -> SysResult {
    let target = by_descriptor(fd)?;
    remove(target, &read_name(name)?)
}
