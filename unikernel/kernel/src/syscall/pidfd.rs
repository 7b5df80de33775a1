//! The app and its threads by descriptor (pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)).

use linux_raw_sys::general::{O_CLOEXEC, O_EXCL, O_NONBLOCK, SI_TKILL, SI_USER};

use super::signal::{self as signals, QueuedInfo, check_signal, queued};
use crate::abi::{Errno, SysResult};
use crate::event::pidfd::{self, PidFd, Subject};
use crate::file::table::OnExec;
use crate::file::table::on_exec_of;
use crate::file::{self, FileFlags};
use crate::mem::user::UserPtr;
use crate::process::signal;
use crate::task::current;
use crate::task::process::{PROCESS_ID, process};
use crate::task::signal::SignalInfo;

/// The same bits as `O_NONBLOCK` and `O_EXCL` (pidfd.h).
const PIDFD_NONBLOCK: u32 = O_NONBLOCK;
const PIDFD_THREAD: u32 = O_EXCL;
/// Flags of pidfd_send_signal(2): what is meant, whatever the descriptor stands for.
const SIGNAL_THREAD: u32 = 1;
const SIGNAL_THREAD_GROUP: u32 = 2;
const SIGNAL_PROCESS_GROUP: u32 = 4;

/// pidfd_open(2).
pub(crate) fn sys_pidfd_open(id: i32, flags: u32) -> SysResult {
    if flags & !(PIDFD_NONBLOCK | PIDFD_THREAD) != 0 || id <= 0 {
        return Err(Errno::EINVAL);
    }
    let opened = if flags & PIDFD_THREAD != 0 {
        pidfd::find(id).ok_or(Errno::ESRCH)?
    } else if id == PROCESS_ID {
        PidFd::of_process()
    } else {
        // Linux tells a thread from nobody since 6.15.
        return Err(if process().thread(id).is_some() { Errno::ENOENT } else { Errno::ESRCH });
    };
    let status = FileFlags::from_bits_retain(flags) | FileFlags::READ_WRITE;
    file::install(file::open(opened, status), on_exec_of(O_CLOEXEC))
}

/// pidfd_send_signal(2).
pub(crate) fn sys_pidfd_send_signal(
    fd: i32,
    number: u32,
    info: UserPtr<QueuedInfo>,
    flags: u32,
) -> SysResult {
    if !matches!(flags, 0 | SIGNAL_THREAD | SIGNAL_THREAD_GROUP | SIGNAL_PROCESS_GROUP) {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let subject = pidfd::subject_of(&opened).ok_or(Errno::EBADF)?;
    let (id, is_thread) = match subject {
        Subject::Process => (PROCESS_ID, flags == SIGNAL_THREAD),
        Subject::Thread(id) => (id, matches!(flags, 0 | SIGNAL_THREAD)),
    };
    let info = match info.non_null() {
        Some(info) => {
            let words = info.read()?;
            let info = signals::told_by_app(number, words);
            if words[0] as u32 != number {
                return Err(Errno::EINVAL);
            }
            if current().id != id && signals::looks_like_kernel(&info) {
                return Err(Errno::EPERM);
            }
            info
        }
        None => SignalInfo::from_app(number, if is_thread { SI_TKILL } else { SI_USER as i32 }),
    };
    if opened.downcast::<PidFd>().is_some_and(|pidfd| !pidfd.is_alive()) {
        return Err(Errno::ESRCH);
    }
    let thread = is_thread.then(|| process().thread(id).ok_or(Errno::ESRCH)).transpose()?;
    if number != 0 {
        check_signal(number)?;
        queued(match thread {
            Some(thread) => signal::send(&thread, info),
            None => signal::send_to_process(info),
        })?;
    }
    Ok(0)
}

/// pidfd_getfd(2): all threads have the same descriptors.
pub(crate) fn sys_pidfd_getfd(fd: i32, target: i32, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let pidfd = opened.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    if !pidfd.is_alive() {
        return Err(Errno::ESRCH);
    }
    file::install(file::get_any(target)?, OnExec::Close)
}
