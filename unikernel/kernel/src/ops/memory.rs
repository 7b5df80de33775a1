//! What the app says about its memory.

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::kmem::layout::USER_END;
use crate::mem::space::{self, Advice};

/// Refuses ranges that begin in the middle of a page, or wrap around; what lies beyond the app's part of the
/// address space is a range with nothing mapped in it.
pub(crate) fn check_range(address: u64, len: u64) -> Result<(), Errno> {
    if !address.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(4096).ok_or(Errno::EINVAL)?;
    match address.checked_add(len) {
        None => Err(Errno::EINVAL),
        Some(end) if end > USER_END => Err(Errno::ENOMEM),
        Some(_) => Ok(()),
    }
}

/// madvise(2). There is no swap, so pages that are cold stay; and no fork, so what a child would get is no matter.
pub(crate) fn madvise(address: u64, len: u64, advice: u32) -> SysResult {
    let populates = matches!(advice, MADV_POPULATE_READ | MADV_POPULATE_WRITE);
    let effect = match advice {
        MADV_DONTNEED => Advice::Discard,
        MADV_DONTNEED_LOCKED => Advice::DiscardLocked,
        MADV_FREE => Advice::DiscardOwn,
        MADV_WIPEONFORK => Advice::NothingForFiles,
        MADV_COLD | MADV_PAGEOUT => Advice::NothingForLocked,
        MADV_DOFORK | MADV_DODUMP => Advice::NothingForKernels,
        MADV_NORMAL | MADV_RANDOM | MADV_SEQUENTIAL | MADV_WILLNEED | MADV_HUGEPAGE | MADV_NOHUGEPAGE
        | MADV_DONTDUMP | MADV_DONTFORK | MADV_KEEPONFORK | MADV_MERGEABLE | MADV_UNMERGEABLE => {
            Advice::Nothing
        }
        _ if populates => Advice::Nothing,
        _ => return Err(Errno::EINVAL),
    };
    check_range(address, len)?;
    if len == 0 {
        return Ok(0);
    }
    if populates {
        space::populate(address, len, advice == MADV_POPULATE_WRITE)?;
    } else {
        space::advise(address, len, effect)?;
    }
    Ok(0)
}
