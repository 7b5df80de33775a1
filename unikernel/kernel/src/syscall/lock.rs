//! Locks on files (flock(2), and the part of fcntl(2) that locks ranges).

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_fs::{HeldLock, LockKind, Owner};
use unikernel_hal::user_abi_struct;

use crate::abi::{Errno, SysResult};
use crate::file::lock::{Family, PROCESS};
use crate::file::{self, OpenFile, WaitMode};
use crate::kmem::room;
use crate::mem::user::UserPtr;
use crate::task::process::PROCESS_ID;

/// Asks for room for another lock.
fn ask() -> Result<(), Errno> {
    room::ask().map_err(|_| Errno::ENOLCK)
}

/// The owner that an open file description is.
fn owner_of(opened: &Arc<OpenFile>) -> Owner {
    Arc::as_ptr(opened).addr() as Owner
}

/// flock(2). What is not a regular file can be locked by everybody at once.
pub(crate) fn sys_flock(fd: i32, operation: u32) -> SysResult {
    // Mandatory locks are gone from Linux, which accepts the words for them.
    const LOCK_MAND: u32 = 32;
    if operation & LOCK_MAND != 0 {
        return Ok(0);
    }
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(LockKind::Shared),
        LOCK_EX => Some(LockKind::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let opened = file::get(fd)?;
    let Some(locks) = opened.file.locks() else { return Ok(0) };
    let owner = owner_of(&opened);
    let mode = if operation & LOCK_NB != 0 { WaitMode::NonBlocking } else { WaitMode::MayBlock };
    match kind {
        Some(kind) => {
            ask()?;
            locks.lock(Family::Whole, HeldLock { owner, start: 0, end: u64::MAX, kind }, mode)?;
        }
        None => locks.unlock(Family::Whole, owner, 0, u64::MAX),
    }
    Ok(0)
}

/// One past the highest offset: where a lock "to the end" ends.
const FILE_END: u64 = 1 << 63;

/// `struct flock`, with the gaps that are in it: what the app has in them comes back, as on Linux.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Flock {
    l_type: i16,
    l_whence: i16,
    gap: u32,
    l_start: i64,
    l_len: i64,
    l_pid: i32,
    end: u32,
}
user_abi_struct!(Flock { l_type, l_whence, gap, l_start, l_len, l_pid, end });
const _: () = assert!(size_of::<Flock>() == size_of::<flock>());

/// A `struct flock`, understood; `None` for the kind is "unlock".
struct Request {
    kind: Option<LockKind>,
    start: u64,
    end: u64,
}

/// Reads a request; offsets may count from the file's offset or end (fcntl(2)).
fn read_request(opened: &OpenFile, raw: &Flock) -> Result<Request, Errno> {
    let base = match raw.l_whence as u32 {
        SEEK_SET => 0,
        SEEK_CUR => opened.with_offset(|offset| *offset),
        SEEK_END => opened.file.metadata().size,
        _ => return Err(Errno::EINVAL),
    };
    let first = i64::try_from(base).ok().and_then(|base| base.checked_add(raw.l_start));
    let first = first.ok_or(Errno::EOVERFLOW)?;
    // A negative length means the bytes before.
    let (start, end) = match raw.l_len {
        0 => (first, FILE_END),
        // The last byte may be the last that an offset can name.
        len if len > 0 => {
            (first, first.checked_add(len - 1).map(|last| last as u64 + 1).ok_or(Errno::EOVERFLOW)?)
        }
        len => (first.checked_add(len).ok_or(Errno::EINVAL)?, first as u64),
    };
    let kind = match raw.l_type as u32 {
        F_RDLCK => Some(LockKind::Shared),
        F_WRLCK => Some(LockKind::Exclusive),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    Ok(Request { kind, start, end })
}

/// The locking commands of fcntl(2).
pub(crate) fn control(opened: &Arc<OpenFile>, command: u32, argument: UserPtr<Flock>) -> SysResult {
    let raw = argument.read()?;
    let is_ofd = matches!(command, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    if is_ofd && raw.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let request = read_request(opened, &raw)?;
    let owner = if is_ofd { owner_of(opened) } else { PROCESS };
    match command {
        F_GETLK | F_OFD_GETLK => test(opened, owner, &request, raw, argument),
        _ => {
            let waits = matches!(command, F_SETLKW | F_OFD_SETLKW);
            let mode = if waits { WaitMode::MayBlock } else { WaitMode::NonBlocking };
            set(opened, owner, &request, mode)
        }
    }
}

fn set(opened: &OpenFile, owner: Owner, request: &Request, mode: WaitMode) -> SysResult {
    let (flags, &Request { kind, start, end }) = (opened.flags(), request);
    let may = match kind {
        Some(LockKind::Shared) => flags.can_read(),
        Some(LockKind::Exclusive) => flags.can_write(),
        None => true,
    };
    if !may {
        return Err(Errno::EBADF);
    }
    let Some(locks) = opened.file.locks() else { return Ok(0) };
    // Giving up a part may leave two locks of one.
    if kind.is_some() || (start, end) != (0, FILE_END) {
        ask()?;
    }
    match kind {
        Some(kind) => locks.lock(Family::Ranges, HeldLock { owner, start, end, kind }, mode)?,
        None => locks.unlock(Family::Ranges, owner, start, end),
    }
    Ok(0)
}

/// Says what would be in the way of a lock, if anything.
fn test(opened: &OpenFile, owner: Owner, request: &Request, raw: Flock, answer: UserPtr<Flock>) -> SysResult {
    let kind = request.kind.ok_or(Errno::EINVAL)?;
    let wanted = HeldLock { owner, start: request.start, end: request.end, kind };
    let conflict = opened.file.locks().and_then(|locks| locks.conflict(Family::Ranges, &wanted));
    let Some(held) = conflict else {
        answer.write(Flock { l_type: F_UNLCK as _, ..raw })?;
        return Ok(0);
    };
    let l_type = if held.kind == LockKind::Shared { F_RDLCK } else { F_WRLCK };
    let l_len = if held.end == FILE_END { 0 } else { (held.end - held.start) as i64 };
    // A lock of an open file description has no process (fcntl(2)).
    let l_pid = if held.owner == PROCESS { PROCESS_ID } else { -1 };
    let l_start = held.start as i64;
    answer.write(Flock { l_type: l_type as _, l_whence: SEEK_SET as _, l_start, l_len, l_pid, ..raw })?;
    Ok(0)
}
