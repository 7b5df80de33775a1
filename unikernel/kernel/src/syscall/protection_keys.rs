//! Protection keys (pkeys(7)): there are none, as on Linux where the processor has none. Programs ask and go on without; Linux
//! answers so whether it is the processor or the kernel that lacks them.

use super::memory::sys_mprotect;
use crate::abi::{Errno, SysResult};
use crate::ops::memory::check_range;

/// mprotect(2) without a key.
const NO_KEY: i32 = -1;

/// pkey_alloc(2): all keys that there are have been allocated.
pub(crate) fn sys_pkey_alloc(flags: u64, access_rights: u64) -> SysResult {
    const KNOWN: u64 = linux_raw_sys::general::PKEY_ACCESS_MASK as u64;
    Err(if flags != 0 || access_rights & !KNOWN != 0 { Errno::EINVAL } else { Errno::ENOSPC })
}

/// pkey_free(2): no key was allocated.
pub(crate) fn sys_pkey_free(_key: i32) -> SysResult {
    Err(Errno::EINVAL)
}

/// pkey_mprotect(2).
pub(crate) fn sys_pkey_mprotect(address: u64, len: u64, bits: u64, key: i32) -> SysResult {
    // The range comes before the key.
    let has_range = len > 0 && check_range(address, len).is_ok();
    if key == NO_KEY || !has_range { sys_mprotect(address, len, bits) } else { Err(Errno::EINVAL) }
}
