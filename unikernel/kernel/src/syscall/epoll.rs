//! epoll(7): the arguments, decoded; the work is `event::epoll`'s.

use linux_raw_sys::general::*;

use super::polling::{deadline_of_millis, deadline_of_timespec};
use super::signal::{read_mask, with_mask};
use crate::abi::{Errno, SysResult};
use crate::event::epoll::Epoll;
use crate::file::table::on_exec_of;
use crate::file::{self, FileFlags};
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::epoll::epoll_of;
use crate::task::signal::SignalSet;

/// Events in one call at most (Linux: `EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / size_of::<epoll_event>() as i32;

/// epoll_create(2). The size has had no meaning for long.
pub(crate) fn sys_epoll_create(size: i32) -> SysResult {
    if size <= 0 { Err(Errno::EINVAL) } else { sys_epoll_create1(0) }
}

/// epoll_create1(2).
pub(crate) fn sys_epoll_create1(flags: u32) -> SysResult {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    file::install(file::open(Epoll::new(), FileFlags::READ_WRITE), on_exec_of(flags))
}

#[inline]
fn wait(epoll: i32, events: UserPtr<epoll_event>, max: i32, deadline_ns: Option<u64>) -> SysResult {
    if max <= 0 || max > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    UserSlice::checked(events.address(), max as usize * size_of::<epoll_event>())?;
    let opened = file::get(epoll)?;
    epoll_of(&opened)?.wait(events, max as usize, deadline_ns)
}

/// epoll_wait(2).
pub(crate) fn sys_epoll_wait(
    epoll: i32,
    events: UserPtr<epoll_event>,
    max: i32,
    timeout_ms: i32,
) -> SysResult {
    wait(epoll, events, max, deadline_of_millis(timeout_ms))
}

/// epoll_pwait(2).
pub(crate) fn sys_epoll_pwait(
    epoll: i32,
    events: UserPtr<epoll_event>,
    max: i32,
    timeout_ms: i32,
    mask: UserPtr<SignalSet>,
    mask_size: usize,
) -> SysResult {
    let deadline_ns = deadline_of_millis(timeout_ms);
    with_mask(read_mask(mask, mask_size)?, || wait(epoll, events, max, deadline_ns))
}

/// epoll_pwait2(2).
pub(crate) fn sys_epoll_pwait2(
    epoll: i32,
    events: UserPtr<epoll_event>,
    max: i32,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<SignalSet>,
    mask_size: usize,
) -> SysResult {
    let deadline_ns = deadline_of_timespec(timeout)?;
    with_mask(read_mask(mask, mask_size)?, || wait(epoll, events, max, deadline_ns))
}
