//! Bytes from one open file to another without passing through the app (sendfile(2),
//! copy_file_range(2)). The kernel passes them through a buffer of its own.

use core::cell::Cell;

use linux_raw_sys::general::{S_IFCHR, S_IFDIR, S_IFMT, S_IFREG};

use crate::abi::{Errno, SysResult};
use crate::file::{self, FileFlags, OpenFile, WaitMode};
use crate::ipc::pipe;
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice, with_kernel_buffer};
use crate::ops::buffers::MAX_TRANSFER_BYTES;
use crate::process::file_size;
use crate::task::{self, scheduler};

/// Bytes moved at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A place in a file: an offset that the app gives, or the file's own.
enum Place {
    Given(u64),
    Own,
}

impl Place {
    fn read(pointer: UserPtr<i64>) -> Result<Self, Errno> {
        let Some(pointer) = pointer.non_null() else { return Ok(Self::Own) };
        u64::try_from(pointer.read()?).map(Self::Given).map_err(|_| Errno::EINVAL)
    }

    fn resolve(&self, opened: &OpenFile) -> u64 {
        match self {
            Self::Given(offset) => *offset,
            Self::Own => opened.with_offset(|offset| *offset),
        }
    }

    /// Tells where the transfer ended, to whoever keeps the offset.
    fn finish(pointer: UserPtr<i64>, opened: &OpenFile, end: u64) -> Result<(), Errno> {
        match pointer.non_null() {
            Some(pointer) => pointer.write(end as i64)?,
            None => opened.with_offset(|offset| *offset = end),
        }
        Ok(())
    }
}

/// Moves up to `count` bytes through a buffer: `read` fills a part of it, `write` takes what it can of
/// that and answers how much. Ends early where the source ends or the target takes no more.
fn pump(
    count: usize,
    mut read: impl FnMut(UserSlice) -> SysResult,
    mut write: impl FnMut(UserSlice) -> SysResult,
) -> SysResult {
    let mut bytes = room::filled(0, CHUNK_BYTES.min(count))?;
    let mut moved = 0;
    while moved < count {
        let outcome = with_kernel_buffer(&mut bytes, |chunk| {
            let chunk = chunk.truncate(count - moved);
            match read(chunk)? {
                0 => Ok(0),
                len => write(chunk.truncate(len)),
            }
        });
        match outcome {
            Ok(0) => break,
            Ok(taken) => {
                moved += taken;
                scheduler::breathe();
                // As on Linux, a signal does not wait for the rest.
                if task::has_signal() {
                    break;
                }
            }
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// sendfile(2): from what has an offset to anything. A pipe is filled once, as splice(2) does; other targets are waited for
/// until all is written, unless their descriptor says otherwise.
pub(crate) fn sys_sendfile(out_fd: i32, in_fd: i32, offset: UserPtr<i64>, count: usize) -> SysResult {
    let (to, from) = (file::get(out_fd)?, file::get(in_fd)?);
    if !to.flags().can_write() || !from.flags().can_read() {
        return Err(Errno::EBADF);
    }
    let given = Place::read(offset)?;
    if !from.file.takes_offset() {
        return Err(if offset.is_null() { Errno::EINVAL } else { Errno::ESPIPE });
    }
    let kind = from.file.metadata().mode & S_IFMT;
    let start = given.resolve(&from);
    let is_beyond = start.checked_add(count as u64).is_none_or(|end| end > i64::MAX as u64);
    if !matches!(kind, S_IFREG | S_IFCHR) || is_beyond || to.flags().contains(FileFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    if start >= from.file.max_bytes() && count > 0 {
        return Err(Errno::EOVERFLOW);
    }
    let place = Cell::new(start);
    let first_mode = Cell::new(to.wait_mode());
    let is_pipe = pipe::is_pipe(&to);
    let outcome = pump(
        count.min(MAX_TRANSFER_BYTES),
        |chunk| from.read_at(place.get(), chunk),
        |chunk| {
            let taken = to.write_with(chunk, first_mode.get())?;
            place.set(place.get() + taken as u64);
            if is_pipe {
                first_mode.set(WaitMode::NonBlocking);
            }
            Ok(taken)
        },
    );
    Place::finish(offset, &from, place.get())?;
    outcome
}

/// `EISDIR` or `EINVAL` for what is no regular file.
fn check_kind(opened: &OpenFile) -> Result<(), Errno> {
    match opened.file.metadata().mode & S_IFMT {
        S_IFREG => Ok(()),
        S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

/// Where a copy begins. That may be a lie: it is checked when more is known.
fn start_of(opened: &OpenFile, offset: UserPtr<i64>) -> Result<u64, Errno> {
    match offset.non_null() {
        Some(offset) => Ok(offset.read()? as u64),
        None => Ok(Place::Own.resolve(opened)),
    }
}

/// copy_file_range(2): between regular files of one filesystem.
pub(crate) fn sys_copy_file_range(
    in_fd: i32,
    in_offset: UserPtr<i64>,
    out_fd: i32,
    out_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> SysResult {
    let (from, to) = (file::get(in_fd)?, file::get(out_fd)?);
    let (start, target) = (start_of(&from, in_offset)?, start_of(&to, out_offset)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    check_kind(&from)?;
    check_kind(&to)?;
    if !from.flags().can_read() || !to.flags().can_write() || to.flags().contains(FileFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let count = copied_bytes((&from, start), (&to, target), count as u64)?;
    let (read_at, write_at) = (Cell::new(start), Cell::new(target));
    let outcome = pump(
        count,
        |chunk| from.read_at(read_at.get(), chunk),
        |chunk| {
            let taken = to.write_at(write_at.get(), chunk)?;
            read_at.set(read_at.get() + taken as u64);
            write_at.set(write_at.get() + taken as u64);
            Ok(taken)
        },
    );
    Place::finish(in_offset, &from, read_at.get())?;
    Place::finish(out_offset, &to, write_at.get())?;
    outcome
}

/// How many bytes there are to copy, no more than a call moves.
fn copied_bytes(
    (from, start): (&OpenFile, u64),
    (to, target): (&OpenFile, u64),
    count: u64,
) -> Result<usize, Errno> {
    let (source, goal) = (from.file.metadata(), to.file.metadata());
    if source.device != goal.device {
        return Err(Errno::EXDEV);
    }
    if start.checked_add(count).is_none() || target.checked_add(count).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if start > i64::MAX as u64 || target > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let count = count.min(source.size.saturating_sub(start));
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_TRANSFER_BYTES);
    // Cut here, for the whole call: where a piece begins at the limit, nothing is wrong. As on Linux, no bytes cannot be
    // copied to there either.
    let count = file_size::room_in_file(target, count.max(1), to.file.max_bytes())?.min(count);
    if source.inode == goal.inode && target + count as u64 > start && target < start + count as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(count)
}
