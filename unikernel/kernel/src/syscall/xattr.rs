//! Extended attributes (xattr(7)): files on disks have them; the tree in memory has none.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, XATTR_CREATE, XATTR_REPLACE};
use unikernel_vfs::access::{self, Acl, AclError, FileCapabilities, Wanted};
use unikernel_vfs::{AttributeChange, FileKind};

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::fs::Located;
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::ops::path::{Named, resolve};
use crate::task::credentials::{self, Capability};
use crate::vfs::inode::Inode;
use crate::vfs::permission::{ACCESS_LIST, CAPABILITIES, DEFAULT_LIST};
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

/// Whether the running thread may read or change an attribute, as far as its name decides that (xattr(7); Linux:
/// `xattr_permission`, `cap_inode_setxattr`, `vfs_set_acl`).
fn check(inode: &Inode, name: &[u8], wanted: Wanted) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    let writes = wanted == Wanted::WRITE;
    let refused = |is_refused| if is_refused { Err(Errno::EPERM) } else { Ok(()) };
    let check_owner = || Ok(access::check_owner(&who, inode.attributes().user)?);
    match name {
        CAPABILITIES => refused(writes && !who.may_set_file_capabilities()),
        ACCESS_LIST | DEFAULT_LIST if writes => check_owner(),
        _ if name.starts_with(b"security.") => refused(writes && !who.has(Capability::SysAdmin)),
        _ if name.starts_with(b"system.") => Ok(()),
        _ if name.starts_with(b"trusted.") => match who.has(Capability::SysAdmin) {
            true => Ok(()),
            false if writes => Err(Errno::EPERM),
            false => Err(Errno::ENODATA),
        },
        _ => {
            if writes && inode.is_directory() && inode.attributes().permissions & access::STICKY != 0 {
                check_owner()?;
            }
            inode.check(wanted)
        }
    }
}

fn get(target: Target, name: &[u8], value: u64, size: usize) -> SysResult {
    let inode = target.ok_or(Errno::EOPNOTSUPP)?;
    check_kind(&inode, name, Errno::ENODATA)?;
    check(&inode, name, Wanted::READ)?;
    let found = inode.mount.with(|filesystem| filesystem.extended_attribute(inode.number, name))?;
    answer(&found, UserSlice::new(value, size.min(MAX_BYTES)))
}

fn list(target: Target, names: u64, size: usize) -> SysResult {
    let Some(inode) = target else { return Ok(0) };
    let found = inode.mount.with(|filesystem| filesystem.extended_attribute_names(inode.number))?;
    // Those that are trusted are shown to who may use them.
    let is_shown = |name: &Vec<u8>| !name.starts_with(b"trusted.") || credentials::has(Capability::SysAdmin);
    let all: Vec<u8> =
        found.into_iter().filter(is_shown).flat_map(|name| name.into_iter().chain([0])).collect();
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
        check(&inode, &self.name, Wanted::WRITE)?;
        if let ACCESS_LIST | DEFAULT_LIST = &*self.name
            && !inode.mount.is_shared()
        {
            return self.apply_list(&inode);
        }
        if self.name == CAPABILITIES && FileCapabilities::parse(&self.value).is_none() {
            return Err(Errno::EINVAL);
        }
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
        inode.forget_access_attributes();
        inode.refresh()?;
        Ok(0)
    }

    /// Sets an access control list, or removes it if it is empty. The mode says what it says, and alone if it can (acl(5)).
    fn apply_list(&self, inode: &Inode) -> SysResult {
        let list = Acl::from_attribute(&self.value).map_err(|error| match error {
            AclError::Malformed => Errno::EINVAL,
            AclError::Version => Errno::EOPNOTSUPP,
            AclError::OutOfMemory => Errno::ENOMEM,
        })?;
        let is_access = self.name == ACCESS_LIST;
        match inode.kind() {
            FileKind::Symlink => return Err(Errno::EOPNOTSUPP),
            FileKind::Directory => {}
            _ if is_access => {}
            _ => return if list.is_some() { Err(Errno::EACCES) } else { Ok(0) },
        }
        let Some(list) = list else {
            remove_list(inode, &self.name)?;
            return Ok(0);
        };
        if is_access {
            let kept = inode.attributes().permissions & !0o777;
            let who = credentials::mine();
            let mode = inode.ask(&who, |object| access::change_mode(&who, object, kept | list.mode()))??;
            // Without the old list, which would follow the mode.
            remove_list(inode, &self.name)?;
            inode.change(AttributeChange { permissions: Some(mode), ..AttributeChange::default() })?;
        }
        if !is_access || !list.is_equivalent_to_mode() {
            inode.mount.with(|filesystem| {
                filesystem.set_extended_attribute(inode.number, &self.name, &self.value, now())
            })?;
        }
        inode.forget_access_attributes();
        inode.refresh()?;
        Ok(0)
    }
}

/// Removes an access control list, if there is one.
fn remove_list(inode: &Inode, name: &[u8]) -> Result<(), Errno> {
    let removed = inode.mount.with(|filesystem| {
        match filesystem.remove_extended_attribute(inode.number, name, now()) {
            Err(unikernel_vfs::Error::NoAttribute) => Ok(()),
            outcome => outcome,
        }
    });
    inode.forget_access_attributes();
    removed
}

fn remove(target: Target, name: &[u8]) -> SysResult {
    let inode = target.ok_or(Errno::EOPNOTSUPP)?;
    check_kind(&inode, name, Errno::EPERM)?;
    inode.mount.check_writable()?;
    check(&inode, name, Wanted::WRITE)?;
    if let ACCESS_LIST | DEFAULT_LIST = name {
        remove_list(&inode, name)?;
    } else {
        inode.mount.with(|filesystem| filesystem.remove_extended_attribute(inode.number, name, now()))?;
        inode.forget_access_attributes();
    }
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
