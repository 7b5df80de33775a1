//! Descriptors themselves (close(2), dup(2), fcntl(2), ioctl(2)).

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIBMAP, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FITRIM};

use unikernel_vfs::Sync;

use super::admission;
use crate::abi::{Errno, SysResult};
use crate::file::table::on_exec_of;
use crate::file::table::{self, OnExec};
use crate::file::{self, File, FileFlags, OpenFile};
use crate::fs::node::FileNode;
use crate::fs::permission;
use crate::ipc::pipe;
use crate::mem::user::UserPtr;
use crate::net::socket::Socket;
use crate::ops;
use crate::task::credentials::{self, Capability};
use crate::task::limits;
use crate::vfs;
use crate::vfs::file::InodeFile;

/// close_range(2), which `linux-raw-sys` does not know yet.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

/// close(2).
pub(crate) fn sys_close(fd: i32) -> SysResult {
    table::close(fd)?;
    Ok(0)
}

/// close_range(2).
pub(crate) fn sys_close_range(first: u32, last: u32, flags: u32) -> SysResult {
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    for descriptor in table::in_use(first as usize, last as usize) {
        // Another thread may have closed it since; then there is nothing to do.
        let _ = if flags & CLOSE_RANGE_CLOEXEC != 0 {
            table::set_on_exec(descriptor, OnExec::Close)
        } else {
            table::close(descriptor)
        };
    }
    Ok(0)
}

/// dup(2).
pub(crate) fn sys_dup(fd: i32) -> SysResult {
    table::install(file::get_any(fd)?, OnExec::Keep)
}

/// dup2(2).
pub(crate) fn sys_dup2(fd: i32, to: i32) -> SysResult {
    let opened = file::get_any(fd)?;
    if fd == to { Ok(fd as usize) } else { table::replace(to, opened, OnExec::Keep) }
}

/// dup3(2).
pub(crate) fn sys_dup3(fd: i32, to: i32, flags: u32) -> SysResult {
    if flags & !O_CLOEXEC != 0 || fd == to {
        return Err(Errno::EINVAL);
    }
    table::replace(to, file::get_any(fd)?, on_exec_of(flags))
}

/// fcntl(2).
pub(crate) fn sys_fcntl(fd: i32, command: u32, argument: u64) -> SysResult {
    let opened = file::get_any(fd)?;
    let is_about_descriptor = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
    if opened.flags().contains(FileFlags::PATH) && !is_about_descriptor {
        return Err(Errno::EBADF);
    }
    if matches!(command, F_GETLK | F_SETLK | F_SETLKW | F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW) {
        return super::lock::control(&opened, command, UserPtr::new(argument));
    }
    admission::ask()?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let lowest = argument as u32 as usize;
            let on_exec = if command == F_DUPFD { OnExec::Keep } else { OnExec::Close };
            if lowest as u64 >= limits::soft(RLIMIT_NOFILE) {
                return Err(Errno::EINVAL);
            }
            table::install_from(lowest, opened, on_exec)
        }
        F_GETFD => Ok(if table::on_exec(fd)? == OnExec::Close { FD_CLOEXEC as usize } else { 0 }),
        F_SETFD => {
            let on_exec = if argument as u32 & FD_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
            table::set_on_exec(fd, on_exec)?;
            Ok(0)
        }
        F_GETFL => Ok(opened.flags().bits() as usize),
        F_SETFL if argument as u32 & O_DIRECT != 0 && !opened.file.is_regular() => Err(Errno::EINVAL),
        F_SETFL => {
            let keeps_time = argument as u32 & O_NOATIME != 0 && !opened.flags().contains(FileFlags::NOATIME);
            if keeps_time {
                permission::check_no_access_time(&*opened.file)?;
            }
            opened.set_flags(FileFlags::CHANGEABLE, FileFlags::from_bits_truncate(argument as u32));
            Ok(0)
        }
        F_SETOWN | F_GETOWN => {
            let socket = opened.downcast::<Socket>().ok_or(Errno::EINVAL)?;
            match command {
                F_GETOWN => Ok(socket.owner.get() as usize),
                _ => socket.owner.set(argument as i32).map(|()| 0),
            }
        }
        F_GETPIPE_SZ if pipe::is_pipe(&opened) => Ok(pipe::CAPACITY_BYTES),
        F_SETPIPE_SZ if pipe::is_pipe(&opened) && argument as usize <= pipe::CAPACITY_BYTES => {
            Ok(pipe::CAPACITY_BYTES)
        }
        F_SETPIPE_SZ if pipe::is_pipe(&opened) => Err(Errno::EPERM),
        F_GET_SEALS => Ok(opened.downcast::<FileNode>().ok_or(Errno::EINVAL)?.content().seals() as usize),
        F_ADD_SEALS => add_seals(&opened, argument as u32),
        _ => Err(Errno::EINVAL),
    }
}

/// Only files in memory have seals.
fn add_seals(opened: &OpenFile, seals: u32) -> SysResult {
    if !opened.flags().can_write() {
        return Err(Errno::EPERM);
    }
    let file = opened.downcast::<FileNode>().ok_or(Errno::EINVAL)?;
    file.content().add_seals(seals, file.metadata().mode)?;
    Ok(0)
}

/// fsync(2).
pub(crate) fn sys_fsync(fd: i32) -> SysResult {
    ops::file::sync(&*file::get(fd)?, Sync::All)
}

/// fdatasync(2).
pub(crate) fn sys_fdatasync(fd: i32) -> SysResult {
    ops::file::sync(&*file::get(fd)?, Sync::Data)
}

/// sync(2).
pub(crate) fn sys_sync() -> SysResult {
    vfs::table::sync_all();
    Ok(0)
}

/// syncfs(2).
pub(crate) fn sys_syncfs(fd: i32) -> SysResult {
    if let Some(opened) = vfs::file::of(&*file::get(fd)?.file) {
        opened.sync_mount()?;
    }
    Ok(0)
}

/// sync_file_range(2). What is written goes to the disk, perhaps only into its own cache.
pub(crate) fn sys_sync_file_range(fd: i32, offset: i64, len: i64, flags: u32) -> SysResult {
    const KNOWN: u32 = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if flags & !KNOWN != 0 || offset < 0 || len < 0 {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    if !opened.file.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    // No length goes to the end.
    let end = if len == 0 { Some(i64::MAX) } else { offset.checked_add(len) };
    let end = end.ok_or(Errno::EINVAL)?;
    if let Some(file) = opened.downcast::<InodeFile>() {
        let has = |flag| flags & flag != 0;
        if has(SYNC_FILE_RANGE_WAIT_BEFORE) {
            file.wait_for_write_back()?;
        }
        if has(SYNC_FILE_RANGE_WRITE) {
            file.start_write_back(offset as u64, end as u64);
        }
        if has(SYNC_FILE_RANGE_WAIT_AFTER) {
            file.wait_for_write_back()?;
        }
    }
    Ok(0)
}

/// posix_fadvise(2). Only files on disks have something to gain.
pub(crate) fn sys_fadvise64(fd: i32, offset: i64, len: i64, advice: u32) -> SysResult {
    let opened = file::get(fd)?;
    if opened.file.metadata().mode & S_IFMT == S_IFIFO {
        return Err(Errno::ESPIPE);
    }
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    if !matches!(advice, POSIX_FADV_NORMAL..=POSIX_FADV_NOREUSE) {
        return Err(Errno::EINVAL);
    }
    let Some(file) = opened.downcast::<InodeFile>() else { return Ok(0) };
    let offset = offset.max(0) as u64;
    match advice {
        POSIX_FADV_RANDOM => file.set_random(true),
        POSIX_FADV_NORMAL | POSIX_FADV_SEQUENTIAL => file.set_random(false),
        POSIX_FADV_WILLNEED => file.prefetch(offset, len)?,
        POSIX_FADV_DONTNEED => file.forget(offset, len),
        _ => {}
    }
    Ok(0)
}

/// readahead(2).
pub(crate) fn sys_readahead(fd: i32, offset: i64, count: usize) -> SysResult {
    let opened = file::get(fd)?;
    if !opened.flags().can_read() {
        return Err(Errno::EBADF);
    }
    // For Linux the count is a length of files, which has a sign.
    if !opened.file.is_regular() || i64::try_from(count).is_err() {
        return Err(Errno::EINVAL);
    }
    if let Some(file) = opened.downcast::<InodeFile>() {
        file.prefetch(offset.max(0) as u64, count as u64)?;
    }
    Ok(0)
}

/// ioctl(2).
pub(crate) fn sys_ioctl(fd: i32, request: u32, argument: u64) -> SysResult {
    let opened = file::get(fd)?;
    match request {
        FIONBIO => {
            let is_on = UserPtr::<i32>::new(argument).read()? != 0;
            let value = if is_on { FileFlags::NONBLOCK } else { FileFlags::empty() };
            opened.set_flags(FileFlags::NONBLOCK, value);
        }
        FIOCLEX => table::set_on_exec(fd, OnExec::Close)?,
        FIONCLEX => table::set_on_exec(fd, OnExec::Keep)?,
        // Where a file's blocks are is asked by boot loaders; in memory there are none.
        FIBMAP if opened.file.metadata().mode & S_IFMT == S_IFREG => return Err(Errno::EINVAL),
        FIONREAD if opened.file.metadata().mode & S_IFMT == S_IFREG => {
            let left = opened.file.metadata().size.saturating_sub(opened.with_offset(|offset| *offset));
            UserPtr::new(argument).write(left as i32)?;
        }
        FITRIM => {
            let opened = vfs::file::of(&*opened.file).ok_or(Errno::EOPNOTSUPP)?;
            credentials::check(Capability::SysAdmin)?;
            let range = UserPtr::<fstrim_range>::new(argument);
            let wanted = range.read()?;
            let len = opened.inode.mount.trim(wanted.start, wanted.len, wanted.minlen)?;
            range.write(fstrim_range { len, ..wanted })?;
        }
        _ => return opened.file.ioctl(request, argument),
    }
    Ok(0)
}
