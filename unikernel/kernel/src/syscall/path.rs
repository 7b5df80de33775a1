//! Paths: resolving and opening them, links, the current directory (open(2), readlink(2), access(2),
//! chdir(2)). What changes names is in [`names`](super::names).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_ext4::{FileKind, NewKind};
use unikernel_fs::{Attributes, EditError, LastLink, Node, Place};

use super::descriptor::on_exec_of;
use super::{Errno, SysResult};
use crate::file::pipe::{Ends, Fifo};
use crate::file::{self, File, FileFlags, OpenFile, WaitMode};
use crate::fs::disk::file::{DiskFile, DiskName, Opened};
use crate::fs::disk::walk::DiskPlace;
use crate::fs::disk::{self, names};
use crate::fs::memory_file::MemoryFile;
use crate::fs::node::{self, NameOnly};
use crate::fs::{self, FileTree, Handle, Located, LookupError, NodeId, Special, Walked};
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::platform::time;
use crate::sync::SpinLockGuard;
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

/// Flags that count beside `O_PATH` (open(2)).
const O_PATH_FLAGS: u32 = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

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

impl From<EditError> for Errno {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Exists => Self::EEXIST,
            EditError::NotFound => Self::ENOENT,
            EditError::NotADirectory => Self::ENOTDIR,
            EditError::IsADirectory => Self::EISDIR,
            EditError::NotEmpty => Self::ENOTEMPTY,
            EditError::IntoItself => Self::EINVAL,
        }
    }
}

/// Reads a path out of the app's memory.
pub fn read_path(path: UserPtr<u8>) -> Result<Vec<u8>, Errno> {
    read_c_string(path, MAX_PATH_BYTES)?.ok_or(Errno::ENAMETOOLONG)
}

/// What an open file stands for, if it is one that only names.
fn node_of(opened: &OpenFile) -> Option<Located> {
    let in_memory = opened.downcast::<NameOnly>().map(|named| Located::Memory(Arc::clone(&named.handle)));
    in_memory.or_else(|| opened.downcast::<DiskName>().map(|named| Located::Disk(Arc::clone(named.opened()))))
}

/// Where a relative path starts (`AT_FDCWD` or a directory's descriptor).
pub(super) fn base_of(directory: i32, path: &[u8]) -> Result<Located, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if directory == AT_FDCWD || path.starts_with(b"/") {
        return Ok(fs::current_directory());
    }
    node_of(&*file::get_any(directory)?).ok_or(Errno::ENOTDIR)
}

/// The descriptor that a path of `/proc/self/fd` or `/dev` names (proc_pid_fd(5)).
pub(super) fn descriptor_of(path: &[u8]) -> Option<i32> {
    const STREAMS: [&[u8]; 3] = [b"/dev/stdin", b"/dev/stdout", b"/dev/stderr"];
    if let Some(descriptor) = STREAMS.iter().position(|stream| *stream == path) {
        return Some(descriptor as i32);
    }
    const FOLDERS: [&[u8]; 4] = [b"/proc/self/fd/", b"/dev/fd/", b"/proc/1/fd/", b"/proc/thread-self/fd/"];
    let number = FOLDERS.iter().find_map(|folder| path.strip_prefix(*folder))?;
    core::str::from_utf8(number).ok()?.parse().ok()
}

/// What a path and flags of the `*at` calls name: a node of the tree, or with `AT_EMPTY_PATH` a
/// descriptor.
pub enum Named {
    /// By path.
    Node(Located),
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
            AT_FDCWD => Named::Node(fs::find(&fs::current_directory(), b".", LastLink::Follow)?),
            descriptor => Named::Opened(file::get_any(descriptor)?),
        });
    }
    let follows = flags & AT_SYMLINK_NOFOLLOW == 0;
    if follows && let Some(descriptor) = descriptor_of(&path) {
        return Ok(Named::Opened(file::get_any(descriptor).map_err(|_| Errno::ENOENT)?));
    }
    let last = if follows { LastLink::Follow } else { LastLink::Keep };
    Ok(Named::Node(fs::find(&base_of(directory, &path)?, &path, last)?))
}

/// open(2).
pub fn sys_open(path: UserPtr<u8>, flags: u32, mode: u32) -> SysResult {
    sys_openat(AT_FDCWD, path, flags, mode)
}

/// creat(2).
pub fn sys_creat(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

/// openat(2). Unknown flags are ignored, as Linux does.
pub fn sys_openat(directory: i32, path: UserPtr<u8>, flags: u32, mode: u32) -> SysResult {
    let known = if flags & O_PATH != 0 { O_PATH_FLAGS } else { OPEN_FLAGS };
    let opened = open_path(directory, &read_path(path)?, flags & known, mode)?;
    file::install(opened, on_exec_of(flags))
}

/// openat2(2).
pub fn sys_openat2(directory: i32, path: UserPtr<u8>, how: UserPtr<open_how>, size: usize) -> SysResult {
    if size < size_of::<open_how>() {
        return Err(Errno::EINVAL);
    }
    check_rest_is_zero(UserSlice::new(how.address(), size).skip(size_of::<open_how>()))?;
    let how = how.read()?;
    // What would restrict the walk is not there, and ignoring it would be a lie.
    let is_mode_wanted = how.flags & u64::from(O_CREAT | O_TMPFILE & !O_DIRECTORY) != 0;
    if how.flags & !u64::from(OPEN_FLAGS) != 0 || how.mode & !0o7777 != 0 || how.mode != 0 && !is_mode_wanted
    {
        return Err(Errno::EINVAL);
    }
    if how.resolve != 0 {
        return Err(Errno::EAGAIN);
    }
    sys_openat(directory, path, how.flags as u32, how.mode as u32)
}

/// What a structure has behind the part that is known here must say nothing (openat2(2), "Extensibility").
fn check_rest_is_zero(mut rest: UserSlice) -> Result<(), Errno> {
    if rest.len() > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut byte = [0];
    while !rest.is_empty() {
        rest.read(&mut byte)?;
        if byte != [0] {
            return Err(Errno::E2BIG);
        }
        rest = rest.skip(1);
    }
    Ok(())
}

/// Opens a path, making the file if that is asked for.
pub fn open_path(directory: i32, path: &[u8], flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    if flags & O_NOFOLLOW == 0
        && let Some(descriptor) = descriptor_of(path)
    {
        return reopen(descriptor, status);
    }
    let base = base_of(directory, path)?;
    if flags & O_TMPFILE == O_TMPFILE {
        return open_unnamed(&base, path, flags, mode);
    }
    let last = if keeps_last_link(flags) { LastLink::Keep } else { LastLink::Follow };
    let handle = match fs::walk(&base, path, last)? {
        Walked::Disk(place) => return open_on_disk(place, flags, mode),
        Walked::Memory(tree, place) => find_to_open(tree, place, flags, mode)?,
    };
    fs::listing::refresh(handle.id);
    if flags & O_PATH == 0
        && let Some(fifo) = node::fifo(handle.id)
    {
        return Ok(file::open(open_fifo(&fifo, status)?, status));
    }
    let file = if flags & O_PATH != 0 { node::open_name(handle) } else { node::open(handle) };
    if flags & O_TRUNC != 0 && flags & O_PATH == 0 {
        truncate(&*file, 0)?;
    }
    Ok(file::open(file, status))
}

fn creates(flags: u32) -> bool {
    flags & O_CREAT != 0 && flags & O_PATH == 0
}

fn keeps_last_link(flags: u32) -> bool {
    flags & O_NOFOLLOW != 0 || creates(flags) && flags & O_EXCL != 0
}

/// Opens what a walk on a disk has found, making the file if that is asked for.
fn open_on_disk(mut place: DiskPlace, flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    let is_new = place.found.is_none() && creates(flags);
    match &place.found {
        Some(_) if creates(flags) && flags & O_EXCL != 0 => return Err(Errno::EEXIST),
        None if is_new && place.wants_directory => return Err(Errno::EISDIR),
        None if is_new => place.found = Some(names::create(&place, NewKind::File, fs::masked(mode))?),
        _ => {}
    }
    let opened = place.open()?;
    let kind = opened.inode.kind();
    if flags & O_DIRECTORY != 0 && kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(file::open(Arc::new(DiskName::new(Arc::new(opened))), status));
    }
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0;
    match kind {
        FileKind::Directory if writes || creates(flags) => Err(Errno::EISDIR),
        FileKind::Directory => Ok(file::open(Arc::new(DiskName::new(Arc::new(opened))), status)),
        FileKind::Symlink => Err(Errno::ELOOP),
        FileKind::File => {
            if writes {
                opened.inode.mount.check_writable()?;
            }
            if flags & O_TRUNC != 0 && !is_new {
                opened.inode.resize(0)?;
            }
            Ok(file::open(Arc::new(DiskFile::new(opened, flags)), status))
        }
        FileKind::Fifo => Ok(file::open(open_fifo(opened.inode.fifo(), status)?, status)),
        // A socket is connected to; devices on a disk are none of this machine's.
        FileKind::Socket | FileKind::CharacterDevice | FileKind::BlockDevice => Err(Errno::ENXIO),
    }
}

fn open_fifo(fifo: &Fifo, status: FileFlags) -> Result<Arc<dyn File>, Errno> {
    let ends = match (status.can_read(), status.can_write()) {
        (true, true) => Ends::Both,
        (false, _) => Ends::Write,
        (true, false) => Ends::Read,
    };
    let is_patient = !status.contains(FileFlags::NONBLOCK);
    fifo.open(ends, if is_patient { WaitMode::MayBlock } else { WaitMode::NonBlocking })
}

/// Opens what a descriptor has open once more, with an offset and flags of its own.
fn reopen(descriptor: i32, status: FileFlags) -> Result<Arc<OpenFile>, Errno> {
    let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
    Ok(file::open(Arc::clone(&opened.file), status))
}

/// `O_TMPFILE`: a file in a directory, without a name there.
fn open_unnamed(base: &Located, path: &[u8], flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    if !status.can_write() {
        return Err(Errno::EINVAL);
    }
    let directory = fs::find(base, path, LastLink::Follow)?;
    if !directory.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if let Located::Disk(directory) = directory {
        let inode = names::create_unnamed(&directory.inode, fs::masked(mode), flags & O_EXCL != 0)?;
        let opened = Opened { inode, path: directory.path.clone() };
        return Ok(file::open(Arc::new(DiskFile::new(opened, flags)), status));
    }
    let mut tree = fs::tree();
    let attributes = Attributes::new(fs::masked(mode), time::wall_ns());
    let id = tree.create_unnamed(Node::File(MemoryFile::empty()), attributes);
    drop(tree);
    Ok(file::open(node::open(Handle::of_unnamed(id)), status))
}

fn find_to_open(
    mut tree: SpinLockGuard<'static, FileTree>,
    place: Place,
    flags: u32,
    mode: u32,
) -> Result<Handle, Errno> {
    let creates = creates(flags);
    let is_exclusive = creates && flags & O_EXCL != 0;
    let id = match place.found {
        Some(_) if is_exclusive => return Err(Errno::EEXIST),
        Some(id) => id,
        None if creates => create_file(&mut tree, &place, mode)?,
        None => return Err(Errno::ENOENT),
    };
    let is_directory = matches!(tree.node(id), Node::Directory(_));
    if place.wants_directory && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    check_open(&tree, id, flags, creates)?;
    if is_directory {
        return Ok(Handle::of_directory(&mut tree, id));
    }
    Ok(Handle::of_place(&mut tree, place, id))
}

fn create_file(tree: &mut FileTree, place: &Place, mode: u32) -> Result<NodeId, Errno> {
    if place.wants_directory {
        return Err(Errno::EISDIR);
    }
    let attributes = Attributes::new(fs::masked(mode), time::wall_ns());
    let content = MemoryFile::empty();
    Ok(tree.create(place.parent, &place.name, Node::File(content), attributes)?)
}

/// Checks that a node can be opened in this way.
fn check_open(tree: &FileTree, id: NodeId, flags: u32, creates: bool) -> Result<(), Errno> {
    let is_directory = matches!(tree.node(id), Node::Directory(_));
    if flags & O_DIRECTORY != 0 && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(());
    }
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0;
    match tree.node(id) {
        Node::Directory(_) if writes || creates => Err(Errno::EISDIR),
        Node::Symlink(_) => Err(Errno::ELOOP),
        Node::Special(Special::Text(_)) if writes => Err(Errno::EACCES),
        Node::Special(Special::Socket(_)) => Err(Errno::ENXIO),
        _ => Ok(()),
    }
}

/// Changes a file's length (truncate(2), `O_TRUNC`); devices have none, and do not mind.
pub(super) fn truncate(file: &dyn File, size: u64) -> Result<(), Errno> {
    if file.is_regular() { file.resize(size) } else { Ok(()) }
}

/// access(2).
pub fn sys_access(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(AT_FDCWD, path, mode, 0)
}

/// faccessat(2).
pub fn sys_faccessat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_faccessat2(directory, path, mode, 0)
}

/// faccessat2(2). The app is root: it may read and write everything, and execute what has an execute
/// bit.
pub fn sys_faccessat2(directory: i32, path: UserPtr<u8>, mode: u32, flags: u32) -> SysResult {
    if mode & !(R_OK | W_OK | X_OK) != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let metadata = match resolve(directory, path, flags)? {
        Named::Node(found) => found.metadata(),
        Named::Opened(opened) => opened.file.metadata(),
    };
    let is_directory = metadata.mode & S_IFMT == S_IFDIR;
    let may_execute = is_directory || metadata.mode & 0o111 != 0;
    if mode & X_OK != 0 && !may_execute { Err(Errno::EACCES) } else { Ok(0) }
}

/// readlink(2).
pub fn sys_readlink(path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    sys_readlinkat(AT_FDCWD, path, buffer, size)
}

/// readlinkat(2).
pub fn sys_readlinkat(directory: i32, path: UserPtr<u8>, buffer: u64, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = read_path(path)?;
    let target = match descriptor_of(&path) {
        Some(descriptor) => file::get_any(descriptor).map_err(|_| Errno::ENOENT)?.file.name().into_bytes(),
        None => link_target(directory, &path)?,
    };
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
        Located::Disk(opened) => disk::file::link_target(&opened.inode),
        Located::Memory(handle) => match fs::tree().node(handle.id) {
            Node::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        },
    }
}

/// getcwd(2). The raw call answers the length with the NUL.
pub fn sys_getcwd(buffer: u64, size: usize) -> SysResult {
    let directory = fs::current_directory();
    let mut path = match directory {
        Located::Memory(handle) => fs::tree().path_of(handle.id).ok_or(Errno::ENOENT)?,
        Located::Disk(opened) if opened.inode.links() == 0 => return Err(Errno::ENOENT),
        Located::Disk(opened) => opened.path.clone(),
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
    fs::set_current_directory(directory);
    Ok(0)
}

/// chdir(2).
pub fn sys_chdir(path: UserPtr<u8>) -> SysResult {
    let path = read_path(path)?;
    enter(fs::find(&fs::current_directory(), &path, LastLink::Follow)?)
}

/// fchdir(2).
pub fn sys_fchdir(fd: i32) -> SysResult {
    enter(node_of(&*file::get_any(fd)?).ok_or(Errno::ENOTDIR)?)
}

/// umask(2).
pub fn sys_umask(mask: u32) -> SysResult {
    Ok(fs::set_mask(mask) as usize)
}
