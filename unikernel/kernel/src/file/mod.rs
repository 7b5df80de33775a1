//! Open files: what every kind has in common.
//!
//! - [`File`]: what every kind of file can do, with refusals as defaults;
//! - [`OpenFile`]: a file as opened, with status flags and an offset; [`table`]: descriptors;
//! - [`PollSource`]: how a file tells sleeping threads and epoll that something changed; [`ready_list`]: what epoll has been told of;
//! - [`lock`]: `flock` and byte-range locks; [`notify`]: who watches files and directories;
//! - [`long_text`]: contents that the kernel makes and the app makes long.
//!
//! The kinds are elsewhere: sockets in `net`, what has a name in `fs` and `vfs`, pipes and message queues in `ipc`, files that
//! tell of events in `event`, terminals in `tty`. All answer with the error numbers of system calls.

mod attempt;
pub(crate) mod lock;
pub(crate) mod long_text;
pub(crate) mod notify;
mod open_file;
pub(crate) mod poll_source;
pub(crate) mod ready_list;
pub(crate) mod table;

use alloc::sync::Arc;
use core::any::Any;

use bitflags::bitflags;
use linux_raw_sys::general as raw;

pub(crate) use attempt::{AttemptError, complete};
use lock::FileLocks;
pub(crate) use open_file::{FileFlags, OpenFile};
pub(crate) use poll_source::PollSource;
pub(crate) use table::{get, get_any, install};

use crate::abi::{Errno, SysResult};
use crate::mem::space::PageSource;
use crate::mem::user::UserSlice;
use crate::process::signal;
use crate::task::signal::SignalInfo;

/// The largest file (Linux: `MAX_LFS_FILESIZE`).
pub(crate) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

bitflags! {
    /// What a file is ready for; the bits are epoll's (and poll's) own.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Readiness: u32 {
        /// Reading would not block.
        const IN = raw::EPOLLIN;
        /// Something out of the ordinary, such as urgent data.
        const PRI = raw::EPOLLPRI;
        /// Writing would not block.
        const OUT = raw::EPOLLOUT;
        /// An error is pending; always reported.
        const ERR = raw::EPOLLERR;
        /// Both directions are closed; always reported.
        const HUP = raw::EPOLLHUP;
        /// The same as `IN`.
        const RDNORM = raw::EPOLLRDNORM;
        /// The same as `OUT`.
        const WRNORM = raw::EPOLLWRNORM;
        /// The same, of sockets other than TCP's.
        const WRBAND = raw::EPOLLWRBAND;
        /// The peer will send no more.
        const RDHUP = raw::EPOLLRDHUP;
    }
}

impl Readiness {
    /// Ready to read, under both names.
    pub(crate) const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Ready to write, under both names.
    pub(crate) const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// The same of sockets other than TCP's, which have a third name for it.
    pub(crate) const SOCKET_WRITABLE: Self = Self::WRITABLE.union(Self::WRBAND);
    /// Reported whether asked for or not.
    pub(crate) const ALWAYS: Self = Self::ERR.union(Self::HUP);
}

/// Whether a call may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitMode {
    /// Until there is something to do.
    MayBlock,
    /// `O_NONBLOCK`, `MSG_DONTWAIT`: answer `EAGAIN` instead.
    NonBlocking,
}

/// What is in a file at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Bytes that were written (`SEEK_DATA`).
    Data,
    /// Zeros that take no memory (`SEEK_HOLE`).
    Hole,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    /// Which filesystem.
    pub device: u64,
    /// Which file of it.
    pub inode: u64,
    /// Type (`S_IFMT`) and permissions.
    pub mode: u32,
    /// Names.
    pub links: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes of memory that they take.
    pub occupied_bytes: u64,
    /// Which device it is, for device nodes.
    pub special_device: u64,
    /// Last read, in nanoseconds since 1970 as all times here; before it they are negative.
    pub accessed_ns: i128,
    /// Last change of the content.
    pub modified_ns: i128,
    /// Last change of the node.
    pub changed_ns: i128,
    /// When it was made.
    pub born_ns: i128,
}

impl Metadata {
    /// For files without a name: a type, read and write for the owner.
    pub(crate) const fn anonymous(file_type: u32, inode: u64) -> Self {
        Self {
            device: 0,
            inode,
            mode: file_type | 0o600,
            links: 1,
            user: 0,
            group: 0,
            size: 0,
            occupied_bytes: 0,
            special_device: 0,
            accessed_ns: 0,
            modified_ns: 0,
            changed_ns: 0,
            born_ns: 0,
        }
    }
}

/// What a path leads to: a node of the tree in memory, or an inode.
pub(crate) trait NamedNode: Any {
    /// Tells who watches it, or the directory in which it was found, what was done with it ([`notify`]).
    fn tell_watches(&self, events: u32);
}

/// One kind of file. Every default is the refusal that Linux gives.
///
/// Reads and writes copy straight from and to the app's memory. They may do so while they hold
/// their own lock, in an attempt that misses pages rather than wait for them ([`AttemptError`]).
pub(crate) trait File: Any + Send + Sync {
    /// Reads from a stream. At its end the answer is 0.
    fn read(&self, _into: UserSlice, _mode: WaitMode) -> SysResult {
        Err(Errno::EINVAL)
    }

    /// Writes to a stream; may take less than all.
    fn write(&self, _from: UserSlice, _mode: WaitMode) -> SysResult {
        Err(Errno::EINVAL)
    }

    /// Reads into several buffers. For files that know packets, all of them are one packet.
    fn read_vectored(&self, into: &[UserSlice], mode: WaitMode) -> SysResult {
        each_buffer(into, mode, |buffer, mode| self.read(buffer, mode))
    }

    /// Writes from several buffers; see [`Self::read_vectored`].
    fn write_vectored(&self, from: &[UserSlice], mode: WaitMode) -> SysResult {
        each_buffer(from, mode, |buffer, mode| self.write(buffer, mode))
    }

    /// True if the file has an offset: then `read_at` and `write_at` serve `read` and `write` too.
    fn is_seekable(&self) -> bool {
        false
    }

    /// True if `read_at` and `write_at` mean something: devices take an offset, and do not look at it.
    fn takes_offset(&self) -> bool {
        self.is_seekable()
    }

    /// True if lseek(2) is accepted, and leads nowhere: for counters, devices and the like.
    fn ignores_seek(&self) -> bool {
        false
    }

    /// Reads at a place.
    fn read_at(&self, _offset: u64, _into: UserSlice) -> SysResult {
        Err(Errno::ESPIPE)
    }

    /// Writes at a place.
    fn write_at(&self, _offset: u64, _from: UserSlice) -> SysResult {
        Err(Errno::ESPIPE)
    }

    /// What it is ready for now. Files that never block are always ready for both.
    fn readiness(&self) -> Readiness {
        Readiness::READABLE | Readiness::WRITABLE
    }

    /// The same where only `wanted` matters, which may be cheaper to tell.
    fn readiness_for(&self, _wanted: Readiness) -> Readiness {
        self.readiness()
    }

    /// Who to tell when the readiness changes. `None` makes `epoll_ctl` answer `EPERM`.
    fn poll_source(&self) -> Option<&PollSource> {
        None
    }

    /// What `fstat` tells.
    fn metadata(&self) -> Metadata;

    /// Device controls, but for `FIONBIO` and `FIOCLEX`, which are done before.
    fn ioctl(&self, _request: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }

    /// Writes behind the end (`O_APPEND`); answers where the end is then, and how much was written.
    fn append(&self, from: UserSlice) -> Result<(u64, usize), Errno> {
        let end = self.metadata().size;
        let count = self.write_at(end, from)?;
        Ok((end + count as u64, count))
    }

    /// The first place from `offset` on with such content (`SEEK_DATA`, `SEEK_HOLE`). By default all
    /// of a file is data.
    fn find_content(&self, offset: u64, wanted: Content) -> Option<u64> {
        let size = self.metadata().size;
        (offset < size).then_some(if wanted == Content::Data { offset } else { size })
    }

    /// The locks on the file, if it can be locked.
    fn locks(&self) -> Option<&FileLocks> {
        None
    }

    /// True if what is done with it may have to wait for a disk.
    fn is_on_disk(&self) -> bool {
        false
    }

    /// True if a range can be read without waiting for a disk.
    fn has_in_memory(&self, _offset: u64, _len: usize) -> bool {
        true
    }

    /// True for a regular file.
    fn is_regular(&self) -> bool {
        false
    }

    /// The largest offset to which one can seek.
    fn max_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Makes it shorter or longer (ftruncate(2)).
    fn resize(&self, _size: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Makes sure that writes to a range will find room (fallocate(2)).
    fn allocate(&self, _offset: u64, _len: u64, _keep_size: bool) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// Sets a range to zeros, giving back what it takes (`FALLOC_FL_PUNCH_HOLE`).
    fn punch(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// Returns when what was written survives a power cut: at once, where nothing does.
    fn sync(&self, _what: unikernel_vfs::Sync) -> Result<(), Errno> {
        if self.is_seekable() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// What a mapping shows.
    fn page_source(&self) -> Result<Arc<dyn PageSource>, Errno> {
        Err(Errno::ENODEV)
    }

    /// True if it can be sent through a socket (`SCM_RIGHTS`).
    fn may_be_sent(&self) -> bool {
        true
    }

    /// What `/proc/self/fd/N` opens: an opening of its own of the same object. [`Self::close`] is called for each, so it may
    /// not be this very file. Sockets and what has no name anywhere cannot be opened, as on Linux; files with a node or
    /// an inode are opened by that.
    fn reopen(&self, _flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        Err(Errno::ENXIO)
    }

    /// What a path led to when it was opened, for files that are opened by one.
    fn node(&self) -> Option<&dyn NamedNode> {
        None
    }

    /// The last descriptor is gone. Called once; other threads may still be inside a call.
    fn close(&self) {}

    /// Adds the lines of its own to `/proc/self/fdinfo`.
    fn describe(&self, _text: &mut alloc::string::String) {}

    /// What `/proc/self/fd` shows.
    fn name(&self) -> alloc::string::String;
}

/// Runs a transfer over several buffers, as `readv` does over a stream: it blocks for the first
/// bytes only, and ends at the first short count.
pub(crate) fn each_buffer(
    buffers: &[UserSlice],
    mode: WaitMode,
    mut transfer: impl FnMut(UserSlice, WaitMode) -> SysResult,
) -> SysResult {
    let (mut total, mut mode) = (0, mode);
    for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
        match transfer(*buffer, mode) {
            Ok(count) => {
                total += count;
                if count < buffer.len() {
                    break;
                }
            }
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
        mode = WaitMode::NonBlocking;
    }
    Ok(total)
}

/// Runs a transfer over several buffers, one behind the other in the file.
pub(crate) fn at_each(
    buffers: &[UserSlice],
    offset: u64,
    mut transfer: impl FnMut(u64, UserSlice) -> SysResult,
) -> SysResult {
    let mut total = 0;
    for buffer in buffers {
        match transfer(offset.saturating_add(total as u64), *buffer) {
            Ok(count) if count < buffer.len() => return Ok(total + count),
            Ok(count) => total += count,
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// The peer does not read any more: raises `SIGPIPE` in the calling thread (which most apps
/// ignore) and names the error to answer.
pub(crate) fn broken_pipe() -> Errno {
    let info = SignalInfo::from_app(raw::SIGPIPE, raw::SI_USER as i32);
    signal::send(&crate::task::current(), info);
    Errno::EPIPE
}

/// A file as a newly opened one.
pub(crate) fn open(file: Arc<dyn File>, flags: FileFlags) -> Arc<OpenFile> {
    Arc::new(OpenFile::new(file, flags))
}
