//! Memory (mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), brk(2)).

use linux_raw_sys::general::*;

use super::{Errno, SysResult};
use crate::file;
use crate::mem::space::{self, Move, Placement, Protection, Sharing, SpaceError};

impl From<SpaceError> for Errno {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::BadRange => Self::EINVAL,
            SpaceError::Taken => Self::EEXIST,
            SpaceError::NotAllowed => Self::EACCES,
            SpaceError::NotMapped | SpaceError::OutOfMemory => Self::ENOMEM,
        }
    }
}

fn protection(bits: u32) -> Result<Protection, Errno> {
    if bits & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut protection = Protection::empty();
    protection.set(Protection::READ, bits & PROT_READ != 0);
    protection.set(Protection::WRITE, bits & PROT_WRITE != 0);
    protection.set(Protection::EXECUTE, bits & PROT_EXEC != 0);
    // W^X holds for the app too.
    if protection.contains(Protection::WRITE | Protection::EXECUTE) {
        return Err(Errno::EACCES);
    }
    Ok(protection)
}

/// mmap(2). Shared anonymous memory is private memory: there is one process to share it with.
pub fn sys_mmap(address: u64, len: u64, bits: u32, flags: u32, fd: i32, offset: u64) -> SysResult {
    let protection = protection(bits)?;
    if len == 0 || !offset.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    if !matches!(flags & MAP_TYPE, MAP_SHARED | MAP_PRIVATE | MAP_SHARED_VALIDATE) {
        return Err(Errno::EINVAL);
    }
    let placement = if flags & MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(address)
    } else if flags & MAP_FIXED != 0 {
        Placement::Fixed(address)
    } else {
        Placement::Anywhere(address)
    };
    if flags & MAP_ANONYMOUS != 0 {
        return Ok(space::map(placement, len, protection)? as usize);
    }
    let sharing = if flags & MAP_TYPE == MAP_PRIVATE { Sharing::Private } else { Sharing::Shared };
    map_file(placement, len, protection, sharing, fd, offset)
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
    let writes_through = sharing == Sharing::Shared && protection.contains(Protection::WRITE);
    if flags.contains(file::FileFlags::PATH) {
        return Err(Errno::EBADF);
    }
    if !flags.can_read() || writes_through && !flags.can_write() {
        return Err(Errno::EACCES);
    }
    if offset.checked_add(len).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    let source = opened.file.page_source()?;
    Ok(space::map_object(placement, len, protection, source, offset, sharing)? as usize)
}

/// munmap(2).
pub fn sys_munmap(address: u64, len: u64) -> SysResult {
    space::unmap(address, len)?;
    Ok(0)
}

/// mprotect(2).
pub fn sys_mprotect(address: u64, len: u64, bits: u32) -> SysResult {
    let protection = protection(bits)?;
    if len == 0 && address.is_multiple_of(4096) {
        return Ok(0);
    }
    space::protect(address, len, protection)?;
    Ok(0)
}

/// mremap(2).
pub fn sys_mremap(address: u64, old_len: u64, new_len: u64, flags: u32, new_address: u64) -> SysResult {
    let how = match flags {
        0 => Move::No,
        MREMAP_MAYMOVE => Move::Anywhere,
        flags if flags == MREMAP_MAYMOVE | MREMAP_FIXED => Move::To(new_address),
        _ => return Err(Errno::EINVAL),
    };
    match space::remap(address, old_len, new_len, how) {
        Ok(start) => Ok(start as usize),
        Err(SpaceError::NotMapped) => Err(Errno::EFAULT),
        Err(error) => Err(error.into()),
    }
}

/// madvise(2).
pub fn sys_madvise(address: u64, len: u64, advice: u32) -> SysResult {
    if len == 0 && address.is_multiple_of(4096) {
        return Ok(0);
    }
    match advice {
        MADV_DONTNEED | MADV_FREE | MADV_DONTNEED_LOCKED => space::discard(address, len)?,
        MADV_NORMAL | MADV_RANDOM | MADV_SEQUENTIAL | MADV_WILLNEED | MADV_HUGEPAGE | MADV_NOHUGEPAGE
        | MADV_DONTDUMP | MADV_DODUMP | MADV_DONTFORK | MADV_DOFORK | MADV_COLD | MADV_MERGEABLE
        | MADV_UNMERGEABLE => space::check_mapped(address, len)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// brk(2). The raw call answers the break, whether it moved or not.
pub fn sys_brk(address: u64) -> SysResult {
    Ok(space::set_break(address) as usize)
}

/// mlock(2) and relatives: there is no swap, so memory is as good as locked once it is there.
pub fn sys_mlock(address: u64, len: u64) -> SysResult {
    if len != 0 {
        space::check_mapped(address & !4095, len + (address & 4095))?;
    }
    Ok(0)
}

/// msync(2). `MS_ASYNC` promises nothing: what is mapped is the file's own pages.
pub fn sys_msync(address: u64, len: u64, flags: u32) -> SysResult {
    if flags & !(MS_ASYNC | MS_SYNC | MS_INVALIDATE) != 0 || flags & MS_SYNC != 0 && flags & MS_ASYNC != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MS_SYNC != 0 && len != 0 && !space::sync(address & !4095, len + (address & 4095))? {
        return Err(Errno::EIO);
    }
    sys_mlock(address, len)
}

/// membarrier(2): no command is offered, and programs use fences of their own.
pub fn sys_membarrier(command: u32) -> SysResult {
    const QUERY: u32 = 0;
    match command {
        QUERY => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}
