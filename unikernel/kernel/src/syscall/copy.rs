//! Bytes from one open file to another without passing through the app (sendfile(2),
//! copy_file_range(2)). The kernel passes them through a buffer of its own.

use core::cell::Cell;

use linux_raw_sys::general::{S_IFDIR, S_IFMT, S_IFREG};

use super::io::MAX_TRANSFER_BYTES;
use super::{Errno, SysResult};
use crate::file::{self, FileFlags, OpenFile, WaitMode};
use crate::mem::room;
use crate::mem::user::{UserPtr, UserSlice};

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

/// `EINVAL` for what is no regular file.
fn check_regular(opened: &OpenFile) -> Result<(), Errno> {
    if opened.file.is_regular() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Moves up to `count` bytes through a buffer: `read` fills a part of it, `write` takes what it can of
/// that and answers how much. Ends early where the source ends or the target is full.
fn pump(
    count: usize,
    mut read: impl FnMut(UserSlice) -> SysResult,
    mut write: impl FnMut(UserSlice, WaitMode) -> SysResult,
    first_mode: WaitMode,
) -> SysResult {
    let mut buffer = room::filled(0, CHUNK_BYTES.min(count))?;
    let (mut moved, mut mode) = (0, first_mode);
    while moved < count {
        // SAFETY: the slice is used in this round only, and the buffer by nobody else.
        let chunk = unsafe { UserSlice::of_kernel(&mut buffer) }.truncate(count - moved);
        let len = read(chunk)?;
        if len == 0 {
            break;
        }
        match write(chunk.truncate(len), mode) {
            Ok(taken) => {
                moved += taken;
                if taken < len {
                    break;
                }
            }
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
        // Only the first bytes are waited for.
        mode = WaitMode::NonBlocking;
    }
    Ok(moved)
}

/// sendfile(2): from a regular file to anything.
pub fn sys_sendfile(out_fd: i32, in_fd: i32, offset: UserPtr<i64>, count: usize) -> SysResult {
    let (to, from) = (file::get(out_fd)?, file::get(in_fd)?);
    if !to.flags().can_write() || !from.flags().can_read() {
        return Err(Errno::EBADF);
    }
    check_regular(&from)?;
    if count > isize::MAX as usize || to.flags().contains(FileFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let place = Cell::new(Place::read(offset)?.resolve(&from));
    let outcome = pump(
        count.min(MAX_TRANSFER_BYTES),
        |chunk| from.read_at(place.get(), chunk),
        |chunk, mode| {
            let taken = to.write_with(chunk, mode)?;
            place.set(place.get() + taken as u64);
            Ok(taken)
        },
        to.wait_mode(),
    );
    Place::finish(offset, &from, place.get())?;
    outcome
}

/// copy_file_range(2): between regular files.
pub fn sys_copy_file_range(
    in_fd: i32,
    in_offset: UserPtr<i64>,
    out_fd: i32,
    out_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> SysResult {
    let (from, to) = (file::get(in_fd)?, file::get(out_fd)?);
    for opened in [&from, &to] {
        match opened.file.metadata().mode & S_IFMT {
            S_IFREG => {}
            S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !from.flags().can_read() || !to.flags().can_write() || to.flags().contains(FileFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    check_regular(&from)?;
    check_regular(&to)?;
    let count = count.min(MAX_TRANSFER_BYTES);
    let (start, target_start) =
        (Place::read(in_offset)?.resolve(&from), Place::read(out_offset)?.resolve(&to));
    let overlaps = start.abs_diff(target_start) < count as u64;
    let (one, other) = (from.file.metadata(), to.file.metadata());
    if (one.device, one.inode) == (other.device, other.inode) && overlaps {
        return Err(Errno::EINVAL);
    }
    let (read_at, write_at) = (Cell::new(start), Cell::new(target_start));
    let outcome = pump(
        count,
        |chunk| from.read_at(read_at.get(), chunk),
        |chunk, _| {
            let taken = to.write_at(write_at.get(), chunk)?;
            read_at.set(read_at.get() + taken as u64);
            write_at.set(write_at.get() + taken as u64);
            Ok(taken)
        },
        WaitMode::MayBlock,
    );
    Place::finish(in_offset, &from, read_at.get())?;
    Place::finish(out_offset, &to, write_at.get())?;
    outcome
}
