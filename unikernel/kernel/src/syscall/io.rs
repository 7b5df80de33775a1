//! Bytes in and out of open files (read(2), write(2), readv(2), pread(2), lseek(2)).

use linux_raw_sys::general::{
    RWF_DSYNC, RWF_HIPRI, RWF_NOWAIT, RWF_SYNC, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET,
};

use crate::abi::{Errno, SysResult};
use crate::file::Content;
use crate::file::{self, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::buffers::{RawBuffer, buffer, read_buffers};

/// read(2).
pub(crate) fn sys_read(fd: i32, address: u64, len: usize) -> SysResult {
    file::get(fd)?.read(buffer(address, len)?)
}

/// write(2).
pub(crate) fn sys_write(fd: i32, address: u64, len: usize) -> SysResult {
    file::get(fd)?.write(buffer(address, len)?)
}

/// readv(2).
pub(crate) fn sys_readv(fd: i32, array: UserPtr<RawBuffer>, count: usize) -> SysResult {
    let opened = file::get(fd)?;
    opened.read_vectored(&read_buffers(array, count)?)
}

/// writev(2).
pub(crate) fn sys_writev(fd: i32, array: UserPtr<RawBuffer>, count: usize) -> SysResult {
    let opened = file::get(fd)?;
    opened.write_vectored(&read_buffers(array, count)?)
}

fn place(offset: i64) -> Result<u64, Errno> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// pread64(2).
pub(crate) fn sys_pread64(fd: i32, address: u64, len: usize, offset: i64) -> SysResult {
    let offset = place(offset)?;
    file::get(fd)?.read_at(offset, buffer(address, len)?)
}

/// pwrite64(2).
pub(crate) fn sys_pwrite64(fd: i32, address: u64, len: usize, offset: i64) -> SysResult {
    let offset = place(offset)?;
    file::get(fd)?.write_at(offset, buffer(address, len)?)
}

/// preadv(2). The offset's upper half is for machines with smaller registers.
pub(crate) fn sys_preadv(fd: i32, array: UserPtr<RawBuffer>, count: usize, offset: i64) -> SysResult {
    let offset = place(offset)?;
    let opened = file::get(fd)?;
    let buffers = read_buffers(array, count)?;
    opened.check_seekable()?;
    if buffers.iter().all(UserSlice::is_empty) {
        return opened.read_vectored(&buffers);
    }
    file::at_each(&buffers, offset, |offset, buffer| opened.read_at(offset, buffer))
}

/// pwritev(2).
pub(crate) fn sys_pwritev(fd: i32, array: UserPtr<RawBuffer>, count: usize, offset: i64) -> SysResult {
    let offset = place(offset)?;
    let opened = file::get(fd)?;
    let buffers = read_buffers(array, count)?;
    opened.check_seekable()?;
    if buffers.iter().all(UserSlice::is_empty) {
        return opened.write_vectored(&buffers);
    }
    opened.write_vectored_at(offset, &buffers)
}

/// preadv2(2). An offset of -1 stands for the file's own.
pub(crate) fn sys_preadv2(
    fd: i32,
    array: UserPtr<RawBuffer>,
    count: usize,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> SysResult {
    let opened = file::get(fd)?;
    let buffers = read_buffers(array, count)?;
    let is_empty = buffers.iter().all(UserSlice::is_empty);
    if flags & !(RWF_HIPRI | RWF_NOWAIT) != 0 && !is_empty {
        return Err(Errno::EOPNOTSUPP);
    }
    if offset != -1 {
        return sys_preadv(fd, array, count, offset);
    }
    let mode = if flags & RWF_NOWAIT != 0 { WaitMode::NonBlocking } else { opened.wait_mode() };
    opened.read_vectored_with(&buffers, mode)
}

/// pwritev2(2). An offset of -1 stands for the file's own.
pub(crate) fn sys_pwritev2(
    fd: i32,
    array: UserPtr<RawBuffer>,
    count: usize,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> SysResult {
    let opened = file::get(fd)?;
    let buffers = read_buffers(array, count)?;
    let is_empty = buffers.iter().all(UserSlice::is_empty);
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC) != 0 && !is_empty {
        return Err(Errno::EOPNOTSUPP);
    }
    let outcome = match offset {
        -1 => opened.write_vectored(&buffers),
        offset => sys_pwritev(fd, array, count, offset),
    }?;
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 {
        super::descriptor::sys_fsync(fd)?;
    }
    Ok(outcome)
}

/// lseek(2). Holes (`SEEK_DATA`, `SEEK_HOLE`) are what the file says they are: files in memory and on disks have some, others are data up
/// to their ends.
pub(crate) fn sys_lseek(fd: i32, offset: i64, whence: u32) -> SysResult {
    let opened = file::get(fd)?;
    match whence {
        SEEK_SET => opened.seek(|_, _| u64::try_from(offset).ok()),
        SEEK_CUR => opened.seek(|at, _| at.checked_add_signed(offset).filter(|&to| to <= i64::MAX as u64)),
        SEEK_END => {
            opened.seek(|_, size| size.checked_add_signed(offset).filter(|&to| to <= i64::MAX as u64))
        }
        SEEK_DATA | SEEK_HOLE => {
            let wanted = if whence == SEEK_DATA { Content::Data } else { Content::Hole };
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let found = opened.file.find_content(from, wanted).ok_or(Errno::ENXIO)?;
            opened.seek(|_, _| Some(found))
        }
        _ => Err(Errno::EINVAL),
    }
}
