//! What an epoll instance watches.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::event::epoll::{Epoll, Interest};
use crate::file::{self, OpenFile};
use crate::mem::user::UserPtr;

/// The instance that an open file is.
#[inline]
pub(crate) fn epoll_of(opened: &Arc<OpenFile>) -> Result<&Epoll, Errno> {
    opened.downcast().ok_or(Errno::EINVAL)
}

/// epoll_ctl(2).
pub(crate) fn epoll_ctl(epoll: i32, operation: u32, fd: i32, event: UserPtr<epoll_event>) -> SysResult {
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
