//! Operations on an open file that change what it holds, or save it.

use linux_raw_sys::general::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, IN_MODIFY};
use unikernel_vfs::Sync;

use crate::abi::{Errno, SysResult};
use crate::file::OpenFile;
use crate::file::notify;

/// fsync(2), fdatasync(2).
pub(crate) fn sync(opened: &OpenFile, what: Sync) -> SysResult {
    opened.file.sync(what)?;
    Ok(0)
}

/// A length as ftruncate(2) takes it.
pub(crate) fn length_of(len: i64) -> Result<u64, Errno> {
    u64::try_from(len).map_err(|_| Errno::EINVAL)
}

/// ftruncate(2).
pub(crate) fn truncate(opened: &OpenFile, len: u64) -> SysResult {
    if !opened.flags().can_write() {
        return Err(Errno::EINVAL);
    }
    if opened.keeps_length() {
        return Err(Errno::EACCES);
    }
    opened.file.resize(len)?;
    notify::used(&*opened.file, IN_MODIFY);
    Ok(0)
}

/// fallocate(2).
pub(crate) fn allocate(opened: &OpenFile, mode: u32, offset: i64, len: i64) -> SysResult {
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if !opened.flags().can_write() {
        return Err(Errno::EBADF);
    }
    let file = &opened.file;
    let keeps_size = mode & FALLOC_FL_KEEP_SIZE != 0;
    offset.checked_add(len).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    match mode & !FALLOC_FL_KEEP_SIZE {
        0 => file.allocate(offset, len, keeps_size)?,
        FALLOC_FL_PUNCH_HOLE if keeps_size => file.punch(offset, len)?,
        FALLOC_FL_ZERO_RANGE => {
            file.punch(offset, len)?;
            file.allocate(offset, len, keeps_size)?;
        }
        _ => return Err(Errno::EOPNOTSUPP),
    }
    notify::used(&**file, IN_MODIFY);
    Ok(0)
}
