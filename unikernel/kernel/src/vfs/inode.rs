//! An inode as the kernel knows it: its attributes, its pages, its locks. Length and times are the kernel's
//! while it is in memory; the filesystem learns of them when they are written back.
//!
//! Two sleeping locks: `write_lock` makes writes and truncations take turns; `io_lock` is held while blocks of
//! the disk are in use or change hands, so that none is freed under a transfer. In this order.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use linux_raw_sys::general::*;
use spin::Once;
use unikernel_vfs::cache::{self, ALL, Backend, FileCache};
use unikernel_vfs::{AttributeChange, Attributes, Error, FileKind, FileSystem, InodeNumber};

use super::permission::AccessAttributes;
use super::{Mount, errno, nanos, now};
use crate::abi::Errno;
use crate::file::Metadata;
use crate::file::lock::FileLocks;
use crate::ipc::pipe::Fifo;
use crate::kmem::PAGE_BYTES;
use crate::mem::shared::SharedFrame;
use crate::net::socket::Socket;
use crate::sync::SpinLock;
use crate::task::WaitQueue;
use crate::task::mutex::Mutex;

/// One inode.
pub(crate) struct Inode {
    /// Its filesystem.
    pub mount: &'static Mount,
    /// Its number there.
    pub number: InodeNumber,
    /// Itself.
    pub(super) this: Weak<Self>,
    /// All but the length.
    pub(super) attributes: SpinLock<Attributes>,
    /// What its extended attributes say of who may use it, once that was asked.
    pub(super) access_attributes: SpinLock<Option<Arc<AccessAttributes>>>,
    /// The length, and what is in memory of the content.
    pub(super) content: SpinLock<FileCache<SharedFrame>>,
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
    /// When the oldest dirty page became so; 0 if there is none.
    pub(super) dirty_since_ns: AtomicU64,
}

impl Inode {
    /// An inode that was just read.
    pub(super) fn new(mount: &'static Mount, number: InodeNumber, attributes: Attributes) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            mount,
            number,
            this: Weak::clone(this),
            attributes: SpinLock::new(attributes),
            access_attributes: SpinLock::new(None),
            content: SpinLock::new(FileCache::new(attributes.size)),
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
            dirty_since_ns: AtomicU64::new(0),
        })
    }

    /// What it is.
    pub(crate) fn kind(&self) -> FileKind {
        self.attributes.lock().kind
    }

    /// True for a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// Its length in bytes.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.content.lock().size()
    }

    /// Names that lead to it.
    pub(crate) fn links(&self) -> u32 {
        self.attributes.lock().links
    }

    /// What is known of it.
    pub(crate) fn attributes(&self) -> Attributes {
        let size = self.size();
        Attributes { size, ..*self.attributes.lock() }
    }

    /// The content changes now.
    pub(super) fn note_change(&self) {
        let now = now();
        let mut attributes = self.attributes.lock();
        (attributes.modified, attributes.changed) = (now, now);
        drop(attributes);
        self.has_new_times.store(true, Ordering::Relaxed);
        self.mount.note_dirty(self);
    }

    /// Asks the filesystem anew, after it has changed the inode. The length and times in memory are the newer
    /// ones.
    pub(crate) fn refresh(&self) -> Result<(), Errno> {
        self.refresh_attributes().map_err(errno)
    }

    pub(super) fn refresh_attributes(&self) -> Result<(), Error> {
        self.mount.with_error(|filesystem| self.refresh_in(filesystem))
    }

    /// The same for who has the filesystem in hand, and keeps it until what was read is noted: after that, another thread would
    /// perhaps have noted something newer.
    pub(super) fn refresh_in(&self, filesystem: &mut dyn FileSystem) -> Result<(), Error> {
        let read = match self.mount.attributes_in(filesystem, self.number) {
            // Whoever keeps it knows files by their names, and it has none any more.
            Err(Error::NotFound) if self.mount.is_shared => {
                self.attributes.lock().links = 0;
                return Ok(());
            }
            outcome => outcome?,
        };
        let mut attributes = self.attributes.lock();
        let modified = attributes.modified;
        *attributes = read;
        if self.has_new_times.load(Ordering::Relaxed) {
            attributes.modified = modified;
        }
        Ok(())
    }

    /// Compares with what is known what whoever keeps a shared filesystem says now.
    pub(super) fn note_told(&self, told: &Attributes) {
        if self.attributes() != *told {
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
        if self.is_mapped() {
            self.collect_mapped();
        }
        if self.has_own_changes() {
            return Ok(());
        }
        let (known, read) = self.mount.with(|filesystem| {
            let read = self.mount.attributes_in(filesystem, self.number)?;
            let known = self.attributes();
            *self.attributes.lock() = read;
            self.content.lock().set_size(read.size);
            Ok((known, read))
        })?;
        if (known.size, known.modified, known.changed) != (read.size, read.modified, read.changed) {
            cache::forget_content(&**self);
        }
        Ok(())
    }

    /// True if whoever keeps the filesystem has not heard of all changes.
    fn has_own_changes(&self) -> bool {
        self.has_new_times.load(Ordering::Relaxed) || self.content.lock().is_dirty()
    }

    /// Writes back what is dirty of a shared file, so that others see it when they open the file after this. Who wants to know of
    /// errors syncs the file before.
    pub(super) fn publish(self: &Arc<Self>) {
        if !self.mount.is_shared || self.links() == 0 {
            return;
        }
        if !self.is_mapped() && !self.has_own_changes() {
            return;
        }
        let _ = self.write_back(ALL);
        let _ = self.store_times();
        // With the times that these changes have left; or they would look like changes by others.
        let _ = self.refresh();
    }

    /// Changes attributes.
    pub(crate) fn change(&self, change: AttributeChange) -> Result<(), Errno> {
        self.mount.check_writable()?;
        self.mount.with(|filesystem| {
            filesystem.set_attributes(self.number, change, now())?;
            if change.modified.is_some() {
                self.has_new_times.store(false, Ordering::Relaxed);
            }
            self.refresh_in(filesystem)
        })?;
        change.permissions.map_or(Ok(()), |permissions| self.follow_mode(permissions))
    }

    /// The pipe behind a FIFO.
    pub(crate) fn fifo(&self) -> &Fifo {
        self.fifo.call_once(Fifo::default)
    }

    /// Binds a socket to the name that was made for it.
    pub(crate) fn bind(&self, socket: &Weak<Socket>) {
        *self.socket.lock() = Weak::clone(socket);
    }

    /// The socket that is bound to the name.
    pub(crate) fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.lock().upgrade()
    }

    /// True if it has nothing that is only in memory.
    pub(super) fn is_idle(&self) -> bool {
        let is_bare = self.fifo.get().is_none() && self.socket.lock().strong_count() == 0;
        let content = self.content.lock();
        let has_content = content.has_lost() || content.page_count() > 0;
        is_bare && !has_content && !self.has_new_times.load(Ordering::Relaxed)
    }

    /// What `stat` tells.
    pub(crate) fn metadata(&self) -> Metadata {
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
            (self.content.lock().page_count() * PAGE_BYTES) as u64
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
pub(crate) fn entry_type(kind: FileKind) -> u8 {
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
