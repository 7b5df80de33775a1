//! Changing what a file is without changing its names: length, permissions, owner, times
//! (truncate(2), fallocate(2), chmod(2), chown(2), utimensat(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_fs::{Node, NodeId};
use unikernel_policy::access::FileAccess;
use unikernel_vfs::access::{self, Object, Refusal, Wanted};
use unikernel_vfs::{AttributeChange, Timestamp};

use crate::abi::{Errno, SysResult};
use crate::file::notify;
use crate::file::{self, OpenFile};
use crate::fs::node;
use crate::fs::{self, FileTree, Located, confine, permission, watched};
use crate::mem::user::UserPtr;
use crate::ops;
use crate::ops::path::{Named, resolve, truncate};
use crate::platform::time;
use crate::task::credentials::{self, Credentials};
use crate::vfs;
use crate::vfs::inode::Inode;

/// What is behind an open file, if it has attributes worth keeping.
fn located(opened: &OpenFile) -> Option<Behind> {
    if let Some(opened) = vfs::file::of(&*opened.file) {
        return Some(Behind::Inode(Arc::clone(&opened.inode)));
    }
    // Terminals and other devices have nodes, too.
    node::handle_of(&*opened.file).map(|handle| Behind::Node(handle.id))
}

enum Behind {
    Node(NodeId),
    Inode(Arc<Inode>),
}

/// What a call wants to have changed.
#[derive(Clone, Copy)]
enum Wish {
    /// The low twelve bits of the mode.
    Mode(u16),
    /// Owner and group.
    Owner(Option<u32>, Option<u32>),
    /// The times of the last read and of the last change.
    Times { accessed: Option<Timestamp>, modified: Option<Timestamp>, is_now: bool },
}

impl Wish {
    /// What has to change for it, if the running thread may.
    fn change(self, who: &Credentials, object: &Object<'_>) -> Result<AttributeChange, Refusal> {
        let none = AttributeChange::default();
        Ok(match self {
            Self::Mode(wanted) => {
                AttributeChange { permissions: Some(access::change_mode(who, object, wanted)?), ..none }
            }
            Self::Owner(user, group) => {
                let permissions = access::change_owner(who, object, user, group)?;
                AttributeChange { user, group, permissions, ..none }
            }
            Self::Times { accessed, modified, is_now } => {
                access::check_times(who, object, is_now)?;
                AttributeChange { accessed, modified, ..none }
            }
        })
    }

    /// What who watches the file is told.
    fn event(self) -> u32 {
        match self {
            // One time alone is what a read or a write would have set (Linux: `fsnotify_change`).
            Self::Times { accessed: Some(_), modified: None, .. } => IN_ACCESS,
            Self::Times { accessed: None, modified: Some(_), .. } => IN_MODIFY,
            _ => IN_ATTRIB,
        }
    }
}

/// Changes the attributes of what a path or descriptor names. What is not in the tree has none worth
/// keeping, and the change is accepted, as Linux does with pipes and sockets.
fn change(named: &Named, wish: Wish) -> SysResult {
    let behind = match named {
        Named::Node(Located::Memory(handle)) => Some(Behind::Node(handle.id)),
        Named::Node(Located::Inode(opened)) => Some(Behind::Inode(Arc::clone(&opened.inode))),
        // Counters, timers and their like are not even of a type.
        Named::Opened(opened) if opened.file.metadata().mode & S_IFMT == 0 => return Err(Errno::EOPNOTSUPP),
        Named::Opened(opened) => located(opened),
    };
    match behind {
        None => {}
        Some(Behind::Inode(inode)) => change_inode(&inode, wish)?,
        Some(Behind::Node(id)) => change_node(id, wish)?,
    }
    match named {
        Named::Node(found) => watched::used_at(found, wish.event()),
        Named::Opened(opened) => notify::used(&*opened.file, wish.event()),
    }
    Ok(0)
}

fn change_inode(inode: &Inode, wish: Wish) -> Result<(), Errno> {
    inode.mount.check_writable()?;
    let who = credentials::mine();
    let wanted = inode.ask(&who, |object| wish.change(&who, object))??;
    inode.change(wanted)?;
    if matches!(wish, Wish::Owner(..)) { inode.drop_capabilities() } else { Ok(()) }
}

fn change_node(id: NodeId, wish: Wish) -> Result<(), Errno> {
    let who = credentials::mine();
    let mut tree = fs::tree();
    let wanted = wish.change(&who, &permission::object(&tree, id))?;
    check_seals(&tree, id, &wanted)?;
    if let (Node::File(content), Some(_)) = (tree.node(id), wanted.modified) {
        content.forget_store();
    }
    let attributes = tree.attributes_mut(id);
    attributes.changed_ns = time::wall_ns().into();
    attributes.permissions = wanted.permissions.unwrap_or(attributes.permissions);
    attributes.user = wanted.user.unwrap_or(attributes.user);
    attributes.group = wanted.group.unwrap_or(attributes.group);
    attributes.accessed_ns = wanted.accessed.map_or(attributes.accessed_ns, vfs::nanos);
    attributes.modified_ns = wanted.modified.map_or(attributes.modified_ns, vfs::nanos);
    Ok(())
}

/// A sealed file's permission to be executed stays as it is.
fn check_seals(tree: &FileTree, id: NodeId, wanted: &AttributeChange) -> Result<(), Errno> {
    match (tree.node(id), wanted.permissions) {
        (Node::File(content), Some(permissions)) => {
            content.check_mode(tree.attributes(id).permissions.into(), permissions.into())
        }
        _ => Ok(()),
    }
}

fn permissions(mode: u32) -> Wish {
    Wish::Mode((mode & 0o7777) as u16)
}

fn opened(fd: i32) -> Result<Named, Errno> {
    Ok(Named::Opened(file::get(fd)?))
}

/// chmod(2).
pub(crate) fn sys_chmod(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_fchmodat(AT_FDCWD, path, mode)
}

/// fchmodat(2), the raw call, which has no flags.
pub(crate) fn sys_fchmodat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_fchmodat2(directory, path, mode, 0)
}

/// fchmodat2(2).
pub(crate) fn sys_fchmodat2(directory: i32, path: UserPtr<u8>, mode: u32, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let named = resolve(directory, path, flags)?;
    if let Named::Node(found) = &named
        && found.metadata().mode & S_IFMT == S_IFLNK
    {
        return Err(Errno::EOPNOTSUPP);
    }
    change(&named, permissions(mode))
}

/// fchmod(2).
pub(crate) fn sys_fchmod(fd: i32, mode: u32) -> SysResult {
    change(&opened(fd)?, permissions(mode))
}

/// An owner or group to keep (chown(2): -1).
const KEEP: u32 = u32::MAX;

fn set_owner(named: &Named, user: u32, group: u32) -> SysResult {
    let wanted = |id: u32| (id != KEEP).then_some(id);
    change(named, Wish::Owner(wanted(user), wanted(group)))
}

/// chown(2).
pub(crate) fn sys_chown(path: UserPtr<u8>, user: u32, group: u32) -> SysResult {
    sys_fchownat(AT_FDCWD, path, user, group, 0)
}

/// lchown(2).
pub(crate) fn sys_lchown(path: UserPtr<u8>, user: u32, group: u32) -> SysResult {
    sys_fchownat(AT_FDCWD, path, user, group, AT_SYMLINK_NOFOLLOW)
}

/// fchownat(2).
pub(crate) fn sys_fchownat(
    directory: i32,
    path: UserPtr<u8>,
    user: u32,
    group: u32,
    flags: u32,
) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    set_owner(&resolve(directory, path, flags)?, user, group)
}

/// fchown(2).
pub(crate) fn sys_fchown(fd: i32, user: u32, group: u32) -> SysResult {
    set_owner(&opened(fd)?, user, group)
}

/// What a `timespec` of `utimensat` asks for; `None` is to leave the time alone.
fn wanted_time(time: __kernel_timespec, now: Timestamp) -> Result<Option<Timestamp>, Errno> {
    match u32::try_from(time.tv_nsec) {
        Ok(UTIME_OMIT) => Ok(None),
        Ok(UTIME_NOW) => Ok(Some(now)),
        Ok(nanoseconds @ 0..1_000_000_000) => Ok(Some(Timestamp { seconds: time.tv_sec, nanoseconds })),
        _ => Err(Errno::EINVAL),
    }
}

/// A `timeval` of a file's time, which may lie before 1970.
fn file_time(time: __kernel_old_timeval) -> Result<Timestamp, Errno> {
    match u32::try_from(time.tv_usec) {
        Ok(micros @ 0..1_000_000) => Ok(Timestamp { seconds: time.tv_sec, nanoseconds: micros * 1000 }),
        _ => Err(Errno::EINVAL),
    }
}

/// utimensat(2).
pub(crate) fn sys_utimensat(
    directory: i32,
    path: UserPtr<u8>,
    times: UserPtr<[__kernel_timespec; 2]>,
    flags: u32,
) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let now = vfs::now();
    let (wanted, is_now) = match times.non_null() {
        None => ([Some(now); 2], true),
        Some(times) => {
            let [accessed, modified] = times.read()?;
            let is_now = [accessed, modified].iter().all(|time| time.tv_nsec == i64::from(UTIME_NOW));
            ([wanted_time(accessed, now)?, wanted_time(modified, now)?], is_now)
        }
    };
    set_times(directory, path, (wanted, is_now), flags)
}

/// Sets the times of the last read and the last change, those that are given; to the present one if that is told.
fn set_times(
    directory: i32,
    path: UserPtr<u8>,
    (times, is_now): ([Option<Timestamp>; 2], bool),
    flags: u32,
) -> SysResult {
    if times == [None, None] {
        // Not even the path is looked at (utimensat(2), "UTIME_OMIT").
        return Ok(0);
    }
    // Without a path the descriptor itself is meant: that is how futimens(3) does it.
    let named = if path.is_null() { opened(directory)? } else { resolve(directory, path, flags)? };
    let [accessed, modified] = times;
    change(&named, Wish::Times { accessed, modified, is_now })
}

/// utime(2): in seconds.
pub(crate) fn sys_utime(path: UserPtr<u8>, times: UserPtr<[i64; 2]>) -> SysResult {
    let wanted = match times.non_null() {
        None => ([Some(vfs::now()); 2], true),
        Some(times) => (times.read()?.map(|seconds| Some(Timestamp { seconds, nanoseconds: 0 })), false),
    };
    set_times(AT_FDCWD, path.non_null().ok_or(Errno::EFAULT)?, wanted, 0)
}

/// utimes(2): in microseconds.
pub(crate) fn sys_utimes(path: UserPtr<u8>, times: UserPtr<[__kernel_old_timeval; 2]>) -> SysResult {
    sys_futimesat(AT_FDCWD, path.non_null().ok_or(Errno::EFAULT)?, times)
}

/// futimesat(2).
pub(crate) fn sys_futimesat(
    directory: i32,
    path: UserPtr<u8>,
    times: UserPtr<[__kernel_old_timeval; 2]>,
) -> SysResult {
    let wanted = match times.non_null() {
        None => ([Some(vfs::now()); 2], true),
        Some(times) => {
            let [accessed, modified] = times.read()?;
            ([Some(file_time(accessed)?), Some(file_time(modified)?)], false)
        }
    };
    set_times(directory, path, wanted, 0)
}

/// truncate(2).
pub(crate) fn sys_truncate(path: UserPtr<u8>, len: i64) -> SysResult {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    match resolve(AT_FDCWD, path, 0)? {
        Named::Node(found) => match (found.metadata().mode & S_IFMT, found) {
            (S_IFREG, found) => {
                permission::check(&found, Wanted::WRITE)?;
                confine::check_located(&found, FileAccess::TRUNCATE)?;
                match &found {
                    Located::Inode(opened) => opened.inode.resize(len)?,
                    Located::Memory(handle) => node::resize(handle.id, len)?,
                }
                watched::used_at(&found, IN_MODIFY);
            }
            (S_IFDIR, _) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        },
        Named::Opened(opened) => {
            if let Some(located) = Located::of(&*opened.file) {
                confine::check_located(&located, FileAccess::TRUNCATE)?;
            }
            truncate(&*opened.file, len)?;
        }
    }
    Ok(0)
}

/// ftruncate(2).
pub(crate) fn sys_ftruncate(fd: i32, len: i64) -> SysResult {
    let len = ops::file::length_of(len)?;
    ops::file::truncate(&*file::get(fd)?, len)
}

/// fallocate(2).
pub(crate) fn sys_fallocate(fd: i32, mode: u32, offset: i64, len: i64) -> SysResult {
    ops::file::allocate(&*file::get(fd)?, mode, offset, len)
}
