//! Memory (mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), brk(2)).

use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::file::MAX_FILE_BYTES;
use crate::fs::permission;
use crate::kmem::frames;
use crate::kmem::layout::USER_END;
use crate::mem::space::{
    self, FutureLocks, Move, Placement, PopulateError, Protection, SharedMemory, Sharing, SpaceError,
};
use crate::mem::user::UserSlice;
use crate::ops::memory::check_range;
use crate::task::credentials::{self, Capability};
use crate::task::{limits, scheduler};
use crate::trust;
use crate::vfs::{flusher, table};

fn protection(bits: u32) -> Result<Protection, Errno> {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, bits & PROT_READ != 0);
    protection.set(Protection::WRITE, bits & PROT_WRITE != 0);
    protection.set(Protection::EXECUTE, bits & PROT_EXEC != 0);
    if space::is_allowed(protection) { Ok(protection) } else { Err(Errno::EACCES) }
}

/// Promises `len` bytes to the app, perhaps after room was made for them: a strict promise needs that.
fn promise<T>(len: u64, attempt: impl Fn() -> Result<T, SpaceError>) -> Result<T, SpaceError> {
    let make_room = || {
        let pages = (len / 4096) as usize;
        pages < frames::total_pages() && flusher::make_room(if space::is_strict() { pages } else { 1 })
    };
    match attempt() {
        Err(SpaceError::OutOfMemory) if make_room() => attempt(),
        outcome => outcome,
    }
}

/// Flags that every kind of mapping knows, so that `MAP_SHARED_VALIDATE` takes them (Linux: `LEGACY_MAP_MASK`).
const LEGACY: u32 = MAP_TYPE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_HUGE_MASK << MAP_HUGE_SHIFT
    | MAP_32BIT
    | MAP_ABOVE4G;

/// mmap(2).
pub(crate) fn sys_mmap(address: u64, len: u64, bits: u32, flags: u32, fd: i32, offset: u64) -> SysResult {
    let protection = protection(bits)?;
    if len == 0 || !offset.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    if len > USER_END {
        return Err(Errno::ENOMEM);
    }
    let placement = if flags & MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(address)
    } else if flags & MAP_FIXED != 0 {
        Placement::Fixed(address)
    } else if flags & MAP_32BIT != 0 && address == 0 {
        Placement::Low
    } else {
        Placement::Anywhere(address)
    };
    if flags & MAP_LOCKED != 0 {
        check_locked(0, len).map_err(|error| if error == Errno::ENOMEM { Errno::EAGAIN } else { error })?;
    }
    let is_anonymous = flags & MAP_ANONYMOUS != 0;
    check_kind(flags, is_anonymous)?;
    let start = match flags & MAP_TYPE {
        MAP_PRIVATE if is_anonymous => {
            let is_reserved = flags & MAP_NORESERVE == 0;
            promise(len, || space::map(placement, len, protection, is_reserved))? as usize
        }
        MAP_SHARED if is_anonymous => promise(len, || map_shared(placement, len, protection))? as usize,
        MAP_PRIVATE => map_file(placement, len, protection, Sharing::Private, fd, offset)?,
        MAP_SHARED => map_file(placement, len, protection, Sharing::Shared, fd, offset)?,
        // The bits of both: shared, and the caller wants to be told of flags that have no effect.
        MAP_SHARED_VALIDATE if !is_anonymous => {
            let opened = file::get(fd)?;
            if flags & !LEGACY != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            drop(opened);
            map_file(placement, len, protection, Sharing::Shared, fd, offset)?
        }
        _ => return Err(Errno::EINVAL),
    };
    if flags & MAP_LOCKED != 0 {
        // It is mapped; that it is not of a kind that can be locked is no reason to refuse it.
        let _ = space::set_locked(start as u64, len, true);
    }
    if flags & MAP_POPULATE != 0 && flags & MAP_NONBLOCK == 0 {
        // What cannot be faulted in now may be later, or the touch tells why not.
        let _ = space::populate_mapped(start as u64, len);
    } else {
        space::populate_new(start as u64..(start as u64).saturating_add(len));
    }
    Ok(start)
}

/// Refuses what no mapping here can be: made of huge pages that were set aside for that, or shared and growing.
fn check_kind(flags: u32, is_anonymous: bool) -> Result<(), Errno> {
    // The usual size, or the logarithm of one that the processor has: there are none of these pages.
    let is_page_size = matches!(flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK, 0 | 21 | 30);
    match flags & MAP_HUGETLB != 0 {
        true if is_anonymous && is_page_size => Err(Errno::ENOMEM),
        true => Err(Errno::EINVAL),
        false if is_anonymous && flags & MAP_TYPE == MAP_SHARED && flags & MAP_GROWSDOWN != 0 => {
            Err(Errno::EINVAL)
        }
        false => Ok(()),
    }
}

fn map_shared(placement: Placement, len: u64, protection: Protection) -> Result<u64, SpaceError> {
    let memory = SharedMemory::new(len)?;
    space::map_object(placement, len, protection, Protection::all(), memory, 0, Sharing::Shared)
}

fn map_file(
    placement: Placement,
    len: u64,
    protection: Protection,
    sharing: Sharing,
    fd: i32,
    offset: u64,
) -> SysResult {
    let opened = file::get(fd)?;
    let flags = opened.flags();
    // A private mapping's pages are the app's own, whatever the file may be used for.
    let mut allowed = Protection::all();
    allowed.set(Protection::WRITE, sharing == Sharing::Private || flags.can_write());
    if !flags.can_read() || !allowed.contains(protection) {
        return Err(Errno::EACCES);
    }
    if permission::has_no_programs(&*opened.file) {
        if protection.contains(Protection::EXECUTE) {
            return Err(Errno::EPERM);
        }
        allowed.remove(Protection::EXECUTE);
    }
    if offset.checked_add(len).is_none_or(|end| end > MAX_FILE_BYTES) {
        return Err(Errno::EOVERFLOW);
    }
    if trust::is_required() && !table::may_execute(opened.file.metadata().device) {
        // As on a mount with `noexec` (mmap(2)).
        allowed.remove(Protection::EXECUTE);
        if !allowed.contains(protection) {
            return Err(Errno::EPERM);
        }
    }
    let source = opened.file.page_source()?;
    let map = || space::map_object(placement, len, protection, allowed, source.clone(), offset, sharing);
    Ok(promise(len, map)? as usize)
}

/// munmap(2).
pub(crate) fn sys_munmap(address: u64, len: u64) -> SysResult {
    space::unmap(address, len)?;
    Ok(0)
}

/// mprotect(2).
pub(crate) fn sys_mprotect(address: u64, len: u64, bits: u64) -> SysResult {
    const KNOWN: u32 = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN | PROT_GROWSUP | PROT_SEM;
    let grows = bits as u32 & (PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP || !address.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    // Only here a length that wraps around is one with nothing mapped behind it.
    check_range(address, len).map_err(|_| Errno::ENOMEM)?;
    if bits & !u64::from(KNOWN) != 0 {
        return Err(Errno::EINVAL);
    }
    let protection = protection(bits as u32)?;
    if grows == PROT_GROWSUP || grows == PROT_GROWSDOWN && !space::grows_down(address) {
        space::check_mapped(address, 1)?;
        return Err(Errno::EINVAL);
    }
    promise(len, || space::protect(address, len, protection))?;
    Ok(0)
}

/// mremap(2).
pub(crate) fn sys_mremap(
    address: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_address: u64,
) -> SysResult {
    const MOVE: u64 = MREMAP_MAYMOVE as u64;
    const MOVE_TO: u64 = (MREMAP_MAYMOVE | MREMAP_FIXED) as u64;
    const MOVE_PAGES: u64 = (MREMAP_MAYMOVE | MREMAP_DONTUNMAP) as u64;
    const MOVE_PAGES_TO: u64 = MOVE_TO | MREMAP_DONTUNMAP as u64;
    let how = match flags {
        0 => Move::No,
        MOVE => Move::Anywhere,
        MOVE_TO => Move::To(new_address),
        MOVE_PAGES if new_address.is_multiple_of(4096) => Move::Pages(Placement::Anywhere(new_address)),
        MOVE_PAGES_TO => Move::Pages(Placement::Fixed(new_address)),
        _ => return Err(Errno::EINVAL),
    };
    if !address.is_multiple_of(4096) || new_len > USER_END {
        return Err(Errno::EINVAL);
    }
    if address >= USER_END {
        return Err(Errno::EFAULT);
    }
    match promise(new_len, || space::remap(address, old_len, new_len, how)) {
        Ok(start) => {
            // The rest is there, if it is to be.
            let grown = old_len.next_multiple_of(4096).min(new_len)..new_len;
            if old_len != 0 && !grown.is_empty() {
                space::populate_new(start + grown.start..start + grown.end);
            }
            Ok(start as usize)
        }
        Err(SpaceError::NotMapped) => Err(Errno::EFAULT),
        Err(error) => Err(error.into()),
    }
}

/// brk(2). The raw call answers the break, whether it moved or not.
pub(crate) fn sys_brk(address: u64) -> SysResult {
    let (old, new) = space::set_break(address);
    if new > old {
        space::populate_new(old.next_multiple_of(4096)..new.next_multiple_of(4096));
    }
    Ok(new as usize)
}

/// The pages around a range, for calls that take ranges of any bytes. As in Linux, a length that wraps around is none.
fn pages_around(address: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = address & !4095;
    let len = len.wrapping_add(address & 4095).wrapping_add(4095) & !4095;
    check_range(start, len)?;
    Ok((start, len))
}

/// mlock(2): there is no swap, so memory is as good as locked once it is there.
pub(crate) fn sys_mlock(address: u64, len: u64) -> SysResult {
    lock(address, len, true)
}

fn lock(address: u64, len: u64, is_populated: bool) -> SysResult {
    check_locked(address, len)?;
    let (start, len) = pages_around(address, len)?;
    if len == 0 {
        return Ok(0);
    }
    space::set_locked(start, len, true)?;
    if is_populated {
        space::populate_mapped(start, len).map_err(|error| match error {
            PopulateError::OutOfMemory => Errno::EAGAIN,
            PopulateError::Interrupted => Errno::EINTR,
            PopulateError::NotAllowed | PopulateError::NotMapped | PopulateError::NoPage => Errno::ENOMEM,
        })?;
    }
    Ok(0)
}

/// munlock(2).
pub(crate) fn sys_munlock(address: u64, len: u64) -> SysResult {
    let (start, len) = pages_around(address, len)?;
    if len != 0 {
        space::set_locked(start, len, false)?;
    }
    Ok(0)
}

/// Whether a call may lock a range (setrlimit(2), `RLIMIT_MEMLOCK`).
fn check_locked(address: u64, len: u64) -> Result<(), Errno> {
    match limits::soft(RLIMIT_MEMLOCK) {
        _ if credentials::has(Capability::IpcLock) => Ok(()),
        0 => Err(Errno::EPERM),
        limit => {
            let (more, held) = space::count_locked(address & !4095, len);
            if held.saturating_add(more) > limit { Err(Errno::ENOMEM) } else { Ok(()) }
        }
    }
}

/// mlock2(2).
pub(crate) fn sys_mlock2(address: u64, len: u64, flags: u32) -> SysResult {
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    lock(address, len, flags & MLOCK_ONFAULT == 0)
}

/// mlockall(2).
pub(crate) fn sys_mlockall(flags: u32) -> SysResult {
    let is_known = flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
    if !is_known || flags == 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let is_current = flags & MCL_CURRENT != 0;
    match limits::soft(RLIMIT_MEMLOCK) {
        _ if credentials::has(Capability::IpcLock) => {}
        0 => return Err(Errno::EPERM),
        limit if is_current && space::usage().mapped_pages * 4096 > limit => return Err(Errno::ENOMEM),
        _ => {}
    }
    // As in Linux, who does not ask for it unlocks what is to come.
    space::set_future_locks(match flags & (MCL_FUTURE | MCL_ONFAULT) {
        MCL_FUTURE => FutureLocks::Present,
        flags if flags & MCL_FUTURE != 0 => FutureLocks::OnTouch,
        _ => FutureLocks::No,
    });
    if is_current {
        space::set_all_locked(true);
        if flags & MCL_ONFAULT == 0 {
            space::populate_all();
        }
    }
    Ok(0)
}

/// munlockall(2).
pub(crate) fn sys_munlockall() -> SysResult {
    space::set_future_locks(FutureLocks::No);
    space::set_all_locked(false);
    Ok(0)
}

/// mincore(2).
pub(crate) fn sys_mincore(address: u64, len: u64, vector: u64) -> SysResult {
    if !address.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    check_range(address, len).map_err(|_| Errno::ENOMEM)?;
    let pages = len.div_ceil(4096);
    let vector = UserSlice::checked(vector, pages as usize)?;
    if pages > 0 {
        space::check_mapped(address, len)?;
    }
    let (mut done, mut part) = (0, [0; 512]);
    while done < pages {
        let part = &mut part[..(pages - done).min(512) as usize];
        space::note_present(address + done * 4096, part);
        vector.skip(done as usize).write(part)?;
        done += part.len() as u64;
        scheduler::breathe();
    }
    Ok(0)
}

/// msync(2). `MS_ASYNC` promises nothing: what is mapped is the file's own pages.
pub(crate) fn sys_msync(address: u64, len: u64, flags: u32) -> SysResult {
    if flags & !(MS_ASYNC | MS_SYNC | MS_INVALIDATE) != 0 || flags & MS_SYNC != 0 && flags & MS_ASYNC != 0 {
        return Err(Errno::EINVAL);
    }
    if !address.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    // As in Linux, a length that wraps around when it is rounded is none, and a range that does is not mapped.
    let len = len.wrapping_add(4095) & !4095;
    if address.checked_add(len).is_none_or(|end| end > USER_END && len > 0) {
        return Err(Errno::ENOMEM);
    }
    if len == 0 {
        return Ok(0);
    }
    if flags & MS_INVALIDATE != 0 && space::is_locked(address, len) {
        return Err(Errno::EBUSY);
    }
    // As in Linux, a hole is told of once the rest is done.
    if flags & MS_SYNC != 0 && !space::sync(address, len)? {
        return Err(Errno::EIO);
    }
    space::check_mapped(address, len)?;
    Ok(0)
}

/// membarrier(2). All memory is one process's, so what is private and what is global are the same.
pub(crate) fn sys_membarrier(command: u32, flags: u32) -> SysResult {
    use linux_raw_sys::general::membarrier_cmd::*;
    /// True once the app has said that it will ask for private barriers.
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    const GLOBAL: u32 = MEMBARRIER_CMD_GLOBAL as u32;
    const GLOBAL_EXPEDITED: u32 = MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
    const REGISTER_GLOBAL: u32 = MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
    const PRIVATE: u32 = MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
    const REGISTER_PRIVATE: u32 = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        0 => return Ok((GLOBAL | GLOBAL_EXPEDITED | REGISTER_GLOBAL | PRIVATE | REGISTER_PRIVATE) as usize),
        REGISTER_GLOBAL => {}
        REGISTER_PRIVATE => IS_REGISTERED.store(true, Ordering::Relaxed),
        PRIVATE if !IS_REGISTERED.load(Ordering::Relaxed) => return Err(Errno::EPERM),
        GLOBAL | GLOBAL_EXPEDITED | PRIVATE => space::fence_all_cores(),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
