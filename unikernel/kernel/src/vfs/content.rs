//! A file's content as calls use it: the functions of `unikernel_vfs::cache` with the app's memory, the limits of its process,
//! and the lock by which writes take turns.

use core::cell::Cell;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;

use unikernel_vfs::cache::{self, AccessError, Fault, ReadAhead, Window};
use unikernel_vfs::{FileKind, Sync};

use super::errno;
use super::errors::Told;
use super::inode::Inode;
use crate::abi::{Errno, SysResult};
use crate::mem::user::UserSlice;
use crate::process::file_size;
use crate::sync::SpinLock;

/// What is known of one reader.
pub(super) struct Reader(SpinLock<ReadAhead>);

impl Reader {
    pub(super) fn new() -> Self {
        Self(SpinLock::new(ReadAhead::new(cache::MOST_AHEAD)))
    }

    /// It says that it will jump about, or that it will not.
    pub(super) fn set_random(&self, is_random: bool) {
        self.0.lock().set_random(is_random);
    }
}

impl Window for Reader {
    fn hit(&self, first: u64, count: u32) {
        self.0.lock().hit(first, count);
    }

    fn miss(&self, first: u64, count: u32) -> u32 {
        self.0.lock().miss(first, count)
    }
}

fn access_errno(error: AccessError) -> Errno {
    match error {
        AccessError::Filesystem(error) => errno(error),
        AccessError::Fault => Errno::EFAULT,
    }
}

/// Moves bytes from or to the app's memory by `transfer`, which is told how many were moved before. Where a page of that memory is
/// missing, which `transfer` notes, what lies before it is moved all the same, as on Linux; a piece that ends there was not.
fn up_to_missing(
    buffer: UserSlice,
    mut transfer: impl FnMut(usize, UserSlice, &Cell<bool>) -> Result<usize, AccessError>,
) -> SysResult {
    let is_missing = Cell::new(false);
    let done = match transfer(0, buffer, &is_missing) {
        Ok(done) => done,
        Err(AccessError::Fault) => 0,
        Err(error) => return Err(access_errno(error)),
    };
    // What ends early otherwise, at the end of the file, at a bad sector or on a full disk, would only end there once more.
    if !is_missing.get() {
        return Ok(done);
    }
    match transfer(done, buffer.skip(done).within_page(), &is_missing) {
        Ok(more) => Ok(done + more),
        Err(_) if done > 0 => Ok(done),
        Err(error) => Err(access_errno(error)),
    }
}

fn note(is_missing: &Cell<bool>) -> Fault {
    is_missing.set(true);
    Fault
}

impl Inode {
    /// Copies bytes from `offset` on to the app; less than asked for at the end of the file.
    pub(super) fn read(&self, offset: u64, into: UserSlice, reader: &Reader) -> SysResult {
        up_to_missing(into, |done, into, is_missing| {
            cache::read(self, offset + done as u64, into.len(), reader, |frame, within, done, len| {
                frame.copy_to(within, len, into.skip(done).truncate(len)).map_err(|_| note(is_missing))
            })
        })
    }

    /// Copies the app's bytes to `offset` and after, or to the end; less than all if there is no room. Answers
    /// where that ended, and how much it was.
    pub(super) fn write(&self, offset: Option<u64>, from: UserSlice) -> Result<(u64, usize), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        self.drop_privileges()?;
        let offset = offset.unwrap_or_else(|| self.size());
        if !self.attributes().is_mappable {
            // The pages would be lost when they are written back.
            return Err(Errno::EOPNOTSUPP);
        }
        let from = from.truncate(file_size::room_in_file(offset, from.len(), self.mount.max_file_bytes)?);
        let written = up_to_missing(from, |done, from, is_missing| {
            cache::write(self, offset + done as u64, from.len(), |frame, within, done, len| {
                frame.copy_from(within, len, from.skip(done).truncate(len)).map_err(|_| note(is_missing))
            })
        });
        written.map(|count| (offset + count as u64, count))
    }

    /// A mapping is about to write to a page: makes sure of blocks for it, and counts it as dirty, so that it gets them.
    pub(super) fn reserve_page(&self, index: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        cache::reserve(self, index).map_err(errno)
    }

    /// Makes the file shorter or longer (truncate(2)).
    pub(crate) fn resize(&self, size: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        file_size::check_file_size(self.size(), size, self.mount.max_file_bytes)?;
        self.drop_privileges()?;
        cache::resize(self, size).map_err(errno)
    }

    /// Whether the blocks of a range may be changed. As on Linux, even a hole cannot be made past the largest file.
    fn check_range(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.mount.max_file_bytes);
        if fits { Ok(()) } else { Err(Errno::EFBIG) }
    }

    /// Gives a range blocks, so that writes there will not run out of space (fallocate(2)).
    pub(crate) fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        self.check_range(offset, len)?;
        let _turn = self.write_lock.lock();
        if !keep_size {
            file_size::check_file_size(self.size(), offset + len, self.mount.max_file_bytes)?;
        }
        self.drop_privileges()?;
        cache::allocate(self, offset, len, keep_size).map_err(errno)
    }

    /// Sets a range to zeros and gives its blocks back (`FALLOC_FL_PUNCH_HOLE`).
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.check_range(offset, len)?;
        let _turn = self.write_lock.lock();
        self.drop_privileges()?;
        cache::punch(self, offset, len).map_err(errno)
    }

    /// Writes the dirty pages of a range to the disk, as blocks of the file; perhaps only into the disk's own
    /// cache.
    pub(super) fn write_back(&self, range: RangeInclusive<u64>) -> Result<(), Errno> {
        cache::write_back(self, range).map_err(errno)
    }

    /// fsync(2), fdatasync(2), by who was told of the errors in `told`.
    pub(super) fn sync(&self, what: Sync, told: &Told) -> Result<(), Errno> {
        match self.kind() {
            FileKind::File => cache::sync(self, what, &told.file),
            _ => cache::sync_inode(self, what),
        }
        .map_err(errno)
    }

    /// A mapping is made: from now on the page tables are asked what the app has written.
    pub(super) fn note_mapped(&self) {
        self.is_mapped.store(true, Ordering::Relaxed);
        self.mount.note_mapped(self);
    }
}
