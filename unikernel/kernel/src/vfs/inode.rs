//! An inode as the kernel knows it: its attributes, its pages, its locks. Length and times are the kernel's
//! while it is in memory; the filesystem learns of them when they are written back.
//!
//! Two sleeping locks: `write_lock` makes writes and truncations take turns; `io_lock` is held while blocks of
//! the disk are in use or change hands, so that none is freed under a transfer. In this order.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use linux_raw_sys::general::*;
use spin::Once;
use unikernel_vfs::{AttributeChange, Attributes, FileKind, InodeNumber, Run};

use super::cache::Pages;
use super::errors::Failures;
use super::write_back::ALL;
use super::{Mount, nanos, now};
use crate::abi::Errno;
use crate::file::Metadata;
use crate::file::lock::FileLocks;
use crate::file::pipe::Fifo;
use crate::kmem::PAGE_BYTES;
use crate::net::socket::Socket;
use crate::sync::SpinLock;
use crate::task::WaitQueue;
use crate::task::mutex::Mutex;

/// One inode.
pub struct Inode {
    /// Its filesystem.
    pub mount: &'static Mount,
    /// Its number there.
    pub number: InodeNumber,
    attributes: SpinLock<Attributes>,
    pub(super) pages: SpinLock<Pages>,
    /// Where on the disk runs of the file are, as far as it was asked.
    pub(super) extents: SpinLock<ExtentCache>,
    /// Threads that wait for a page to be read.
    pub(super) loaded: WaitQueue,
    pub(super) write_lock: Mutex<()>,
    pub(super) io_lock: Mutex<()>,
    /// Advisory locks.
    pub locks: FileLocks,
    /// The pipe that a FIFO names, once it was opened.
    fifo: Once<Fifo>,
    /// The socket that is bound to the name; none after a restart.
    socket: SpinLock<Weak<Socket>>,
    /// It was made without a name, and may get one (`O_TMPFILE`).
    pub(super) is_nameable: AtomicBool,
    /// Times changed since the filesystem heard of them.
    pub(super) has_new_times: AtomicBool,
    /// Others have changed it, and what is known is old.
    is_stale: AtomicBool,
    /// A shared mapping exists, or has existed.
    pub(super) is_mapped: AtomicBool,
    /// What could not be written back.
    pub(super) failures: SpinLock<Failures>,
    /// When the oldest dirty page became so; 0 if there is none.
    pub(super) dirty_since_ns: AtomicU64,
}

/// Runs of the file's blocks, by their first.
#[derive(Default)]
pub(super) struct ExtentCache {
    known: BTreeMap<u64, Run>,
    /// Changes when what was known is not true any more.
    pub(super) generation: u64,
}

impl ExtentCache {
    const MOST: usize = 128;

    /// The run that holds a block, cut so that it begins there.
    pub(super) fn find(&self, block: u64) -> Option<Run> {
        let (first, run) = self.known.range(..=block).next_back()?;
        let skip = block - first;
        let left = u64::from(run.blocks).checked_sub(skip).filter(|&left| left > 0)?;
        Some(Run { start: run.start.map(|start| start + skip), blocks: left as u32 })
    }

    /// Notes what the filesystem told, if nothing has changed since `generation`.
    pub(super) fn note(&mut self, block: u64, run: Run, generation: u64) {
        if generation == self.generation {
            if self.known.len() >= Self::MOST {
                self.known.clear();
            }
            self.known.insert(block, run);
        }
    }

    /// Forgets all: the file's blocks have changed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.generation += 1;
    }
}

impl Inode {
    /// An inode that was just read.
    pub(super) fn new(mount: &'static Mount, number: InodeNumber, attributes: Attributes) -> Self {
        Self {
            mount,
            number,
            attributes: SpinLock::new(attributes),
            pages: SpinLock::new(Pages::default()),
            extents: SpinLock::new(ExtentCache::default()),
            loaded: WaitQueue::new(),
            write_lock: Mutex::new(()),
            io_lock: Mutex::new(()),
            locks: FileLocks::default(),
            fifo: Once::new(),
            socket: SpinLock::default(),
            is_nameable: AtomicBool::new(false),
            has_new_times: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            is_mapped: AtomicBool::new(false),
            failures: SpinLock::default(),
            dirty_since_ns: AtomicU64::new(0),
        }
    }

    /// What it is.
    pub fn kind(&self) -> FileKind {
        self.attributes.lock().kind
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// Its length in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.attributes.lock().size
    }

    /// Names that lead to it.
    pub fn links(&self) -> u32 {
        self.attributes.lock().links
    }

    pub(super) fn attributes(&self) -> Attributes {
        *self.attributes.lock()
    }

    /// Notes a write that ended at `end`.
    pub(super) fn note_write(&self, end: u64) {
        let now = now();
        let mut attributes = self.attributes.lock();
        attributes.size = attributes.size.max(end);
        (attributes.modified, attributes.changed) = (now, now);
        drop(attributes);
        self.has_new_times.store(true, Ordering::Relaxed);
        self.mount.note_dirty(self);
    }

    pub(super) fn set_size(&self, size: u64) {
        self.attributes.lock().size = size;
    }

    /// Asks the filesystem anew, after it has changed the inode. The length and times in memory are the newer
    /// ones.
    pub fn refresh(&self) -> Result<(), Errno> {
        let read = match self.mount.with(|filesystem| self.mount.attributes_in(filesystem, self.number)) {
            // Whoever keeps it knows files by their names, and it has none any more.
            Err(Errno::ENOENT) if self.mount.is_shared => {
                self.attributes.lock().links = 0;
                return Ok(());
            }
            outcome => outcome?,
        };
        let mut attributes = self.attributes.lock();
        let (size, modified) = (attributes.size, attributes.modified);
        *attributes = read;
        attributes.size = size;
        if self.has_new_times.load(Ordering::Relaxed) {
            attributes.modified = modified;
        }
        Ok(())
    }

    /// Compares with what is known what whoever keeps a shared filesystem says now.
    pub(super) fn note_told(&self, told: &Attributes) {
        if *self.attributes.lock() != *told {
            self.is_stale.store(true, Ordering::Relaxed);
        }
    }

    /// Takes over what others have changed in a shared filesystem. If that was the content, what is remembered of it goes: who opens a
    /// file sees what was written before (close-to-open consistency, as with NFS). If there are changes of our own that are not
    /// written back, or on their way, those are the newer ones.
    pub(super) fn revalidate(self: &Arc<Self>) -> Result<(), Errno> {
        if !self.is_stale.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let Some(_turn) = self.write_lock.try_lock() else { return Ok(()) };
        let Some(_io) = self.io_lock.try_lock() else { return Ok(()) };
        self.collect_mapped();
        if self.has_own_changes() {
            return Ok(());
        }
        let read = self.mount.with(|filesystem| self.mount.attributes_in(filesystem, self.number))?;
        let known = core::mem::replace(&mut *self.attributes.lock(), read);
        if (known.size, known.modified, known.changed) != (read.size, read.modified, read.changed) {
            self.forget_content();
        }
        Ok(())
    }

    /// True if whoever keeps the filesystem has not heard of all changes.
    fn has_own_changes(&self) -> bool {
        self.has_new_times.load(Ordering::Relaxed) || !self.pages.lock().dirty.is_empty()
    }

    /// Writes back what is dirty of a shared file, so that others see it when they open the file after this. Who wants to know of
    /// errors syncs the file before.
    pub(super) fn publish(self: &Arc<Self>) {
        if !self.mount.is_shared || self.links() == 0 {
            return;
        }
        let is_mapped = self.is_mapped.load(Ordering::Relaxed);
        if !is_mapped && !self.has_own_changes() {
            return;
        }
        let _ = self.write_back(ALL);
        let _ = self.store_times();
        // With the times that these changes have left; or they would look like changes by others.
        let _ = self.refresh();
    }

    /// Changes attributes.
    pub fn change(&self, change: AttributeChange) -> Result<(), Errno> {
        self.mount.check_writable()?;
        self.mount.with(|filesystem| filesystem.set_attributes(self.number, change, now()))?;
        if change.modified.is_some() {
            self.has_new_times.store(false, Ordering::Relaxed);
        }
        self.refresh()
    }

    /// The pipe behind a FIFO.
    pub fn fifo(&self) -> &Fifo {
        self.fifo.call_once(Fifo::default)
    }

    /// Binds a socket to the name that was made for it.
    pub fn bind(&self, socket: &Weak<Socket>) {
        *self.socket.lock() = Weak::clone(socket);
    }

    /// The socket that is bound to the name.
    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.lock().upgrade()
    }

    /// True if it has nothing that is only in memory.
    pub(super) fn is_idle(&self) -> bool {
        let is_bare = self.fifo.get().is_none() && self.socket.lock().strong_count() == 0;
        let is_whole = self.failures.lock().lost_pages().is_none();
        is_bare && is_whole && self.pages.lock().all.is_empty() && !self.has_new_times.load(Ordering::Relaxed)
    }

    /// What `stat` tells.
    pub fn metadata(&self) -> Metadata {
        let attributes = self.attributes();
        let file_type = match attributes.kind {
            FileKind::File => S_IFREG,
            FileKind::Directory => S_IFDIR,
            FileKind::Symlink => S_IFLNK,
            FileKind::Fifo => S_IFIFO,
            FileKind::Socket => S_IFSOCK,
            FileKind::CharacterDevice => S_IFCHR,
            FileKind::BlockDevice => S_IFBLK,
        };
        // Blocks that are still to be found count, as in Linux.
        let cached = if attributes.blocks_512 == 0 && file_type == S_IFREG {
            (self.pages.lock().all.len() * PAGE_BYTES) as u64
        } else {
            0
        };
        Metadata {
            device: self.mount.device_number,
            inode: self.number.0,
            mode: file_type | u32::from(attributes.permissions),
            links: attributes.links,
            user: attributes.user,
            group: attributes.group,
            size: attributes.size,
            occupied_bytes: (attributes.blocks_512 * 512).max(cached),
            special_device: u64::from(attributes.device),
            accessed_ns: nanos(attributes.accessed),
            modified_ns: nanos(attributes.modified),
            changed_ns: nanos(attributes.changed),
            born_ns: nanos(attributes.born),
        }
    }
}

/// The type in a directory entry.
pub fn entry_type(kind: FileKind) -> u8 {
    let entry_type = match kind {
        FileKind::File => DT_REG,
        FileKind::Directory => DT_DIR,
        FileKind::Symlink => DT_LNK,
        FileKind::Fifo => DT_FIFO,
        FileKind::Socket => DT_SOCK,
        FileKind::CharacterDevice => DT_CHR,
        FileKind::BlockDevice => DT_BLK,
    };
    entry_type as u8
}
