//! splice(2), tee(2), vmsplice(2).

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::ipc::pipe::splice::side_of;
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::buffers::{RawBuffer, read_buffers};
use crate::ops::splice::{Transfer, check_flags, mode_of};

/// splice(2).
pub(crate) fn sys_splice(
    in_fd: i32,
    in_offset: UserPtr<i64>,
    out_fd: i32,
    out_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    check_flags(flags)?;
    let (from, to) = (file::get(in_fd)?, file::get(out_fd)?);
    if side_of(&from).is_some() && !in_offset.is_null() || side_of(&to).is_some() && !out_offset.is_null() {
        return Err(Errno::ESPIPE);
    }
    // Offsets that cannot be read are told of before anything else that may be wrong.
    let read = |offset: UserPtr<i64>| offset.non_null().map(|offset| offset.read()).transpose();
    let (start_in, start_out) = (read(in_offset)?, read(out_offset)?);
    let transfer = Transfer {
        from: &from,
        to: &to,
        in_offset: start_in,
        out_offset: start_out,
        len,
        flags,
        never_waits: false,
    };
    let moved = transfer.splice()?;
    for (place, start) in [(in_offset, start_in), (out_offset, start_out)] {
        if let Some(start) = start {
            place.write(start + moved as i64)?;
        }
    }
    Ok(moved)
}

/// tee(2): the bytes stay where they were, too.
pub(crate) fn sys_tee(in_fd: i32, out_fd: i32, len: usize, flags: u32) -> SysResult {
    check_flags(flags)?;
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (file::get(in_fd)?, file::get(out_fd)?);
    let (in_offset, out_offset) = (None, None);
    Transfer { from: &from, to: &to, in_offset, out_offset, len, flags, never_waits: false }.tee()
}

/// vmsplice(2): the app's memory is copied when it is given, so that it may be changed afterwards.
pub(crate) fn sys_vmsplice(fd: i32, array: UserPtr<RawBuffer>, count: usize, flags: u32) -> SysResult {
    check_flags(flags)?;
    let opened = file::get(fd)?;
    if !opened.flags().can_read() && !opened.flags().can_write() {
        return Err(Errno::EBADF);
    }
    let buffers = read_buffers(array, count)?;
    if buffers.iter().all(UserSlice::is_empty) {
        return Ok(0);
    }
    let pipe = side_of(&opened).ok_or(Errno::EBADF)?;
    // What the descriptor says of waiting does not count (so Linux).
    let mode = mode_of(flags, &[]);
    if opened.flags().can_write() {
        file::each_buffer(&buffers, mode, |buffer, mode| pipe.fill_from(buffer, mode))
    } else {
        opened.read_vectored_with(&buffers, mode)
    }
}
