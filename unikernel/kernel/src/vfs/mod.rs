//! Mounted filesystems, below directories of the tree in memory.
//!
//! - here: a [`Mount`]; [`table`]: which there are, mounting and unmounting;
//! - [`inode`]: a file, directory or link as the kernel knows it; [`names`]: changing directories;
//! - [`walk`]: paths; [`permission`]: who may do what; [`file`]: open files and directories;
//! - [`content`]: reading, writing and changing the length of files, in the page cache of `unikernel_vfs`; [`backend`]: what that
//!   needs of the kernel; [`cache`]: which of its pages go; [`flusher`]: writing back in time; [`errors`]: who is told
//!   that it failed; [`mapped`]: what mappings show.
//!
//! Each filesystem is behind one sleeping lock. It is held for looking up and changing, and while a filesystem moves
//! content itself; never while the kernel transfers blocks.

mod backend;
pub(crate) mod cache;
mod content;
mod errors;
pub(crate) mod file;
pub(crate) mod filesystem_type;
pub(crate) mod flusher;
pub(crate) mod inode;
mod mapped;
pub(crate) mod names;
pub(crate) mod permission;
pub(crate) mod table;
pub(crate) mod walk;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{Equivalent, HashMap};
use unikernel_cmdline::MountOptions;
use unikernel_fs::NodeId;
use unikernel_vfs::cache::{self as content_cache, ErrorSequence, Shared};
use unikernel_vfs::{Attributes, Error, FileKind, FileSystem, InodeNumber, Statistics, Timestamp};

use crate::abi::Errno;
use crate::block::volume::Volume;
use crate::kmem::frames;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::mutex::Mutex;
use filesystem_type::{FilesystemType, Source};
use inode::Inode;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Names remembered at most; then all are forgotten.
const MAX_NAMES: usize = 65_536;
/// Inodes kept at most although nobody uses them.
const MAX_INODES: usize = 32_768;
/// The same where somebody else keeps the filesystem, who keeps something for each.
const MAX_SHARED_INODES: usize = 1024;

/// A mounted filesystem.
pub(crate) struct Mount {
    /// `blk0`, `blk0p1` and so on, or the name that it has at its source.
    pub disk: String,
    /// Where it is mounted.
    pub path: String,
    /// `st_dev`.
    pub device_number: u64,
    /// Its root directory.
    pub root: InodeNumber,
    /// The directory that it covers.
    pub covered: NodeId,
    /// Bytes that a file may have.
    pub max_file_bytes: u64,
    /// Which kind it is of.
    pub kind: &'static FilesystemType,
    /// The device whose blocks hold the content of files; `None` if the filesystem moves it itself.
    blocks: Option<Volume>,
    /// `None` once it is unmounted.
    filesystem: Mutex<Option<Box<dyn FileSystem>>>,
    is_read_only: AtomicBool,
    /// It was so from the beginning, not after an error.
    is_mounted_read_only: bool,
    /// What it has is as good as signed, if anything has to be (`trust=`): its blocks are checked against a root hash that is trusted.
    is_trusted: bool,
    /// What is not to be done with its files.
    pub options: MountOptions,
    /// Others change it, too: what was learnt of it is asked for again.
    is_shared: bool,
    inodes: SpinLock<HashMap<u64, Arc<Inode>>>,
    names: SpinLock<HashMap<NameKey, u64>>,
    /// Inodes with something to write back.
    dirty: SpinLock<BTreeSet<u64>>,
    /// Inodes with shared mappings, whose page tables are to be asked.
    mapped: SpinLock<BTreeSet<u64>>,
    /// Inodes in memory without a name; each ends with its last user.
    unlinked: SpinLock<BTreeSet<u64>>,
    /// What the content of its files has in common.
    shared: Shared,
    /// What could not be written back, of all files.
    errors: SpinLock<ErrorSequence<Error>>,
}

/// A directory and a name in it.
#[derive(PartialEq, Eq)]
struct NameKey(u64, Box<[u8]>);

/// The same, borrowed.
#[derive(Clone, Copy)]
struct NameRef<'a>(u64, &'a [u8]);

impl Hash for NameKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NameRef(self.0, &self.1).hash(state);
    }
}

impl Hash for NameRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
        state.write(self.1);
    }
}

impl Equivalent<NameKey> for NameRef<'_> {
    fn equivalent(&self, key: &NameKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// Now, as the filesystem counts.
pub(crate) fn now() -> Timestamp {
    let ns = time::wall_ns();
    Timestamp { seconds: (ns / NANOS_PER_SECOND) as i64, nanoseconds: (ns % NANOS_PER_SECOND) as u32 }
}

/// A time in nanoseconds since 1970, before which they are negative.
pub(crate) fn nanos(time: Timestamp) -> i128 {
    i128::from(time.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(time.nanoseconds)
}

/// The error number for a filesystem's error.
pub(crate) fn errno(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotADirectory => Errno::ENOTDIR,
        Error::IsADirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NoSpace => Errno::ENOSPC,
        Error::TooManyLinks => Errno::EMLINK,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::ReadOnly => Errno::EROFS,
        Error::TooLarge => Errno::EFBIG,
        Error::Invalid => Errno::EINVAL,
        Error::NoAttribute => Errno::ENODATA,
        Error::Unsupported => Errno::EOPNOTSUPP,
        Error::Corrupt(_) | Error::Device => Errno::EIO,
        Error::Denied => Errno::EACCES,
        Error::NotPermitted => Errno::EPERM,
        Error::NoMemory => Errno::ENOMEM,
    }
}

/// Whether an inode may be in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    /// Perhaps.
    MayBe,
    /// The app has ended.
    Gone,
}

/// Somebody uses the inode.
struct InUse;

impl Mount {
    /// Runs `work` on the filesystem; other threads wait meanwhile.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut dyn FileSystem) -> Result<T, Error>,
    ) -> Result<T, Errno> {
        self.with_error(work).map_err(errno)
    }

    fn with_error<T>(&self, work: impl FnOnce(&mut dyn FileSystem) -> Result<T, Error>) -> Result<T, Error> {
        let mut guard = self.filesystem.lock();
        let Some(filesystem) = guard.as_deref_mut() else { return Err(Error::Device) };
        self.free_unlinked(filesystem, Users::MayBe);
        let outcome = work(filesystem);
        self.note_space(filesystem);
        let has_turned = filesystem.is_read_only() && !self.is_read_only();
        drop(guard);
        match outcome {
            Err(Error::Corrupt(place)) => self.turn_read_only(place),
            Err(Error::Device) if has_turned => self.turn_read_only("the journal could not be written"),
            _ => {}
        }
        outcome
    }

    /// As Linux's `errors=remount-ro`: what is damaged is not made worse.
    fn turn_read_only(&self, reason: &str) {
        if !self.is_read_only.swap(true, Ordering::Relaxed) {
            log::error!("{} at {}: {reason}; it is read-only from now on", self.disk, self.path);
        }
    }

    /// What it is mounted from, as `/proc/mounts` has it.
    pub(crate) fn source(&self) -> String {
        match self.kind.source {
            Source::Device { .. } => format!("/dev/{}", self.disk),
            Source::Name(_) => self.disk.clone(),
        }
    }

    /// True if others change it, too, and check who may.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// True if nothing can be changed.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// True if errors have made it read-only: what is not durable by now will never be.
    fn has_failed(&self) -> bool {
        self.is_read_only() && !self.is_mounted_read_only
    }

    /// `EROFS` if nothing can be changed.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Space and inodes.
    pub(crate) fn statistics(&self) -> Result<Statistics, Errno> {
        self.with(|filesystem| filesystem.statistics())
    }

    /// Makes all that was written so far durable. Data that could not be written is told of by [`errors::Told::check_mount`].
    pub(crate) fn sync(&'static self) -> Result<(), Errno> {
        // As on Linux (`sync_inode` says the same of each file).
        if self.has_failed() {
            return Err(Errno::EROFS);
        }
        if self.is_read_only() {
            return Ok(());
        }
        let _ = flusher::write_back_all(self);
        self.with(|filesystem| filesystem.commit(now()))
    }

    /// Tells the disk which blocks of a range are free, in bytes as `FITRIM` counts; answers how many bytes.
    pub(crate) fn trim(&self, start: u64, len: u64, least: u64) -> Result<u64, Errno> {
        self.check_writable()?;
        if self.blocks.as_ref().is_none_or(|volume| volume.limits().max_discard == 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let block_bytes = self.shared.block_bytes as u64;
        let blocks = start / block_bytes..start.saturating_add(len).div_ceil(block_bytes);
        let least = u32::try_from(least.div_ceil(block_bytes)).unwrap_or(u32::MAX);
        self.with(|filesystem| filesystem.trim(blocks, least, now())).map(|trimmed| trimmed * block_bytes)
    }

    /// Pages that blocks of the disk make. A filesystem that moves content itself finds out when it does, as others may take the
    /// space that it has.
    fn note_space(&self, filesystem: &mut dyn FileSystem) {
        if self.blocks.is_none() {
            return;
        }
        let Ok(statistics) = filesystem.statistics() else { return };
        let bytes = statistics.available_blocks * u64::from(statistics.block_bytes);
        self.shared.reservations.set_free_pages(bytes / crate::kmem::PAGE_BYTES as u64);
    }

    /// The inode with a number.
    pub(crate) fn inode(&'static self, number: InodeNumber) -> Result<Arc<Inode>, Errno> {
        if let Some(inode) = self.inodes.lock().get(&number.0) {
            return Ok(Arc::clone(inode));
        }
        self.with(|filesystem| self.inode_in(filesystem, number))
    }

    /// The same for who has the filesystem in hand.
    fn inode_in(
        &'static self,
        filesystem: &mut dyn FileSystem,
        number: InodeNumber,
    ) -> Result<Arc<Inode>, Error> {
        let known = self.inodes.lock().get(&number.0).cloned();
        if let Some(inode) = known.as_ref().filter(|_| !self.is_shared) {
            return Ok(Arc::clone(inode));
        }
        let attributes = self.attributes_in(filesystem, number)?;
        if let Some(inode) = known {
            return Ok(self.same_or_new(inode, attributes));
        }
        self.inodes.lock().try_reserve(1).map_err(|_| Error::NoMemory)?;
        filesystem.open(number)?;
        let inode = Inode::new(self, number, attributes);
        let surplus = {
            let mut inodes = self.inodes.lock();
            inodes.insert(number.0, Arc::clone(&inode));
            // Those that nobody uses go before calls have to be refused.
            let most = if self.is_shared { MAX_SHARED_INODES } else { MAX_INODES };
            let are_too_many = inodes.len() > most || !frames::can_app_take(0);
            if are_too_many { take_unused(&mut inodes) } else { Vec::new() }
        };
        for unused in surplus {
            filesystem.close(unused.number, now())?;
        }
        Ok(inode)
    }

    /// Whoever keeps a shared filesystem may give a number to another file once the one that had it is gone. A new inode takes over
    /// what the filesystem holds for the old one, which has no name, and so nobody for long.
    fn same_or_new(&'static self, inode: Arc<Inode>, attributes: Attributes) -> Arc<Inode> {
        if inode.kind() == attributes.kind && inode.links() > 0 {
            inode.note_told(&attributes);
            return inode;
        }
        let new = Inode::new(self, inode.number, attributes);
        self.unlinked.lock().remove(&inode.number.0);
        self.dirty.lock().remove(&inode.number.0);
        self.mapped.lock().remove(&inode.number.0);
        self.inodes.lock().insert(inode.number.0, Arc::clone(&new));
        content_cache::drop_pages(&*inode, 0);
        new
    }

    /// What the filesystem says of an inode.
    fn attributes_in(
        &self,
        filesystem: &mut dyn FileSystem,
        number: InodeNumber,
    ) -> Result<Attributes, Error> {
        let attributes = filesystem.attributes(number)?;
        // Sizes are added to and rounded up from here on.
        let is_sound = attributes.size <= self.max_file_bytes || attributes.kind != FileKind::File;
        if is_sound { Ok(attributes) } else { Err(Error::Corrupt("a file's size")) }
    }

    /// Frees the unlinked inodes that nobody uses any more; `Users::Gone` says that there are no users at all.
    fn free_unlinked(&self, filesystem: &mut dyn FileSystem, users: Users) {
        let unlinked = core::mem::take(&mut *self.unlinked.lock());
        for number in unlinked {
            match self.take_inode(number, users) {
                Ok(inode) => self.free(filesystem, &inode),
                Err(InUse) => drop(self.unlinked.lock().insert(number)),
            }
        }
    }

    /// Takes an inode out of the table, unless somebody else has it. New references come from the table only.
    fn take_inode(&self, number: u64, users: Users) -> Result<Option<Arc<Inode>>, InUse> {
        let mut inodes = self.inodes.lock();
        let is_used = inodes.get(&number).is_some_and(|inode| Arc::strong_count(inode) > 1);
        if is_used && users == Users::MayBe { Err(InUse) } else { Ok(inodes.remove(&number)) }
    }

    fn free(&self, filesystem: &mut dyn FileSystem, inode: &Option<Arc<Inode>>) {
        let Some(inode) = inode else { return };
        let number = inode.number;
        self.dirty.lock().remove(&number.0);
        self.mapped.lock().remove(&number.0);
        content_cache::drop_pages(&**inode, 0);
        if let Err(error) = filesystem.close(number, now()) {
            log::error!("{} at {}: inode {} cannot be freed: {error:?}", self.disk, self.path, number.0);
        }
    }

    /// An inode has lost its last name. Nothing more is written of it.
    fn note_unlinked(&self, inode: &Inode) {
        self.unlinked.lock().insert(inode.number.0);
    }

    /// Remembers that an inode has something to write back.
    fn note_dirty(&self, inode: &Inode) {
        self.dirty.lock().insert(inode.number.0);
    }

    /// Remembers that an inode can be changed through a mapping.
    fn note_mapped(&self, inode: &Inode) {
        self.mapped.lock().insert(inode.number.0);
    }

    /// The inodes that have or may have something to write back. Those of which somebody is writing back are among them: whoever
    /// makes all durable has to wait for that.
    fn dirty_inodes(&self) -> Vec<Arc<Inode>> {
        let mut numbers = self.dirty.lock().clone();
        numbers.extend(self.mapped.lock().iter());
        // After `dirty`, from which an inode is taken under this lock of its own.
        let inodes = self.inodes.lock();
        let is_wanted = |inode: &&Arc<Inode>| numbers.contains(&inode.number.0) || inode.io_lock.is_locked();
        inodes.values().filter(is_wanted).cloned().collect()
    }

    /// The number that a name leads to, if that is remembered. For who has the filesystem in hand: in anybody else's, the number may
    /// be another file's at once.
    fn remembered(&self, directory: InodeNumber, name: &[u8]) -> Option<InodeNumber> {
        if self.is_shared {
            return None;
        }
        self.names.lock().get(&NameRef(directory.0, name)).copied().map(InodeNumber)
    }

    /// What a name leads to, if that is in memory.
    fn remembered_inode(&self, directory: InodeNumber, name: &[u8]) -> Option<Arc<Inode>> {
        if self.is_shared {
            return None;
        }
        // Names are forgotten before what had them is freed: while this one is remembered, the number is the same file's.
        let names = self.names.lock();
        let number = names.get(&NameRef(directory.0, name))?;
        self.inodes.lock().get(number).cloned()
    }

    /// True if a name can be looked up without waiting for the disk.
    pub(crate) fn has_in_memory(&self, directory: InodeNumber, name: &[u8]) -> bool {
        self.remembered_inode(directory, name).is_some()
    }

    fn remember(&self, directory: InodeNumber, name: &[u8], inode: InodeNumber) {
        let mut names = self.names.lock();
        if names.len() >= MAX_NAMES || !frames::can_app_take(0) {
            names.clear();
        }
        if names.try_reserve(1).is_err() {
            return;
        }
        names.insert(NameKey(directory.0, name.into()), inode.0);
    }

    fn forget(&self, directory: InodeNumber, name: &[u8]) {
        self.names.lock().remove(&NameRef(directory.0, name));
    }
}

/// Takes inodes out that nobody uses and that have nothing in memory.
fn take_unused(inodes: &mut HashMap<u64, Arc<Inode>>) -> Vec<Arc<Inode>> {
    let is_unused = |inode: &Arc<Inode>| Arc::strong_count(inode) == 1 && inode.is_idle();
    inodes.extract_if(|_, inode| is_unused(inode)).map(|(_, inode)| inode).take(MAX_INODES / 4).collect()
}
