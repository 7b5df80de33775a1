//! A file as opened: what `dup` shares and `open` does not.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use linux_raw_sys::general as raw;

use super::notify;
use super::{File, WaitMode, at_each};
use crate::abi::{Errno, SysResult};
use crate::mem::user::UserSlice;
use crate::sync::{self, SpinLock};
use crate::task::limits;
use crate::task::mutex::Mutex;
use crate::task::release::Release;

bitflags! {
    /// Access mode and status flags (open(2)); the bits are Linux's own.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FileFlags: u32 {
        /// Without this and `READ_WRITE`: read only.
        const WRITE_ONLY = raw::O_WRONLY;
        /// Both directions.
        const READ_WRITE = raw::O_RDWR;
        /// Writes go to the end.
        const APPEND = raw::O_APPEND;
        /// Calls answer `EAGAIN` rather than sleep.
        const NONBLOCK = raw::O_NONBLOCK;
        /// The descriptor only names the file.
        const PATH = raw::O_PATH;
        /// Opened as a directory.
        const DIRECTORY = raw::O_DIRECTORY;
        /// Large-file support, which is always there.
        const LARGEFILE = raw::O_LARGEFILE;
        /// Past the cache. Together with the next ones only told ([`raw::F_GETFL`]): a file learns of them when it is opened.
        const DIRECT = raw::O_DIRECT;
        /// Writes wait for their data, and what finds it.
        const DSYNC = raw::O_DSYNC;
        /// Writes wait for all, with `DSYNC`.
        const SYNC = raw::O_SYNC;
        /// Reads do not change the time of access.
        const NOATIME = raw::O_NOATIME;
        /// The last link of the path was not followed.
        const NOFOLLOW = raw::O_NOFOLLOW;
        /// Made without a name, with `DIRECTORY`.
        const UNNAMED = raw::O_TMPFILE;
    }
}

impl FileFlags {
    /// Flags that `fcntl(F_SETFL)` changes.
    pub(crate) const CHANGEABLE: Self =
        Self::APPEND.union(Self::NONBLOCK).union(Self::DIRECT).union(Self::NOATIME);

    /// True if the file may be read.
    pub(crate) fn can_read(self) -> bool {
        !self.intersects(Self::WRITE_ONLY.union(Self::PATH))
    }

    /// True if the file may be written.
    pub(crate) fn can_write(self) -> bool {
        self.intersects(Self::WRITE_ONLY.union(Self::READ_WRITE)) && !self.contains(Self::PATH)
    }
}

/// A transfer ends where an offset can name it.
fn check_end(offset: u64, len: usize) -> Result<(), Errno> {
    offset.checked_add(len as u64).filter(|&end| end <= i64::MAX as u64).map(|_| ()).ok_or(Errno::EINVAL)
}

/// An open file description. When the last descriptor and the last call in progress let go of
/// it, the file is told to close.
pub(crate) struct OpenFile {
    /// What was opened.
    pub file: Arc<dyn File>,
    /// What [`File::is_seekable`] says, which each call asks.
    is_seekable: bool,
    flags: AtomicU32,
    /// Held by a call that moves the offset, which may wait for a disk meanwhile.
    moving: Mutex<()>,
    /// Changed by who holds `moving`. Anybody may look at it, as `/proc/self/fdinfo` does while the offset of another file, or of
    /// this very one, is held.
    offset: AtomicU64,
    /// Who opened it may not cut it off (landlock(7)).
    keeps_length: AtomicBool,
    /// The next on a thread's list of what is to be closed.
    next_release: SpinLock<Option<Arc<dyn Release>>>,
}

impl Release for OpenFile {
    fn next_release(&self) -> &SpinLock<Option<Arc<dyn Release>>> {
        &self.next_release
    }
}

impl OpenFile {
    /// Opens `file`.
    pub(crate) fn new(file: Arc<dyn File>, flags: FileFlags) -> Self {
        Self {
            is_seekable: file.is_seekable(),
            file,
            flags: AtomicU32::new(flags.bits()),
            moving: Mutex::new(()),
            offset: AtomicU64::new(0),
            keeps_length: AtomicBool::new(false),
            next_release: SpinLock::new(None),
        }
    }

    /// The file, if it is a `T`: how socket calls find their sockets.
    #[inline]
    pub(crate) fn downcast<T: File>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.file;
        any.downcast_ref()
    }

    /// Has it refuse to be cut off by its descriptor.
    pub(crate) fn keep_length(&self) {
        self.keeps_length.store(true, Ordering::Relaxed);
    }

    /// True if it does.
    pub(crate) fn keeps_length(&self) -> bool {
        self.keeps_length.load(Ordering::Relaxed)
    }

    /// Access mode and status flags.
    #[inline]
    pub(crate) fn flags(&self) -> FileFlags {
        FileFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the flags in `mask`.
    pub(crate) fn set_flags(&self, mask: FileFlags, value: FileFlags) {
        let changed = self.flags().difference(mask).union(value.intersection(mask));
        self.flags.store(changed.bits(), Ordering::Relaxed);
    }

    /// Whether calls on it may sleep.
    #[inline]
    pub(crate) fn wait_mode(&self) -> WaitMode {
        if self.flags().contains(FileFlags::NONBLOCK) { WaitMode::NonBlocking } else { WaitMode::MayBlock }
    }

    fn check_read(&self) -> Result<(), Errno> {
        if self.flags().can_read() { Ok(()) } else { Err(Errno::EBADF) }
    }

    fn check_write(&self) -> Result<(), Errno> {
        if self.flags().can_write() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Files without an offset take none in a call either, whatever else may be wrong with it.
    pub(crate) fn check_seekable(&self) -> Result<(), Errno> {
        if self.file.takes_offset() { Ok(()) } else { Err(Errno::ESPIPE) }
    }

    /// read(2).
    #[inline]
    pub(crate) fn read(&self, into: UserSlice) -> SysResult {
        self.check_read()?;
        if !self.is_seekable {
            return self.file.read(into, self.wait_mode());
        }
        let _moving = self.moving.lock();
        let offset = self.offset();
        let count = self.file.read_at(offset, into)?;
        self.set_offset(offset + count as u64);
        self.tell(raw::IN_ACCESS, count);
        Ok(count)
    }

    /// write(2).
    #[inline]
    pub(crate) fn write(&self, from: UserSlice) -> SysResult {
        self.write_with(from, self.wait_mode())
    }

    /// write(2), with a say in whether it may sleep.
    #[inline]
    pub(crate) fn write_with(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        self.check_write()?;
        if !self.is_seekable {
            return self.file.write(from, mode);
        }
        let _moving = self.moving.lock();
        if self.flags().contains(FileFlags::APPEND) {
            let (end, count) = self.file.append(from)?;
            self.set_offset(end);
            self.tell(raw::IN_MODIFY, count);
            return Ok(count);
        }
        let offset = self.offset();
        let count = self.file.write_at(offset, from)?;
        self.set_offset(offset + count as u64);
        self.tell(raw::IN_MODIFY, count);
        Ok(count)
    }

    /// readv(2).
    pub(crate) fn read_vectored(&self, into: &[UserSlice]) -> SysResult {
        self.read_vectored_with(into, self.wait_mode())
    }

    /// readv(2), with a say in whether it may sleep.
    pub(crate) fn read_vectored_with(&self, into: &[UserSlice], mode: WaitMode) -> SysResult {
        if into.iter().all(UserSlice::is_empty) {
            // Nothing is wanted, so the file is not asked.
            return self.check_read().map(|()| 0);
        }
        if self.is_seekable {
            return super::each_buffer(into, WaitMode::MayBlock, |buffer, _| self.read(buffer));
        }
        self.check_read()?;
        self.file.read_vectored(into, mode)
    }

    /// writev(2).
    pub(crate) fn write_vectored(&self, from: &[UserSlice]) -> SysResult {
        self.write_vectored_with(from, self.wait_mode())
    }

    /// writev(2), with a say in whether it may sleep.
    pub(crate) fn write_vectored_with(&self, from: &[UserSlice], mode: WaitMode) -> SysResult {
        if from.iter().all(UserSlice::is_empty) {
            return self.check_write().map(|()| 0);
        }
        if self.is_seekable {
            let mut total = 0;
            return super::each_buffer(from, WaitMode::MayBlock, |buffer, _| {
                if total > 0 && self.is_at_size_limit(|| self.offset()) {
                    return Ok(0);
                }
                let count = self.write(buffer)?;
                total += count;
                Ok(count)
            });
        }
        self.check_write()?;
        self.file.write_vectored(from, mode)
    }

    /// pread(2).
    pub(crate) fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        self.check_seekable()?;
        self.check_read()?;
        check_end(offset, into.len())?;
        let count = self.file.read_at(offset, into)?;
        self.tell(raw::IN_ACCESS, count);
        Ok(count)
    }

    /// pwrite(2).
    pub(crate) fn write_at(&self, offset: u64, from: UserSlice) -> SysResult {
        self.check_seekable()?;
        self.check_write()?;
        check_end(offset, from.len())?;
        // So Linux has it, against POSIX (pwrite(2), BUGS).
        let count = if self.flags().contains(FileFlags::APPEND) && self.is_seekable {
            self.file.append(from)?.1
        } else {
            self.file.write_at(offset, from)?
        };
        self.tell(raw::IN_MODIFY, count);
        Ok(count)
    }

    /// pwritev(2).
    pub(crate) fn write_vectored_at(&self, offset: u64, from: &[UserSlice]) -> SysResult {
        at_each(from, offset, |at, buffer| {
            if at > offset && self.is_at_size_limit(|| at) {
                return Ok(0);
            }
            self.write_at(at, buffer)
        })
    }

    /// True if nothing can be written at `offset`, or behind the end, for the app's own limit. A vectored write that has
    /// written something ends there, as one write would; who can write nothing at all gets the signal
    /// (`file_size::room_in_file`).
    fn is_at_size_limit(&self, offset: impl FnOnce() -> u64) -> bool {
        let limit = limits::soft(raw::RLIMIT_FSIZE);
        if limit == limits::UNLIMITED || !self.file.is_regular() {
            return false;
        }
        let is_append = self.flags().contains(FileFlags::APPEND);
        let at = if is_append { self.file.metadata().size } else { offset() };
        at >= limit
    }

    /// Whoever watches the file is told that so many bytes were moved.
    #[inline]
    fn tell(&self, mask: u32, count: usize) {
        if count > 0 {
            notify::used(&*self.file, mask);
        }
    }

    /// Moves the offset to what `place` makes of the present one and the file's size.
    pub(crate) fn seek(&self, place: impl FnOnce(u64, u64) -> Option<u64>) -> SysResult {
        if self.file.ignores_seek() {
            return Ok(0);
        }
        if !self.is_seekable {
            return Err(Errno::ESPIPE);
        }
        let _moving = self.moving.lock();
        let wanted = place(self.offset(), self.file.metadata().size).ok_or(Errno::EINVAL)?;
        if wanted > self.file.max_bytes() {
            return Err(Errno::EINVAL);
        }
        self.set_offset(wanted);
        Ok(wanted as usize)
    }

    /// Runs `step` with the offset, for directories, whose offset is a position in the listing.
    pub(crate) fn with_offset<T>(&self, step: impl FnOnce(&mut u64) -> T) -> T {
        let _moving = self.moving.lock();
        let mut offset = self.offset();
        let outcome = step(&mut offset);
        self.set_offset(offset);
        outcome
    }

    /// Where the next read(2) or write(2) begins, unless a call is about to move that.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// For who holds `moving`.
    fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // What the end of a file takes: other locks, and now and then a while.
        sync::assert_no_spin_lock();
        if let Some(source) = self.file.poll_source() {
            source.end_watches_on(core::ptr::from_ref(self).addr());
        }
        if let Some(locks) = self.file.locks() {
            locks.release(core::ptr::from_ref(self).addr() as u64);
            // Closing any descriptor of a file ends the process's locks on it (fcntl(2)).
            locks.release(super::lock::PROCESS);
        }
        self.file.close();
        if !self.flags().contains(FileFlags::PATH) {
            let mask = if self.flags().can_write() { raw::IN_CLOSE_WRITE } else { raw::IN_CLOSE_NOWRITE };
            notify::used(&*self.file, mask);
        }
    }
}
