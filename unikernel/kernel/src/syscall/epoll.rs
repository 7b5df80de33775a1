//! epoll(7): the arguments, decoded; the work is `file::epoll`'s.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use super::descriptor::on_exec_of;
use super::polling::{deadline_of_millis, deadline_of_timespec};
use super::signal::{read_mask, with_mask};
use crate::abi::{Errno, SysResult};
use crate::file::epoll::{Epoll, Interest};
use crate::file::{self, FileFlags, OpenFile};
use crate::mem::user::{UserPtr, UserSlice};
use crate::task::signal::SignalSet;

/// Events in one call at most (Linux: `EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / size_of::<epoll_event>() as i32;

/// epoll_create(2). The size has had no meaning for long.
pub fn sys_epoll_create(size: i32) -> SysResult {
    if size <= 0 { Err(Errno::EINVAL) } else { sys_epoll_create1(0) }
}

/// epoll_create1(2).
pub fn sys_epoll_create1(flags: u32) -> SysResult {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    file::install(file::open(Epoll::new(), FileFlags::READ_WRITE), on_exec_of(flags))
}

fn epoll_of(opened: &Arc<OpenFile>) -> Result<&Epoll, Errno> {
    opened.downcast().ok_or(Errno::EINVAL)
}

/// epoll_ctl(2).
pub fn sys_epoll_ctl(epoll: i32, operation: u32, fd: i32, event: UserPtr<epoll_event>) -> SysResult {
    let read_interest = || -> Result<Interest, Errno> {
        let event = event.read()?;
        Ok(Interest { bits: event.events, data: event.data })
    };
    // The event is read first, as Linux does.
    let interest = if operation == EPOLL_CTL_DEL { None } else { Some(read_interest()?) };
    let (holder, opened) = (file::get(epoll)?, file::get(fd)?);
    if opened.file.poll_source().is_none() {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(&holder, &opened) {
        return Err(Errno::EINVAL);
    }
    let epoll = epoll_of(&holder)?;
    match (operation, interest) {
        (EPOLL_CTL_ADD, Some(interest)) => epoll.add(fd, &opened, interest)?,
        (EPOLL_CTL_MOD, Some(interest)) => epoll.modify(fd, &opened, interest)?,
        (EPOLL_CTL_DEL, None) => epoll.remove(fd, &opened)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
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
pub fn sys_epoll_wait(epoll: i32, events: UserPtr<epoll_event>, max: i32, timeout_ms: i32) -> SysResult {
    wait(epoll, events, max, deadline_of_millis(timeout_ms))
}

/// epoll_pwait(2).
pub fn sys_epoll_pwait(
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
pub fn sys_epoll_pwait2(
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
