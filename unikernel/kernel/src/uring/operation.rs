//! The operations: their numbers, and those that never wait, which the handlers of the system calls do.

use alloc::sync::Arc;

use linux_raw_sys::general::{O_NONBLOCK, open_how, statx};
use linux_raw_sys::io_uring::*;
use linux_raw_sys::net::SOL_SOCKET;
use unikernel_vfs::Sync;

use super::Ring;
use super::attempt::reserve_place;
use super::request::Request;
use super::sqe::Sqe;
use crate::abi::{Errno, SysResult};
use crate::file::table::{Reserved, on_exec_of};
use crate::file::{self, FileFlags, OpenFile};
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::socket::SocketRef;
use crate::ops::{self, sockopt};
use crate::task::release::release;

/// `IORING_OP_*` as they stand in an entry.
pub(super) mod opcode {
    macro_rules! opcodes {
        ($($name:ident = $linux:ident),* $(,)?) => {
            $(pub(in super::super) const $name: u8 = linux_raw_sys::io_uring::io_uring_op::$linux as u8;)*
            /// Every operation that there is.
            pub(in super::super) const ALL: &[u8] = &[$($name),*];
        };
    }
    opcodes! {
        NOP = IORING_OP_NOP, READV = IORING_OP_READV, WRITEV = IORING_OP_WRITEV, FSYNC = IORING_OP_FSYNC,
        READ_FIXED = IORING_OP_READ_FIXED, WRITE_FIXED = IORING_OP_WRITE_FIXED,
        POLL_ADD = IORING_OP_POLL_ADD, POLL_REMOVE = IORING_OP_POLL_REMOVE,
        SYNC_FILE_RANGE = IORING_OP_SYNC_FILE_RANGE, SENDMSG = IORING_OP_SENDMSG,
        RECVMSG = IORING_OP_RECVMSG, TIMEOUT = IORING_OP_TIMEOUT,
        TIMEOUT_REMOVE = IORING_OP_TIMEOUT_REMOVE, ACCEPT = IORING_OP_ACCEPT,
        ASYNC_CANCEL = IORING_OP_ASYNC_CANCEL, LINK_TIMEOUT = IORING_OP_LINK_TIMEOUT,
        CONNECT = IORING_OP_CONNECT, FALLOCATE = IORING_OP_FALLOCATE, OPENAT = IORING_OP_OPENAT,
        CLOSE = IORING_OP_CLOSE, FILES_UPDATE = IORING_OP_FILES_UPDATE, STATX = IORING_OP_STATX,
        READ = IORING_OP_READ, WRITE = IORING_OP_WRITE, FADVISE = IORING_OP_FADVISE,
        MADVISE = IORING_OP_MADVISE, SEND = IORING_OP_SEND, RECV = IORING_OP_RECV,
        OPENAT2 = IORING_OP_OPENAT2, EPOLL_CTL = IORING_OP_EPOLL_CTL,
        PROVIDE_BUFFERS = IORING_OP_PROVIDE_BUFFERS, REMOVE_BUFFERS = IORING_OP_REMOVE_BUFFERS,
        SHUTDOWN = IORING_OP_SHUTDOWN, RENAMEAT = IORING_OP_RENAMEAT, UNLINKAT = IORING_OP_UNLINKAT,
        MKDIRAT = IORING_OP_MKDIRAT, SYMLINKAT = IORING_OP_SYMLINKAT, LINKAT = IORING_OP_LINKAT,
        MSG_RING = IORING_OP_MSG_RING, SOCKET = IORING_OP_SOCKET, SEND_ZC = IORING_OP_SEND_ZC,
        SENDMSG_ZC = IORING_OP_SENDMSG_ZC, READ_MULTISHOT = IORING_OP_READ_MULTISHOT,
        FIXED_FD_INSTALL = IORING_OP_FIXED_FD_INSTALL, FTRUNCATE = IORING_OP_FTRUNCATE,
        BIND = IORING_OP_BIND, LISTEN = IORING_OP_LISTEN, URING_CMD = IORING_OP_URING_CMD,
        SPLICE = IORING_OP_SPLICE, TEE = IORING_OP_TEE,
    }
}

/// True if the operation is there.
pub(super) fn is_supported(operation: u8) -> bool {
    opcode::ALL.contains(&operation)
}

/// True if the operation works on the file that its descriptor names.
pub(super) fn takes_file(operation: u8) -> bool {
    !matches!(
        operation,
        opcode::NOP
            | opcode::TIMEOUT
            | opcode::TIMEOUT_REMOVE
            | opcode::LINK_TIMEOUT
            | opcode::POLL_REMOVE
            | opcode::ASYNC_CANCEL
            | opcode::OPENAT
            | opcode::OPENAT2
            | opcode::CLOSE
            | opcode::FILES_UPDATE
            | opcode::STATX
            | opcode::MADVISE
            | opcode::EPOLL_CTL
            | opcode::PROVIDE_BUFFERS
            | opcode::REMOVE_BUFFERS
            | opcode::RENAMEAT
            | opcode::UNLINKAT
            | opcode::MKDIRAT
            | opcode::SYMLINKAT
            | opcode::LINKAT
            | opcode::SOCKET
    )
}

/// Stands for an operation of which nobody has said which call does the same: no rule allows a call of this number.
const UNJUDGED: u32 = u32::MAX;

/// The system calls that do what the operation does; none for what only concerns the ring itself. Whoever adds an operation has to add it
/// here: one that is there and left out here is refused, with or without rules.
pub(super) fn same_calls(sqe: &Sqe) -> &'static [u32] {
    use linux_raw_sys::general::*;
    match sqe.opcode {
        opcode::READV => &[__NR_readv],
        opcode::WRITEV => &[__NR_writev],
        opcode::READ | opcode::READ_FIXED | opcode::READ_MULTISHOT => &[__NR_read],
        opcode::WRITE | opcode::WRITE_FIXED => &[__NR_write],
        opcode::FSYNC => &[__NR_fsync],
        opcode::SYNC_FILE_RANGE => &[__NR_sync_file_range],
        opcode::POLL_ADD => &[__NR_poll],
        opcode::SENDMSG | opcode::SENDMSG_ZC => &[__NR_sendmsg],
        opcode::RECVMSG => &[__NR_recvmsg],
        opcode::SEND | opcode::SEND_ZC => &[__NR_sendto],
        opcode::RECV => &[__NR_recvfrom],
        opcode::ACCEPT => &[__NR_accept4],
        opcode::CONNECT => &[__NR_connect],
        opcode::SOCKET => &[__NR_socket],
        opcode::BIND => &[__NR_bind],
        opcode::LISTEN => &[__NR_listen],
        opcode::SHUTDOWN => &[__NR_shutdown],
        opcode::URING_CMD => &[__NR_setsockopt, __NR_getsockopt],
        opcode::FALLOCATE => &[__NR_fallocate],
        opcode::FTRUNCATE => &[__NR_ftruncate],
        opcode::OPENAT => &[__NR_openat],
        opcode::OPENAT2 => &[__NR_openat2],
        opcode::CLOSE => &[__NR_close],
        opcode::STATX => &[__NR_statx],
        opcode::FADVISE => &[__NR_fadvise64],
        opcode::MADVISE => &[__NR_madvise],
        opcode::EPOLL_CTL => &[__NR_epoll_ctl],
        opcode::RENAMEAT => &[__NR_renameat2],
        opcode::UNLINKAT => &[__NR_unlinkat],
        opcode::MKDIRAT => &[__NR_mkdirat],
        opcode::SYMLINKAT => &[__NR_symlinkat],
        opcode::LINKAT => &[__NR_linkat],
        opcode::SPLICE => &[__NR_splice],
        opcode::TEE => &[__NR_tee],
        opcode::FIXED_FD_INSTALL => &[__NR_dup],
        // These wait, take back what the ring was asked for, or change what is registered with it, which a call of the ring's does.
        opcode::NOP
        | opcode::POLL_REMOVE
        | opcode::TIMEOUT
        | opcode::TIMEOUT_REMOVE
        | opcode::LINK_TIMEOUT
        | opcode::ASYNC_CANCEL
        | opcode::FILES_UPDATE
        | opcode::PROVIDE_BUFFERS
        | opcode::REMOVE_BUFFERS
        | opcode::MSG_RING => &[],
        _ => &[UNJUDGED],
    }
}

/// The file that a request is about.
fn file_of(request: &Request) -> Result<&Arc<OpenFile>, Errno> {
    request.file.as_ref().ok_or(Errno::EBADF)
}

/// The socket that a request is about.
fn socket_of(request: &Request) -> Result<SocketRef, Errno> {
    SocketRef::of(Arc::clone(file_of(request)?))
}

/// Gives a place to what was opened with `O_NONBLOCK`, as Linux's rings do: nobody waits for the other end of a named pipe. The
/// app's own flags say how the file is used then.
fn place(ring: &Ring, reserved: Option<Reserved>, opened: Arc<OpenFile>, flags: u32, sqe: &Sqe) -> SysResult {
    if flags & O_NONBLOCK == 0 {
        opened.set_flags(FileFlags::NONBLOCK, FileFlags::empty());
    }
    ring.place(reserved, opened, on_exec_of(flags), sqe)
}

/// Does a request that never waits.
pub(super) fn call(ring: &Ring, request: &Request) -> SysResult {
    let sqe = &request.sqe;
    let path = UserPtr::<u8>::new(sqe.addr);
    let other_path = UserPtr::<u8>::new(sqe.off);
    match sqe.opcode {
        opcode::NOP => Ok(0),
        opcode::FSYNC if sqe.op_flags & !IORING_FSYNC_DATASYNC != 0 => Err(Errno::EINVAL),
        opcode::FSYNC | opcode::SYNC_FILE_RANGE => ops::file::sync(file_of(request)?, Sync::All),
        opcode::FADVISE => Ok(0),
        opcode::MADVISE => ops::memory::madvise(sqe.addr, u64::from(sqe.len), sqe.op_flags),
        opcode::FALLOCATE => ops::file::allocate(file_of(request)?, sqe.len, sqe.off as i64, sqe.addr as i64),
        opcode::FTRUNCATE => {
            let len = ops::file::length_of(sqe.off as i64)?;
            ops::file::truncate(file_of(request)?, len)
        }
        opcode::OPENAT => {
            let reserved = reserve_place(sqe)?;
            let opened = ops::open::openat(sqe.fd, path, sqe.op_flags | O_NONBLOCK, sqe.len)?;
            place(ring, reserved, opened, sqe.op_flags, sqe)
        }
        opcode::OPENAT2 => {
            let reserved = reserve_place(sqe)?;
            let how = UserPtr::<open_how>::new(sqe.off);
            let (opened, flags) = ops::open_how::openat2(sqe.fd, path, how, sqe.len as usize, O_NONBLOCK)?;
            place(ring, reserved, opened, flags, sqe)
        }
        opcode::SOCKET => {
            let reserved = reserve_place(sqe)?;
            let kind = sqe.off as u32;
            let socket = ops::socket::socket(sqe.fd as u32, kind, sqe.len)?;
            ring.place(reserved, ops::socket::open(socket, kind), on_exec_of(kind), sqe)
        }
        opcode::CLOSE if sqe.file_index != 0 => {
            let removed = ring.registered.lock().remove_file(sqe.file_index - 1);
            release([removed?]);
            Ok(0)
        }
        opcode::CLOSE => close(ring, sqe),
        opcode::STATX => {
            let answer = UserPtr::<statx>::new(sqe.off);
            ops::stat::statx(sqe.fd, path, sqe.op_flags, sqe.len, answer)
        }
        opcode::EPOLL_CTL => ops::epoll::epoll_ctl(sqe.fd, sqe.len, sqe.off as i32, UserPtr::new(sqe.addr)),
        opcode::SHUTDOWN => ops::socket::shutdown(&*socket_of(request)?, sqe.len),
        opcode::BIND => ops::socket::bind(&*socket_of(request)?, sqe.addr, sqe.off as u32),
        opcode::LISTEN => ops::socket::listen(&*socket_of(request)?, sqe.len as i32),
        opcode::RENAMEAT => ops::rename::renameat2(sqe.fd, path, sqe.len as i32, other_path, sqe.op_flags),
        opcode::UNLINKAT => ops::names::unlinkat(sqe.fd, path, sqe.op_flags),
        opcode::MKDIRAT => ops::names::mkdirat(sqe.fd, path, sqe.len),
        opcode::SYMLINKAT => ops::names::symlinkat(path, sqe.fd, other_path),
        opcode::LINKAT => ops::names::linkat(sqe.fd, path, sqe.len as i32, other_path, sqe.op_flags),
        opcode::FILES_UPDATE => ring.update_files(sqe.off as u32, UserPtr::new(sqe.addr), sqe.len),
        opcode::FIXED_FD_INSTALL => {
            let opened = Arc::clone(file_of(request)?);
            let keeps = sqe.op_flags & IORING_FIXED_FD_NO_CLOEXEC != 0;
            let on_exec = if keeps { file::table::OnExec::Keep } else { file::table::OnExec::Close };
            file::install(opened, on_exec)
        }
        opcode::PROVIDE_BUFFERS => {
            let first = UserSlice::new(sqe.addr, sqe.len as usize);
            ring.registered.lock().provide(sqe.buf, first, sqe.fd as u32, sqe.off as u16)
        }
        opcode::REMOVE_BUFFERS => ring.registered.lock().unprovide(sqe.buf, sqe.fd as u32),
        opcode::POLL_REMOVE | opcode::ASYNC_CANCEL | opcode::TIMEOUT_REMOVE => ring.cancel(sqe),
        opcode::URING_CMD => socket_command(file_of(request)?, sqe),
        opcode::MSG_RING => message_ring(ring, file_of(request)?, sqe),
        _ => Err(Errno::EINVAL),
    }
}

/// The commands that sockets have (io_uring_prep_cmd_sock(3)). The entry has level and name of an option where others
/// have an address, and the place of its value last.
fn socket_command(opened: &Arc<OpenFile>, sqe: &Sqe) -> SysResult {
    const SIOCINQ: u32 = io_uring_socket_op::SOCKET_URING_OP_SIOCINQ as u32;
    const SIOCOUTQ: u32 = io_uring_socket_op::SOCKET_URING_OP_SIOCOUTQ as u32;
    const GET: u32 = io_uring_socket_op::SOCKET_URING_OP_GETSOCKOPT as u32;
    const SET: u32 = io_uring_socket_op::SOCKET_URING_OP_SETSOCKOPT as u32;
    if sqe.off >> 32 != 0 || sqe.op_flags & !IORING_URING_CMD_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    let socket = SocketRef::of(Arc::clone(opened)).map_err(|_| Errno::EOPNOTSUPP)?;
    let (level, name) = (sqe.addr as u32, (sqe.addr >> 32) as u32);
    let (place, len) = (sqe.addr3, sqe.file_index);
    match sqe.off as u32 {
        SIOCINQ => Ok(socket.internet_queues()?.0),
        SIOCOUTQ => Ok(socket.internet_queues()?.1),
        GET if level != SOL_SOCKET => Err(Errno::EOPNOTSUPP),
        GET => {
            let room = i32::try_from(len).map_err(|_| Errno::EINVAL)? as usize;
            sockopt::get(&socket, level, name, (place, room))
        }
        SET => sockopt::set(&socket, level, name, (place, len)),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// A ring must not be closed by its own request while that request is running.
fn close(ring: &Ring, sqe: &Sqe) -> SysResult {
    let is_itself = file::get(sqe.fd)?.downcast::<Ring>().is_some_and(|other| core::ptr::eq(other, ring));
    if is_itself {
        return Err(Errno::EBADF);
    }
    file::table::close(sqe.fd)?;
    Ok(0)
}

/// Puts a completion into another ring (io_uring_enter(2), `IORING_OP_MSG_RING`).
fn message_ring(ring: &Ring, target: &OpenFile, sqe: &Sqe) -> SysResult {
    let target = target.downcast::<Ring>().ok_or(Errno::EBADFD)?;
    match sqe.addr as u32 {
        command if command == io_uring_msg_ring_flags::IORING_MSG_DATA as u32 => {
            let flags = if sqe.op_flags & IORING_MSG_RING_FLAGS_PASS != 0 { sqe.file_index } else { 0 };
            target.post(sqe.off, sqe.len as i32, flags);
        }
        command if command == io_uring_msg_ring_flags::IORING_MSG_SEND_FD as u32 => {
            let opened = ring.registered.lock().file(sqe.addr3 as u32)?;
            let (index, replaced) = target.registered.lock().place_file(&opened, sqe.file_index)?;
            release(replaced);
            if sqe.op_flags & IORING_MSG_RING_CQE_SKIP == 0 {
                target.post(sqe.off, index as i32, 0);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    target.announce();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use unikernel_policy::calls::{CallRule, CallSet};

    use super::super::sqe::SQE_BYTES;
    use super::*;

    #[test]
    fn every_operation_is_judged() {
        let calls = |opcode| {
            let mut entry = [0; SQE_BYTES];
            entry[0] = opcode;
            same_calls(&Sqe::parse(&entry))
        };
        for opcode in 0..=u8::MAX {
            let is_unjudged = calls(opcode) == [UNJUDGED];
            assert_eq!(is_unjudged, !is_supported(opcode), "operation {opcode}");
            let is_known = |number: &u32| unikernel_report::calls::name(*number).is_some();
            assert!(is_unjudged || calls(opcode).iter().all(is_known), "operation {opcode}");
        }
    }

    #[test]
    fn nothing_allows_what_is_not_judged() {
        assert!(!CallSet::ALL.contains(UNJUDGED) && !crate::policy::calls::allows(UNJUDGED));
        assert!(!CallRule::parse("all").unwrap().allowed.contains(UNJUDGED));
    }
}
