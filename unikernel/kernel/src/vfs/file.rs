//! Files and directories of mounted filesystems, as opened.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::ControlFlow;

use linux_raw_sys::general::{O_DIRECT, O_DSYNC, O_SYNC};
use unikernel_vfs::cache::{self, ALL, MOST_AHEAD, split};
use unikernel_vfs::{FileKind, InodeNumber, Sync};

use super::content::Reader;
use super::errors::Told;
use super::inode::{Inode, entry_type};
use super::{Mount, errno};
use crate::abi::{Errno, SysResult};
use crate::file::lock::FileLocks;
use crate::file::notify::{self, FileKey};
use crate::file::{Content, File, Metadata, NamedNode};
use crate::kmem::PAGE_BYTES;
use crate::mem::space::PageSource;
use crate::mem::user::UserSlice;

/// An inode, and the path that led to it.
pub(crate) struct Opened {
    /// The inode.
    pub inode: Arc<Inode>,
    /// The path, without links.
    pub path: Vec<u8>,
    /// The directory of the same filesystem in which it was found.
    pub parent: Option<InodeNumber>,
    /// Which errors of write-back it was told of.
    told: Told,
}

impl Opened {
    /// Opens an inode.
    pub(crate) fn new(inode: Arc<Inode>, path: Vec<u8>, parent: Option<InodeNumber>) -> Self {
        Self { told: Told::new(&inode), inode, path, parent }
    }

    /// fsync(2), fdatasync(2).
    pub(crate) fn sync(&self, what: Sync) -> Result<(), Errno> {
        self.inode.sync(what, &self.told)
    }

    /// syncfs(2).
    pub(crate) fn sync_mount(&self) -> Result<(), Errno> {
        let synced = self.inode.mount.sync();
        synced.and(self.told.check_mount(self.inode.mount))
    }

    /// Its path, as people read it.
    pub(crate) fn name(&self) -> String {
        let mut name = String::from_utf8_lossy(&self.path).into_owned();
        if self.inode.links() == 0 {
            name.push_str(" (deleted)");
        }
        name
    }
}

impl NamedNode for Opened {
    fn tell_watches(&self, mask: u32) {
        let inode = &*self.inode;
        let mount = core::ptr::from_ref(inode.mount).addr();
        let name = self.parent.map(|parent| (FileKey::Inode(mount, parent.0), notify::last_name(&self.path)));
        notify::used_named(inode.into(), name, inode.is_directory(), mask);
    }
}

impl From<&Inode> for FileKey {
    fn from(inode: &Inode) -> Self {
        Self::Inode(core::ptr::from_ref(inode.mount).addr(), inode.number.0)
    }
}

/// The `Opened` behind an open file, if it is of a mounted filesystem.
pub(crate) fn of(file: &dyn File) -> Option<&Arc<Opened>> {
    let any: &dyn Any = file;
    any.downcast_ref::<InodeFile>()
        .map(|file| &file.opened)
        .or_else(|| any.downcast_ref::<InodeName>().map(|name| &name.opened))
}

/// A regular file.
pub(crate) struct InodeFile {
    opened: Arc<Opened>,
    reader: Reader,
    /// What a write waits for (`O_SYNC`, `O_DSYNC`).
    write_sync: Option<Sync>,
    is_direct: bool,
}

impl InodeFile {
    /// Opens it with flags of open(2).
    pub(crate) fn new(opened: Opened, flags: u32) -> Self {
        let write_sync = match flags {
            _ if flags & O_SYNC == O_SYNC => Some(Sync::All),
            _ if flags & O_DSYNC != 0 => Some(Sync::Data),
            _ => None,
        };
        Self { opened: Arc::new(opened), reader: Reader::new(), write_sync, is_direct: flags & O_DIRECT != 0 }
    }

    /// The file.
    pub(crate) fn inode(&self) -> &Arc<Inode> {
        &self.opened.inode
    }

    /// The reader says that it will jump about, or that it will not (posix_fadvise(2)).
    pub(crate) fn set_random(&self, is_random: bool) {
        self.reader.set_random(is_random);
    }

    /// Reads a range in that will be wanted soon.
    pub(crate) fn prefetch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        /// What is read at most: the rest of a long range would push it out again, and the caller waits.
        const MOST_BYTES: u64 = 8 << 20;
        let len = if len == 0 { MOST_BYTES } else { len.min(MOST_BYTES) };
        let end = offset.saturating_add(len).min(self.inode().size());
        let (mut index, last) = (split(offset).0, end.div_ceil(PAGE_BYTES as u64));
        while index < last {
            let count = (last - index).min(u64::from(MOST_AHEAD));
            cache::load(&**self.inode(), index, count as u32).map_err(errno)?;
            index += count;
        }
        Ok(())
    }

    /// Gives back what is in memory of a range (posix_fadvise(2)); what is dirty is written first.
    pub(crate) fn forget(&self, offset: u64, len: u64) {
        let end = if len == 0 { u64::MAX } else { offset.saturating_add(len) };
        let _ = self.inode().write_back(split(offset).0..=split(end).0);
        let pages = offset.div_ceil(PAGE_BYTES as u64)..end.div_ceil(PAGE_BYTES as u64);
        cache::forget_pages(&**self.inode(), pages);
    }

    /// `O_DIRECT` goes in whole sectors.
    fn check_alignment(&self, offset: u64, buffer: UserSlice) -> Result<(), Errno> {
        let is_aligned =
            [offset, buffer.address(), buffer.len() as u64].iter().all(|at| at.is_multiple_of(512));
        // No bytes have no alignment, as on Linux.
        if !self.is_direct || is_aligned || buffer.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn put(&self, offset: Option<u64>, from: UserSlice) -> Result<(u64, usize), Errno> {
        self.check_alignment(offset.unwrap_or(0), from)?;
        let (end, count) = self.inode().write(offset, from)?;
        if let Some(what) = self.write_sync {
            self.opened.sync(what)?;
        } else if self.is_direct {
            self.start_write_back(end - count as u64, end);
            self.opened.told.check(self.inode())?;
        }
        Ok((end, count))
    }

    /// Has a range written to the disk, perhaps only into its own cache (sync_file_range(2)).
    pub(crate) fn start_write_back(&self, offset: u64, end: u64) {
        if offset < end {
            // What fails is told to who waits for it.
            let _ = self.inode().write_back(split(offset).0..=split(end - 1).0);
        }
    }

    /// Returns when no page is being written; tells whether that has failed (sync_file_range(2)).
    pub(crate) fn wait_for_write_back(&self) -> Result<(), Errno> {
        drop(self.inode().io_lock.lock());
        self.opened.told.check(self.inode())
    }
}

impl Drop for InodeFile {
    fn drop(&mut self) {
        self.opened.inode.publish();
    }
}

impl File for InodeFile {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&*self.opened)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn is_regular(&self) -> bool {
        true
    }

    fn is_on_disk(&self) -> bool {
        true
    }

    fn has_in_memory(&self, offset: u64, len: usize) -> bool {
        cache::has_in_memory(&**self.inode(), offset, len)
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        self.check_alignment(offset, into)?;
        self.inode().read(offset, into, &self.reader)
    }

    fn write_at(&self, offset: u64, from: UserSlice) -> SysResult {
        self.put(Some(offset), from).map(|(_, count)| count)
    }

    fn append(&self, from: UserSlice) -> Result<(u64, usize), Errno> {
        self.put(None, from)
    }

    fn find_content(&self, offset: u64, wanted: Content) -> Option<u64> {
        let inode = self.inode();
        if offset >= inode.size() {
            return None;
        }
        // The filesystem knows of no page that is only in memory.
        let _ = inode.write_back(ALL);
        let found = inode.mount.with(|filesystem| match wanted {
            Content::Data => filesystem.next_data(inode.number, offset),
            Content::Hole => filesystem.next_hole(inode.number, offset),
        });
        found.ok().flatten().map(|at| at.max(offset))
    }

    fn metadata(&self) -> Metadata {
        self.inode().metadata()
    }

    fn locks(&self) -> Option<&FileLocks> {
        Some(&self.inode().locks)
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>, Errno> {
        self.inode().note_mapped();
        Ok(Arc::clone(&self.opened) as Arc<dyn PageSource>)
    }

    fn max_bytes(&self) -> u64 {
        self.inode().mount.max_file_bytes
    }

    fn resize(&self, size: u64) -> Result<(), Errno> {
        self.inode().resize(size)
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        self.inode().allocate(offset, len, keep_size)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.inode().punch(offset, len)
    }

    fn sync(&self, what: Sync) -> Result<(), Errno> {
        self.opened.sync(what)
    }

    fn name(&self) -> String {
        self.opened.name()
    }
}

/// A directory; or anything else of which only the name is used (`O_PATH`).
pub(crate) struct InodeName {
    opened: Arc<Opened>,
}

impl InodeName {
    /// Opens it.
    pub(crate) fn new(opened: Arc<Opened>) -> Self {
        Self { opened }
    }

    /// What is open.
    pub(crate) fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }
}

impl File for InodeName {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&*self.opened)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn is_on_disk(&self) -> bool {
        true
    }

    fn read_at(&self, _offset: u64, _into: UserSlice) -> SysResult {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, _offset: u64, _from: UserSlice) -> SysResult {
        Err(Errno::EBADF)
    }

    fn metadata(&self) -> Metadata {
        self.opened.inode.metadata()
    }

    fn sync(&self, what: Sync) -> Result<(), Errno> {
        self.opened.sync(what)
    }

    fn name(&self) -> String {
        self.opened.name()
    }
}

/// An entry of a listing: name, inode, type, and where the listing goes on.
pub(crate) struct ListedEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode's number.
    pub inode: u64,
    /// `DT_*`.
    pub entry_type: u8,
    /// The position after it.
    pub next: u64,
}

/// Entries of a directory from `position` on, for about `bytes` of a listing.
pub(crate) fn list(directory: &Inode, position: u64, bytes: usize) -> Result<Vec<ListedEntry>, Errno> {
    let mount: &Mount = directory.mount;
    let mut entries: Vec<ListedEntry> = Vec::new();
    let mut room = bytes;
    mount.with(|filesystem| {
        filesystem.entries(directory.number, position, &mut |entry| {
            entries.push(ListedEntry {
                name: entry.name.to_vec(),
                inode: entry.inode.0,
                entry_type: entry.kind.map_or(0, entry_type),
                next: entry.next_cookie,
            });
            room = room.saturating_sub(entry.name.len() + 20);
            if room == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // Older directories do not tell what is in them.
        for entry in entries.iter_mut().filter(|entry| entry.entry_type == 0) {
            let number = InodeNumber(entry.inode);
            entry.entry_type =
                filesystem.attributes(number).map_or(0, |attributes| entry_type(attributes.kind));
        }
        Ok(())
    })?;
    Ok(entries)
}

/// The target of a symbolic link.
pub(crate) fn link_target(inode: &Inode) -> Result<Vec<u8>, Errno> {
    if inode.kind() != FileKind::Symlink {
        return Err(Errno::EINVAL);
    }
    inode
        .mount
        .with(|filesystem| filesystem.read_link(inode.number))
        .map_err(|error| if error == errno(unikernel_vfs::Error::Invalid) { Errno::EINVAL } else { error })
}
