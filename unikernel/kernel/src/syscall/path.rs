//! Paths: opening, links, the current directory, and refusing to change what cannot be changed
//! (open(2), readlink(2), access(2), chdir(2), mkdir(2), unlink(2)).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_fs::{LastLink, Node};

use super::descriptor::on_exec_of;
use super::{Errno, SysResult};
use crate::file::{self, FileFlags, OpenFile};
use crate::fs::node::NameOnly;
use crate::fs::{self, LookupError, NodeId, Special};
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::user_abi;

user_abi!(open_how);

/// The longest path, without its NUL (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4095;
/// Flags of `open` that have a meaning here, or none but do no harm.
const OPEN_FLAGS: u32 = O_ACCMODE
    | O_CREAT
    | O_EXCL
    | O_NOCTTY
    | O_TRUNC
    | O_APPEND
    | O_NONBLOCK
    | O_DSYNC
    | O_SYNC
    | FASYNC
    | O_DIRECT
    | O_LARGEFILE
    | O_DIRECTORY
    | O_NOFOLLOW
    | O_NOATIME
    | O_CLOEXEC
    | O_PATH
    | O_TMPFILE;

impl From<LookupError> for Errno {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotFound => Self::ENOENT,
            LookupError::NotADirectory => Self::ENOTDIR,
            LookupError::TooManyLinks => Self::ELOOP,
            LookupError::NameTooLong => Self::ENAMETOOLONG,
        }
    }
}

/// Reads a path out of the app's memory.
pub fn read_path(path: UserPtr<u8>) -> Result<Vec<u8>, Errno> {
    read_c_string(path, MAX_PATH_BYTES)?.ok_or(Errno::ENAMETOOLONG)
}

/// The node that an open file stands for, if it is one that only names.
fn node_of(opened: &OpenFile) -> Option<NodeId> {
    opened.downcast::<NameOnly>().map(|named| named.id)
}

/// Where a relative path starts (`AT_FDCWD` or a directory's descriptor).
fn base_of(directory: i32, path: &[u8]) -> Result<NodeId, Errno> {
    if directory == AT_FDCWD || path.starts_with(b"/") {
        return Ok(fs::current_directory());
    }
    node_of(&*file::get(directory)?).ok_or(Errno::ENOTDIR)
}

/// What a path and flags of the `*at` calls name: a node of the tree, or with `AT_EMPTY_PATH` a
/// descriptor.
pub enum Named {
    /// By path.
    Node(NodeId),
    /// By descriptor.
    Opened(Arc<OpenFile>),
}

/// Resolves the pair of directory and path as the `*at` calls do.
pub fn resolve(directory: i32, path: UserPtr<u8>, flags: u32) -> Result<Named, Errno> {
    // A null path with AT_EMPTY_PATH is allowed since Linux 6.11.
    let is_empty_allowed = flags & AT_EMPTY_PATH != 0;
    let path = if is_empty_allowed && path.is_null() { Vec::new() } else { read_path(path)? };
    if path.is_empty() && is_empty_allowed {
        return Ok(match directory {
            AT_FDCWD => Named::Node(fs::current_directory()),
            descriptor => Named::Opened(file::get(descriptor)?),
        });
    }
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    Ok(Named::Node(fs::tree().lookup(base_of(directory, &path)?, &path, last)?))
}

/// open(2).
pub fn sys_open(path: UserPtr<u8>, flags: u32) -> SysResult {
    sys_openat(AT_FDCWD, path, flags)
}

/// creat(2).
pub fn sys_creat(path: UserPtr<u8>) -> SysResult {
    sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC)
}

/// openat(2). Unknown flags are ignored, as Linux does.
pub fn sys_openat(directory: i32, path: UserPtr<u8>, flags: u32) -> SysResult {
    let flags = flags & OPEN_FLAGS;
    let path = read_path(path)?;
    let id = find_to_open(directory, &path, flags)?;
    let status = FileFlags::from_bits_truncate(flags);
    file::install(file::open(fs::node::open(id), status), on_exec_of(flags))
}

/// openat2(2).
pub fn sys_openat2(directory: i32, path: UserPtr<u8>, how: UserPtr<open_how>, size: usize) -> SysResult {
    if size < size_of::<open_how>() {
        return Err(Errno::EINVAL);
    }
    let how = how.read()?;
    // What would restrict the walk is not there, and ignoring it would be a lie.
    if how.resolve != 0 || how.flags & !u64::from(OPEN_FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    sys_openat(directory, path, how.flags as u32)
}

fn find_to_open(directory: i32, path: &[u8], flags: u32) -> Result<NodeId, Errno> {
    let creates = flags & O_CREAT != 0 && flags & O_PATH == 0;
    let keeps = flags & O_NOFOLLOW != 0 || creates && flags & O_EXCL != 0;
    let last = if keeps { LastLink::Keep } else { LastLink::Follow };
    let base = base_of(directory, path)?;
    let id = match fs::tree().lookup(base, path, last) {
        Err(LookupError::NotFound) if creates => return Err(refuse_to_create(base, path)),
        found => found?,
    };
    if creates && flags & O_EXCL != 0 {
        return Err(Errno::EEXIST);
    }
    check_open(id, flags, creates)?;
    Ok(id)
}

/// Checks that a node can be opened in this way.
fn check_open(id: NodeId, flags: u32, creates: bool) -> Result<(), Errno> {
    let is_directory = matches!(fs::tree().node(id), Node::Directory(_));
    if flags & O_DIRECTORY != 0 && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(());
    }
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0;
    match fs::tree().node(id) {
        // O_TMPFILE contains O_DIRECTORY, and comes with write access.
        Node::Directory(_) if flags & O_TMPFILE == O_TMPFILE => Err(Errno::EROFS),
        Node::Directory(_) if writes || creates => Err(Errno::EISDIR),
        Node::Symlink(_) => Err(Errno::ELOOP),
        Node::File(_) if writes => Err(Errno::EROFS),
        Node::Special(Special::Text(_)) if writes => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// Why a name cannot be made: its directory is not there, or cannot be written.
fn refuse_to_create(base: NodeId, path: &[u8]) -> Errno {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let parent = match path[..end].iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &path[..=slash],
        None => b".",
    };
    fs::tree().lookup(base, parent, LastLink::Follow).map_or_else(Errno::from, |_| Errno::EROFS)
}

/// The calls that make a name (mkdir(2), mknod(2)).
pub fn sys_make(path: UserPtr<u8>) -> SysResult {
    sys_make_at(AT_FDCWD, path)
}

/// The calls that make a name below a directory (mkdirat(2), mknodat(2)).
pub fn sys_make_at(directory: i32, path: UserPtr<u8>) -> SysResult {
    let path = read_path(path)?;
    let base = base_of(directory, &path)?;
    match fs::tree().lookup(base, &path, LastLink::Keep) {
        Ok(_) => Err(Errno::EEXIST),
        Err(LookupError::NotFound) => Err(refuse_to_create(base, &path)),
        Err(error) => Err(error.into()),
    }
}

/// symlink(2), and link(2) as far as it matters: the second path is the new one.
pub fn sys_make_second(_target: u64, path: UserPtr<u8>) -> SysResult {
    sys_make(path)
}

/// symlinkat(2).
pub fn sys_symlinkat(_target: u64, directory: i32, path: UserPtr<u8>) -> SysResult {
    sys_make_at(directory, path)
}

/// The calls that change what a path names (unlink(2), rename(2), chmod(2), truncate(2)).
pub fn sys_change(path: UserPtr<u8>) -> SysResult {
    sys_change_at(AT_FDCWD, path)
}

/// The same below a directory (unlinkat(2), renameat(2), fchmodat(2), utimensat(2)).
pub fn sys_change_at(directory: i32, path: UserPtr<u8>) -> SysResult {
    resolve(directory, path, AT_SYMLINK_NOFOLLOW)?;
    Err(Errno::EROFS)
}

/// The same by descriptor (fchmod(2), fchown(2)).
pub fn sys_change_opened(fd: i32) -> SysResult {
    file::get(fd)?;
    Err(Errno::EROFS)
}

/// ftruncate(2), fallocate(2): nothing that could be resized is open for writing.
pub fn sys_resize(fd: i32) -> SysResult {
    file::get(fd)?;
    Err(Errno::EINVAL)
}

/// access(2).
pub fn sys_access(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(AT_FDCWD, path, mode, 0)
}

/// faccessat(2).
pub fn sys_faccessat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(directory, path, mode, 0)
}

/// faccessat2(2). The app is root: it may read everything, write devices, and execute what has an
/// execute bit.
pub fn sys_faccessat2(directory: i32, path: UserPtr<u8>, mode: u32, flags: u32) -> SysResult {
    if mode & !(R_OK | W_OK | X_OK) != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let metadata = match resolve(directory, path, flags)? {
        Named::Node(id) => fs::node::metadata(id),
        Named::Opened(opened) => opened.file.metadata(),
    };
    let file_type = metadata.mode & S_IFMT;
    if mode & W_OK != 0 && file_type != S_IFCHR {
        return Err(Errno::EROFS);
    }
    if mode & X_OK != 0 && metadata.mode & 0o111 == 0 { Err(Errno::EACCES) } else { Ok(0) }
}

/// readlink(2).
pub fn sys_readlink(path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    sys_readlinkat(AT_FDCWD, path, buffer, size)
}

/// readlinkat(2).
pub fn sys_readlinkat(directory: i32, path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = read_path(path)?;
    let buffer = UserSlice::new(buffer, size);
    if let Some(descriptor) = path.strip_prefix(b"/proc/self/fd/") {
        return write_name(buffer, descriptor);
    }
    let id = if path.is_empty() {
        node_of(&*file::get(directory)?).ok_or(Errno::ENOENT)?
    } else {
        fs::tree().lookup(base_of(directory, &path)?, &path, LastLink::Keep)?
    };
    let Node::Symlink(target) = fs::tree().node(id) else { return Err(Errno::EINVAL) };
    let count = target.len().min(size);
    buffer.write(&target[..count])?;
    Ok(count)
}

/// `/proc/self/fd/N`: what descriptor N leads to.
fn write_name(buffer: UserSlice, descriptor: &[u8]) -> SysResult {
    let text = core::str::from_utf8(descriptor).map_err(|_| Errno::ENOENT)?;
    let descriptor = text.parse().map_err(|_| Errno::ENOENT)?;
    let opened = file::get(descriptor).map_err(|_| Errno::ENOENT)?;
    let name = opened.file.name();
    let count = name.len().min(buffer.len());
    buffer.write(&name.as_bytes()[..count])?;
    Ok(count)
}

/// getcwd(2). The raw call answers the length with the NUL.
pub fn sys_getcwd(buffer: u64, size: usize) -> SysResult {
    let mut path = fs::tree().path_of(fs::current_directory()).ok_or(Errno::ENOENT)?;
    path.push(0);
    if path.len() > size {
        return Err(Errno::ERANGE);
    }
    UserSlice::new(buffer, size).write(&path)?;
    Ok(path.len())
}

fn enter(id: NodeId) -> SysResult {
    match fs::tree().node(id) {
        Node::Directory(_) => fs::set_current_directory(id),
        _ => return Err(Errno::ENOTDIR),
    }
    Ok(0)
}

/// chdir(2).
pub fn sys_chdir(path: UserPtr<u8>) -> SysResult {
    let path = read_path(path)?;
    enter(fs::tree().lookup(fs::current_directory(), &path, LastLink::Follow)?)
}

/// fchdir(2).
pub fn sys_fchdir(fd: i32) -> SysResult {
    enter(node_of(&*file::get(fd)?).ok_or(Errno::ENOTDIR)?)
}

/// umask(2): kept for the app to read back; nothing is created.
pub fn sys_umask(mask: u32) -> SysResult {
    use core::sync::atomic::{AtomicU32, Ordering};
    static MASK: AtomicU32 = AtomicU32::new(0o022);
    Ok(MASK.swap(mask & 0o777, Ordering::Relaxed) as usize)
}
