//! Files that are made, not opened (pipe(2), eventfd(2), timerfd_create(2)).

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::event::eventfd::{EventFd, Take};
use crate::event::signalfd::SignalFd;
use crate::event::timerfd::{Setting, TimerFd};
use crate::file::table::on_exec_of;
use crate::file::{self, FileFlags, table};
use crate::ipc::pipe;
use crate::mem::user::UserPtr;
use crate::process::clocks::{ClockBase, timespec_ns, to_timespec};
use crate::task::signal::SignalSet;

/// The status flags in a word of `O_*` flags (`EFD_NONBLOCK` and relatives are the same bit).
fn status_of(flags: u32) -> FileFlags {
    FileFlags::from_bits_truncate(flags) & FileFlags::NONBLOCK
}

/// pipe(2).
pub(crate) fn sys_pipe(fds: UserPtr<[i32; 2]>) -> SysResult {
    sys_pipe2(fds, 0)
}

/// pipe2(2).
pub(crate) fn sys_pipe2(fds: UserPtr<[i32; 2]>, flags: u32) -> SysResult {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (reader, writer) = pipe::pair();
    let reader = file::install(file::open(reader, status_of(flags)), on_exec_of(flags))?;
    let writer = file::open(writer, status_of(flags) | FileFlags::WRITE_ONLY);
    let outcome = file::install(writer, on_exec_of(flags)).and_then(|writer| {
        let written = fds.write([reader as i32, writer as i32]);
        if written.is_err() {
            table::close(writer as i32)?;
        }
        Ok(written?)
    });
    if let Err(error) = outcome {
        table::close(reader as i32)?;
        return Err(error);
    }
    Ok(0)
}

/// eventfd(2), the old call without flags.
pub(crate) fn sys_eventfd(count: u32) -> SysResult {
    sys_eventfd2(count, 0)
}

/// eventfd2(2).
pub(crate) fn sys_eventfd2(count: u32, flags: u32) -> SysResult {
    if flags & !(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let take = if flags & EFD_SEMAPHORE != 0 { Take::One } else { Take::All };
    let opened = file::open(EventFd::new(u64::from(count), take), status_of(flags) | FileFlags::READ_WRITE);
    file::install(opened, on_exec_of(flags))
}

/// timerfd_create(2).
pub(crate) fn sys_timerfd_create(clock: u32, flags: u32) -> SysResult {
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let base = match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM => ClockBase::AbsoluteWall,
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => ClockBase::AbsoluteMonotonic,
        _ => return Err(Errno::EINVAL),
    };
    let opened = file::open(TimerFd::new(base), status_of(flags) | FileFlags::READ_WRITE);
    file::install(opened, on_exec_of(flags))
}

/// timerfd_settime(2).
pub(crate) fn sys_timerfd_settime(
    fd: i32,
    flags: u32,
    new: UserPtr<__kernel_itimerspec>,
    old: UserPtr<__kernel_itimerspec>,
) -> SysResult {
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let new = new.read()?;
    let setting =
        Setting { first_ns: timespec_ns(new.it_value)?, interval_ns: timespec_ns(new.it_interval)? };
    let opened = file::get(fd)?;
    let timer: &TimerFd = opened.downcast().ok_or(Errno::EINVAL)?;
    let base = if flags & TFD_TIMER_ABSTIME != 0 { timer.absolute_base } else { ClockBase::Relative };
    let before = timer.set(setting, base);
    if let Some(old) = old.non_null() {
        old.write(to_itimerspec(before))?;
    }
    Ok(0)
}

/// timerfd_gettime(2).
pub(crate) fn sys_timerfd_gettime(fd: i32, current: UserPtr<__kernel_itimerspec>) -> SysResult {
    let opened = file::get(fd)?;
    let timer: &TimerFd = opened.downcast().ok_or(Errno::EINVAL)?;
    current.write(to_itimerspec(timer.setting()))?;
    Ok(0)
}

fn to_itimerspec(setting: Setting) -> __kernel_itimerspec {
    __kernel_itimerspec {
        it_interval: to_timespec(setting.interval_ns),
        it_value: to_timespec(setting.first_ns),
    }
}

/// signalfd(2).
pub(crate) fn sys_signalfd(fd: i32, set: UserPtr<SignalSet>, size: usize) -> SysResult {
    sys_signalfd4(fd, set, size, 0)
}

/// signalfd4(2): a new descriptor, or another set for one that is there.
pub(crate) fn sys_signalfd4(fd: i32, set: UserPtr<SignalSet>, size: usize, flags: u32) -> SysResult {
    if size != size_of::<SignalSet>() || flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = set.read()?;
    if fd == -1 {
        let opened = file::open(SignalFd::new(set), status_of(flags) | FileFlags::READ_WRITE);
        return file::install(opened, on_exec_of(flags));
    }
    let opened = file::get(fd)?;
    opened.downcast::<SignalFd>().ok_or(Errno::EINVAL)?.set(set);
    Ok(fd as usize)
}
