//! Sending and receiving (send(2), recv(2), sendmsg(2), recvmmsg(2), ...).

use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::net::{mmsghdr, msghdr};

use crate::abi::{Errno, SysResult};
use crate::file::{self, OpenFile, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::net::address::{self, Raw};
use crate::net::socket::{MessageFlags, Outgoing, Socket};
use crate::ops::buffers::MAX_TRANSFER_BYTES;
use crate::ops::message::{count_of, name_of, read_buffers, read_parts, receive_into};
use crate::ops::socket::SocketRef;
use crate::platform::time;
use crate::process::clocks::{ClockBase, read_deadline};

/// Messages in one call at most (Linux: `UIO_MAXIOV`).
const MAX_MESSAGES: usize = 1024;
/// `recvmmsg`: sleep for the first message only.
const MSG_WAITFORONE: u32 = 0x1_0000;

fn read_flags(bits: u32) -> Result<MessageFlags, Errno> {
    MessageFlags::from_bits(bits).ok_or(Errno::EOPNOTSUPP)
}

/// A flag that programs for 64 bits never set (Linux: `MSG_CMSG_COMPAT`); it is refused before the descriptor is
/// looked at.
fn check_compat(bits: u32) -> Result<(), Errno> {
    const MSG_CMSG_COMPAT: u32 = 1 << 31;
    if bits & MSG_CMSG_COMPAT != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// How a call with these flags may wait.
#[inline]
fn mode_of(opened: &OpenFile, flags: MessageFlags) -> WaitMode {
    if flags.contains(MessageFlags::DONT_WAIT) { WaitMode::NonBlocking } else { opened.wait_mode() }
}

/// sendto(2).
pub(crate) fn sys_sendto(
    descriptor: i32,
    buffer: u64,
    len: usize,
    flags: u32,
    to: u64,
    to_len: u32,
) -> SysResult {
    let buffers = [UserSlice::checked(buffer, len.min(MAX_TRANSFER_BYTES))?];
    // Not a `SocketRef`, which asks the open file again what it is whenever it is used.
    let opened = file::get(descriptor)?;
    let socket = opened.downcast::<Socket>().ok_or(Errno::ENOTSOCK)?;
    let flags = read_flags(flags)?;
    let mode = mode_of(&opened, flags);
    if to == 0 {
        return socket.send_bytes(&buffers, flags, mode);
    }
    let to = socket.destination_of(&Raw::read(to, to_len)?)?;
    socket.send(Outgoing { to, ..Outgoing::bytes(&buffers) }, flags, mode)
}

/// recvfrom(2).
pub(crate) fn sys_recvfrom(
    descriptor: i32,
    buffer: u64,
    len: usize,
    flags: u32,
    from: u64,
    from_len: UserPtr<u32>,
) -> SysResult {
    let buffers = [UserSlice::checked(buffer, len.min(MAX_TRANSFER_BYTES))?];
    let opened = file::get(descriptor)?;
    let socket = opened.downcast::<Socket>().ok_or(Errno::ENOTSOCK)?;
    let flags = read_flags(flags)?;
    let received = socket.receive(&buffers, flags, mode_of(&opened, flags))?;
    match &received.from {
        Some(sender) => address::write(sender, socket.family, from, from_len)?,
        None if from != 0 && !from_len.is_null() => from_len.write(0)?,
        None => {}
    }
    Ok(count_of(&received, flags))
}

/// sendmsg(2).
pub(crate) fn sys_sendmsg(descriptor: i32, message: UserPtr<msghdr>, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    send_one(&socket, &message.read()?, read_flags(flags)?)
}

fn send_one(socket: &SocketRef, header: &msghdr, flags: MessageFlags) -> SysResult {
    let (buffers, rights, control) = read_parts(header)?;
    let to = match name_of(header)? {
        None => None,
        Some((name, len)) => socket.destination_of(&Raw::read(name, len)?)?,
    };
    socket.send(Outgoing { buffers: &buffers, to, rights, control }, flags, mode_of(socket.opened(), flags))
}

/// recvmsg(2).
pub(crate) fn sys_recvmsg(descriptor: i32, message: UserPtr<msghdr>, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    receive_one(&socket, message, flags, mode_of(socket.opened(), flags))
}

fn receive_one(
    socket: &SocketRef,
    message: UserPtr<msghdr>,
    flags: MessageFlags,
    mode: WaitMode,
) -> SysResult {
    let buffers = read_buffers(&message.read()?)?;
    receive_into(socket, &buffers, message, flags, mode)
}

/// sendmmsg(2).
pub(crate) fn sys_sendmmsg(descriptor: i32, messages: UserPtr<mmsghdr>, count: u32, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    each_message(messages, count, |message| send_one(&socket, &message.cast::<msghdr>().read()?, flags))
}

/// recvmmsg(2). The time-out is looked at between messages, as in Linux.
pub(crate) fn sys_recvmmsg(
    descriptor: i32,
    messages: UserPtr<mmsghdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult {
    check_compat(flags)?;
    let deadline_ns = read_deadline(timeout, ClockBase::Relative)?;
    let socket = SocketRef::get(descriptor)?;
    let waits_for_one = flags & MSG_WAITFORONE != 0;
    let flags = read_flags(flags & !MSG_WAITFORONE)?;
    let mut mode = mode_of(socket.opened(), flags);
    let mut is_first = true;
    each_message(messages, count, |message| {
        if !is_first && deadline_ns.is_some_and(|deadline_ns| time::now_ns() >= deadline_ns) {
            return Err(Errno::EAGAIN);
        }
        is_first = false;
        let received = receive_one(&socket, message.cast(), flags, mode);
        if waits_for_one {
            mode = WaitMode::NonBlocking;
        }
        received
    })
}

/// Runs `step` for each message until it fails, and notes how long each was. An error counts only
/// if it comes first.
fn each_message(
    messages: UserPtr<mmsghdr>,
    count: u32,
    mut step: impl FnMut(UserPtr<mmsghdr>) -> SysResult,
) -> SysResult {
    let count = (count as usize).min(MAX_MESSAGES);
    for index in 0..count {
        let message = messages.element(index);
        match step(message) {
            Ok(len) => {
                message.field(core::mem::offset_of!(mmsghdr, msg_len)).write(len as u32)?;
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}
