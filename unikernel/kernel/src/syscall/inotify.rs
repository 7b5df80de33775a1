//! Watching files (inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2)).

use linux_raw_sys::general::*;
use unikernel_fs::LastLink;
use unikernel_vfs::access::Wanted;

use crate::abi::{Errno, SysResult};
use crate::event::inotify::Inotify;
use crate::file::notify::WatchError;
use crate::file::table::on_exec_of;
use crate::file::{self, FileFlags};
use crate::fs::{self, permission, watched};
use crate::mem::user::UserPtr;
use crate::ops::path::{base_of, read_path};

/// Bits of a mask beside the events.
const OPTIONS: u32 =
    IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ONESHOT | IN_ISDIR;

/// inotify_init(2).
pub(crate) fn sys_inotify_init() -> SysResult {
    sys_inotify_init1(0)
}

/// inotify_init1(2).
pub(crate) fn sys_inotify_init1(flags: u32) -> SysResult {
    if flags & !(IN_NONBLOCK | IN_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let status = FileFlags::from_bits_truncate(flags) & FileFlags::NONBLOCK;
    let instance = Inotify::new().ok_or(Errno::EMFILE)?;
    file::install(file::open(instance, status), on_exec_of(flags))
}

/// inotify_add_watch(2).
pub(crate) fn sys_inotify_add_watch(fd: i32, path: UserPtr<u8>, mask: u32) -> SysResult {
    let is_contradictory = mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0;
    if mask & IN_ALL_EVENTS == 0 || mask & !(IN_ALL_EVENTS | IN_UNMOUNT | OPTIONS) != 0 || is_contradictory {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let instance: &Inotify = opened.downcast().ok_or(Errno::EINVAL)?;
    let path = read_path(path)?;
    let last = if mask & IN_DONT_FOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let found = fs::find(&base_of(AT_FDCWD, &path)?, &path, last)?;
    if mask & IN_ONLYDIR != 0 && !found.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permission::check(&found, Wanted::READ)?;
    match instance.queue.watch((&found).into(), watched::pin(&found), mask) {
        Ok(descriptor) => Ok(descriptor as usize),
        Err(WatchError::Exists) => Err(Errno::EEXIST),
        Err(WatchError::Full) => Err(Errno::ENOSPC),
    }
}

/// inotify_rm_watch(2).
pub(crate) fn sys_inotify_rm_watch(fd: i32, descriptor: i32) -> SysResult {
    let opened = file::get(fd)?;
    let instance: &Inotify = opened.downcast().ok_or(Errno::EINVAL)?;
    if instance.queue.unwatch(descriptor) { Ok(0) } else { Err(Errno::EINVAL) }
}
