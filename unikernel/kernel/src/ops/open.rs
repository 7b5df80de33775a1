//! Opening files, and making them (open(2), creat(2), memfd_create(2)); openat2(2) is in [`openat2`](super::open_how).

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;

use linux_raw_sys::general::*;
use unikernel_fs::{Future, LastLink, Node, Place};
use unikernel_policy::access::FileAccess;
use unikernel_vfs::access::{self, Wanted};
use unikernel_vfs::{FileKind, NewKind};

use super::path::{base_of, read_path, truncate};
use crate::abi::Errno;
use crate::file::notify;
use crate::file::{self, File, FileFlags, Metadata, OpenFile};
use crate::fs::confine::{self, Granted, Spot};
use crate::fs::memory_file::MemoryFile;
use crate::fs::mounts::{self, Edits};
use crate::fs::{self, FileTree, Handle, Located, NodeId, Special, Walked, node, permission};
use crate::mem::user::UserPtr;
use crate::sync::SpinLockGuard;
use crate::task::credentials;
use crate::tty::slave::Slave;
use crate::vfs;
use crate::vfs::file::{InodeFile, InodeName, Opened};
use crate::vfs::inode::Inode;
use crate::vfs::names;
use crate::vfs::walk::InodePlace;

/// Flags of `open` that have a meaning here, or none but do no harm.
pub(super) const OPEN_FLAGS: u32 = O_ACCMODE
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
pub(super) const O_PATH_FLAGS: u32 = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/// The file is to be executed. No flag of the app's: what it gives is looked through for those that are known.
pub(crate) const TO_EXECUTE: u32 = 1 << 30;

/// What is asked of a file that is opened so (landlock(7)).
fn wanted(flags: u32, is_directory: bool) -> FileAccess {
    let mode = FileFlags::from_bits_truncate(flags);
    let mut access = FileAccess::empty();
    access.set(FileAccess::READ_DIR, mode.can_read() && is_directory);
    access.set(FileAccess::READ_FILE, mode.can_read() && !is_directory);
    access.set(FileAccess::WRITE_FILE, mode.can_write());
    access.set(FileAccess::TRUNCATE, flags & O_TRUNC != 0);
    access.set(FileAccess::EXECUTE, flags & TO_EXECUTE != 0);
    access
}

/// Whether a file may be made here and opened so.
fn check_new(spot: &Spot<'_>, flags: u32) -> Result<Granted, Errno> {
    confine::check_directory(spot, FileAccess::MAKE_REG)?;
    confine::check(spot, wanted(flags & !O_TRUNC, false))
}

/// An open file with which not more is done than was granted.
fn within(granted: Granted, opened: Arc<OpenFile>) -> Arc<OpenFile> {
    if !granted.may_truncate {
        opened.keep_length();
    }
    opened
}

/// openat(2). Unknown flags are ignored, as Linux does.
pub(crate) fn openat(
    directory: i32,
    path: UserPtr<u8>,
    flags: u32,
    mode: u32,
) -> Result<Arc<OpenFile>, Errno> {
    let known = if flags & O_PATH != 0 { O_PATH_FLAGS } else { OPEN_FLAGS };
    open_path(directory, &read_path(path)?, flags & known, mode)
}

/// Opens a path, making the file if that is asked for.
pub(crate) fn open_path(directory: i32, path: &[u8], flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    check_flags(flags)?;
    let (opened, is_new) = open_from(&base_of(directory, path)?, path, last_link(flags), (flags, mode))?;
    tell_opened(&opened, flags, is_new);
    Ok(opened)
}

/// Combinations that mean nothing (open(2)).
pub(super) fn check_flags(flags: u32) -> Result<(), Errno> {
    let is_unnamed = flags & O_TMPFILE == O_TMPFILE;
    let is_wrong = if is_unnamed {
        flags & O_CREAT != 0 || !FileFlags::from_bits_truncate(flags).can_write()
    } else {
        flags & O_TMPFILE & !O_DIRECTORY != 0 || creates(flags) && flags & O_DIRECTORY != 0
    };
    if is_wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Whoever watches the file is told that it was opened.
pub(super) fn tell_opened(opened: &OpenFile, flags: u32, is_new: bool) {
    if flags & O_PATH == 0 {
        notify::used(&*opened.file, IN_OPEN);
        // A file that was made just now had nothing to cut off.
        if flags & O_TRUNC != 0 && !is_new && opened.file.is_regular() {
            notify::used(&*opened.file, IN_MODIFY);
        }
    }
}

/// Opens a path; also answers whether the file was made just now.
pub(super) fn open_from(
    base: &Located,
    path: &[u8],
    last: LastLink,
    (flags, mode): (u32, u32),
) -> Result<(Arc<OpenFile>, bool), Errno> {
    if flags & O_TMPFILE == O_TMPFILE {
        return Ok((open_unnamed(fs::find(base, path, last)?, flags, mode)?, true));
    }
    loop {
        match fs::walk(base, path, last)? {
            Walked::Inode(place) => {
                let is_new = place.found.is_none();
                match open_on_disk(place, flags, mode) {
                    // Another thread has made it since: that one is meant.
                    Err(Errno::EEXIST) if flags & O_EXCL == 0 => {}
                    outcome => return Ok((outcome?, is_new)),
                }
            }
            Walked::Memory(tree, place) => {
                let new_name = place.found.is_none().then(|| (place.parent, place.name.clone()));
                let (handle, granted) = find_to_open(tree, place, flags, mode)?;
                let is_new = new_name.is_some();
                if let Some((parent, name)) = new_name {
                    notify::created(parent.into(), &name, false);
                }
                // Of a new file there is nothing to cut off, which would be a change after it was made.
                let flags = if is_new { flags & !O_TRUNC } else { flags };
                return Ok((within(granted, open_node(handle, flags)?), is_new));
            }
            Walked::Descriptor(descriptor) => return Ok((reopen(descriptor, flags)?, false)),
        }
    }
}

/// Opens a node that may be opened in this way.
fn open_node(handle: Handle, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    fs::listing::refresh(handle.id);
    if flags & O_PATH == 0
        && let Some(fifo) = node::fifo(handle.id)
    {
        return Ok(file::open(fifo.open_with(status)?, status));
    }
    let file = if flags & O_PATH != 0 { node::open_name(handle) } else { node::open(handle, flags)? };
    let any: &dyn Any = &*file;
    if flags & O_NOCTTY == 0
        && status.can_read()
        && let Some(slave) = any.downcast_ref::<Slave>()
    {
        slave.control();
    }
    if flags & O_TRUNC != 0 && flags & O_PATH == 0 {
        truncate(&*file, 0)?;
    }
    Ok(file::open(file, status))
}

pub(super) fn creates(flags: u32) -> bool {
    flags & O_CREAT != 0 && flags & O_PATH == 0
}

/// What is asked for when something that is there is opened.
fn wanted_content(flags: u32) -> Wanted {
    let by_mode = match flags & O_ACCMODE {
        // Who executes it is asked about when its head is read.
        _ if flags & TO_EXECUTE != 0 => Wanted::NOTHING,
        O_RDONLY => Wanted::READ,
        O_WRONLY => Wanted::WRITE,
        _ => Wanted::READ.and(Wanted::WRITE),
    };
    if flags & O_TRUNC != 0 { by_mode.and(Wanted::WRITE) } else { by_mode }
}

fn check_owner(inode: &Inode) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    Ok(access::check_owner(&who, inode.attributes().user)?)
}

pub(super) fn last_link(flags: u32) -> LastLink {
    let keeps = flags & O_NOFOLLOW != 0 || creates(flags) && flags & O_EXCL != 0;
    if keeps { LastLink::Keep } else { LastLink::Follow }
}

/// Opens what a walk on a disk has found, making the file if that is asked for.
fn open_on_disk(mut place: InodePlace, flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    let is_new = place.found.is_none() && creates(flags);
    match &place.found {
        Some(_) if creates(flags) && flags & O_EXCL != 0 => return Err(Errno::EEXIST),
        None if is_new && place.wants_directory => return Err(Errno::EISDIR),
        None if is_new => {
            check_new(&Spot::on_disk(&place), flags)?;
            place.found = Some(names::create(&place, NewKind::File, fs::mode(mode))?);
        }
        _ => {}
    }
    open_inode(place.open()?, flags, is_new)
}

/// Opens an inode that was found, or made just now.
fn open_inode(opened: Opened, flags: u32, is_new: bool) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    let kind = opened.inode.kind();
    if flags & O_DIRECTORY != 0 && kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(file::open(Arc::new(InodeName::new(Arc::new(opened))), status));
    }
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0;
    match kind {
        FileKind::Directory if writes || creates(flags) => return Err(Errno::EISDIR),
        FileKind::Symlink => return Err(Errno::ELOOP),
        FileKind::CharacterDevice | FileKind::BlockDevice if opened.inode.mount.options.has_no_devices => {
            return Err(Errno::EACCES);
        }
        // Who has made it just now may use it as he likes (open(2), "mode").
        _ if is_new => {}
        _ => opened.inode.check(wanted_content(flags))?,
    }
    if flags & O_NOATIME != 0 && !is_new {
        check_owner(&opened.inode)?;
    }
    // What was made just now was asked for before.
    let wanted = if is_new { FileAccess::empty() } else { wanted(flags, kind == FileKind::Directory) };
    let granted = confine::check_opened(&opened, wanted)?;
    match kind {
        FileKind::Directory => Ok(file::open(Arc::new(InodeName::new(Arc::new(opened))), status)),
        FileKind::File => {
            if writes {
                opened.inode.mount.check_writable()?;
            }
            if flags & O_TRUNC != 0 && !is_new {
                opened.inode.resize(0)?;
            }
            Ok(within(granted, file::open(Arc::new(InodeFile::new(opened, flags)), status)))
        }
        FileKind::Symlink => Err(Errno::ELOOP),
        FileKind::Fifo => Ok(file::open(opened.inode.fifo().open_with(status)?, status)),
        // A socket is connected to; devices on a disk are none of this machine's.
        FileKind::Socket | FileKind::CharacterDevice | FileKind::BlockDevice => Err(Errno::ENXIO),
    }
}

/// Opens what a descriptor has open once more, with an offset and flags of its own (proc_pid_fd(5)): whatever is asked when a
/// path is opened is asked here, too.
pub(super) fn reopen(descriptor: i32, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
    if let Some(named) = vfs::file::of(&*opened.file) {
        let again = Opened::new(Arc::clone(&named.inode), named.path.clone(), named.parent);
        return open_inode(again, flags, false);
    }
    if let Some(handle) = node::handle_of(&*opened.file) {
        let mut tree = fs::tree();
        check_open(&tree, handle.id, flags, creates(flags), false)?;
        let handle = handle.again(&mut tree);
        let is_directory = tree.is_directory(handle.id);
        drop(tree);
        let granted = match flags & O_PATH {
            0 => confine::check_handle(&handle, wanted(flags, is_directory))?,
            _ => Granted::ALL,
        };
        return Ok(within(granted, open_node(handle, flags)?));
    }
    if flags & O_DIRECTORY != 0 {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(file::open(Arc::new(Named(Arc::clone(&opened.file))), status));
    }
    Ok(file::open(opened.file.reopen(status)?, status))
}

/// Something without a name in the filesystem, of which only the identity is wanted (`O_PATH`). It keeps the file in memory,
/// but not open.
struct Named(Arc<dyn File>);

impl File for Named {
    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

/// `O_TMPFILE`: a file in a directory, without a name there.
fn open_unnamed(directory: Located, flags: u32, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    let status = FileFlags::from_bits_truncate(flags);
    if !directory.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    confine::check_located(&directory, wanted(flags & !O_TRUNC, false))?;
    if let Located::Inode(directory) = directory {
        let inode = names::create_unnamed(&directory.inode, fs::mode(mode), flags & O_EXCL != 0)?;
        let opened = Opened::new(inode, directory.path.clone(), None);
        return Ok(file::open(Arc::new(InodeFile::new(opened, flags)), status));
    }
    let Located::Memory(directory) = directory else { return Err(Errno::ENOTDIR) };
    let mut tree = fs::tree();
    match mounts::of(&tree, directory.id).edits {
        Edits::Allowed => {}
        Edits::KernelOnly => return Err(Errno::EOPNOTSUPP),
        Edits::ReadOnly => return Err(Errno::EROFS),
    }
    permission::check_node(&tree, directory.id, Wanted::CHANGE_NAMES)?;
    let attributes = permission::new_attributes(&tree, directory.id, false, mode);
    let future = if flags & O_EXCL != 0 { Future::StaysUnnamed } else { Future::MayBeNamed };
    let id = tree.create_unnamed(directory.id, Node::File(MemoryFile::empty()), attributes, future)?;
    drop(tree);
    Ok(file::open(node::open(Handle::of_unnamed(id), flags)?, status))
}

fn find_to_open(
    mut tree: SpinLockGuard<'static, FileTree>,
    place: Place,
    flags: u32,
    mode: u32,
) -> Result<(Handle, Granted), Errno> {
    let creates = creates(flags);
    let is_exclusive = creates && flags & O_EXCL != 0;
    let mut granted = None;
    let id = match place.found {
        Some(_) if is_exclusive => return Err(Errno::EEXIST),
        Some(id) => id,
        None if creates => {
            granted = Some(check_new(&Spot::in_memory(&tree, &place), flags)?);
            create_file(&mut tree, &place, mode)?
        }
        None => return Err(Errno::ENOENT),
    };
    let is_directory = matches!(tree.node(id), Node::Directory(_));
    if place.wants_directory && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    check_open(&tree, id, flags, creates, granted.is_some())?;
    let granted = match granted {
        Some(granted) => granted,
        None if flags & O_PATH != 0 => Granted::ALL,
        None => confine::check(&Spot::in_memory(&tree, &place), wanted(flags, is_directory))?,
    };
    if is_directory {
        return Ok((Handle::of_directory(&mut tree, id), granted));
    }
    Ok((Handle::of_place(&mut tree, place, id), granted))
}

fn create_file(tree: &mut FileTree, place: &Place, mode: u32) -> Result<NodeId, Errno> {
    if place.wants_directory {
        return Err(Errno::EISDIR);
    }
    mounts::check_create(tree, place.parent)?;
    permission::check_node(tree, place.parent, Wanted::CHANGE_NAMES)?;
    let attributes = permission::new_attributes(tree, place.parent, false, mode);
    let content = MemoryFile::empty();
    Ok(tree.create(place.parent, &place.name, Node::File(content), attributes)?)
}

/// Checks that a node can be opened in this way.
fn check_open(tree: &FileTree, id: NodeId, flags: u32, creates: bool, is_new: bool) -> Result<(), Errno> {
    let is_directory = matches!(tree.node(id), Node::Directory(_));
    if flags & O_DIRECTORY != 0 && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(());
    }
    let writes = flags & (O_ACCMODE | O_TRUNC) != 0;
    match tree.node(id) {
        Node::Directory(_) if writes || creates => return Err(Errno::EISDIR),
        Node::Symlink(_) => return Err(Errno::ELOOP),
        // Who has made it just now may use it as he likes (open(2), "mode").
        _ if is_new => return Ok(()),
        _ => permission::check_node(tree, id, wanted_content(flags))?,
    }
    if flags & O_NOATIME != 0 {
        permission::ask_node(tree, id, |who, object| access::check_owner(who, object.user))?;
    }
    match tree.node(id) {
        Node::Special(Special::Text(text)) if writes && !text.is_writable() => {
            match mounts::of(tree, id).edits {
                Edits::ReadOnly => Err(Errno::EROFS),
                _ => Err(Errno::EACCES),
            }
        }
        // As Linux's `/sys`, for everybody (kernfs_fop_open).
        Node::Special(Special::Attribute(_)) if writes && tree.attributes(id).permissions & 0o222 == 0 => {
            Err(Errno::EACCES)
        }
        Node::Special(Special::Image) if writes => Err(Errno::ETXTBSY),
        Node::Special(Special::Socket(_)) => Err(Errno::ENXIO),
        _ => Ok(()),
    }
}
