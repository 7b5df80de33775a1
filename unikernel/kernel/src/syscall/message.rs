//! Sending and receiving (send(2), recv(2), sendmsg(2), recvmmsg(2), ...).

use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::net::{MSG_OOB, MSG_TRUNC, mmsghdr, msghdr};

use super::io::{self, Buffers, MAX_TRANSFER_BYTES, RawBuffer};
use super::socket::SocketRef;
use super::{control, control_out};
use crate::abi::{Errno, SysResult};
use crate::file::WaitMode;
use crate::file::table::OnExec;
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::net::address::{self, Raw};
use crate::net::socket::{Beside, MessageFlags, Outgoing, Received, SendControl};
use crate::net::unix::Rights;
use crate::platform::time;
use crate::task::clocks::{ClockBase, read_deadline};
use crate::user_abi;

user_abi!(msghdr, mmsghdr);

/// Buffers in one call at most (`UIO_MAXIOV`).
const MAX_BUFFERS: usize = 1024;
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
fn mode_of(socket: &SocketRef, flags: MessageFlags) -> WaitMode {
    if flags.contains(MessageFlags::DONT_WAIT) { WaitMode::NonBlocking } else { socket.wait_mode() }
}

/// The buffers that a message's header names.
pub fn read_buffers(header: &msghdr) -> Result<Buffers, Errno> {
    if header.msg_iovlen > MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    io::read_buffers(UserPtr::<RawBuffer>::new(header.msg_iov.addr() as u64), header.msg_iovlen)
}

/// sendto(2).
pub fn sys_sendto(descriptor: i32, buffer: u64, len: usize, flags: u32, to: u64, to_len: u32) -> SysResult {
    let buffers = [UserSlice::checked(buffer, len.min(MAX_TRANSFER_BYTES))?];
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    if to == 0 {
        return socket.send_bytes(&buffers, flags, mode_of(&socket, flags));
    }
    let to = socket.destination_of(&Raw::read(to, to_len)?)?;
    socket.send(Outgoing { to, ..Outgoing::bytes(&buffers) }, flags, mode_of(&socket, flags))
}

/// recvfrom(2).
pub fn sys_recvfrom(
    descriptor: i32,
    buffer: u64,
    len: usize,
    flags: u32,
    from: u64,
    from_len: UserPtr<u32>,
) -> SysResult {
    let buffers = [UserSlice::checked(buffer, len.min(MAX_TRANSFER_BYTES))?];
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    let received = socket.receive(&buffers, flags, mode_of(&socket, flags))?;
    match &received.from {
        Some(sender) => address::write(sender, socket.family, from, from_len)?,
        None if from != 0 && !from_len.is_null() => from_len.write(0)?,
        None => {}
    }
    Ok(count_of(&received, flags))
}

fn count_of(received: &Received, flags: MessageFlags) -> usize {
    if flags.contains(MessageFlags::TRUNCATE) { received.full_len } else { received.len }
}

/// sendmsg(2).
pub fn sys_sendmsg(descriptor: i32, message: UserPtr<msghdr>, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    send_one(&socket, &message.read()?, read_flags(flags)?)
}

/// What a message to be sent consists of, but for its address.
pub fn read_parts(header: &msghdr) -> Result<(Buffers, Rights, SendControl), Errno> {
    let buffers = read_buffers(header)?;
    let (rights, control) = control::read(header)?;
    Ok((buffers, rights, control))
}

/// Where a message's header has an address, and how long that is. Without a length there is none.
pub fn name_of(header: &msghdr) -> Result<Option<(u64, u32)>, Errno> {
    let (place, len) = (header.msg_name.addr() as u64, header.msg_namelen);
    match u32::try_from(len) {
        Err(_) => Err(Errno::EINVAL),
        Ok(len) => Ok((place != 0 && len != 0).then_some((place, len))),
    }
}

fn send_one(socket: &SocketRef, header: &msghdr, flags: MessageFlags) -> SysResult {
    let (buffers, rights, control) = read_parts(header)?;
    let to = match name_of(header)? {
        None => None,
        Some((name, len)) => socket.destination_of(&Raw::read(name, len)?)?,
    };
    socket.send(Outgoing { buffers: &buffers, to, rights, control }, flags, mode_of(socket, flags))
}

/// recvmsg(2).
pub fn sys_recvmsg(descriptor: i32, message: UserPtr<msghdr>, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    receive_one(&socket, message, flags, mode_of(&socket, flags))
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

/// Receives a message; its header then says what came beside the bytes.
pub fn receive_into(
    socket: &SocketRef,
    buffers: &[UserSlice],
    message: UserPtr<msghdr>,
    flags: MessageFlags,
    mode: WaitMode,
) -> SysResult {
    let mut header = message.read()?;
    let mut received = socket.receive(buffers, flags, mode)?;
    let name = header.msg_name.addr() as u64;
    let name_len = UserPtr::<u32>::new(message.address() + core::mem::offset_of!(msghdr, msg_namelen) as u64);
    if let Some(sender) = &received.from {
        address::write(sender, socket.family, name, name_len)?;
        header.msg_namelen = name_len.read()? as i32;
    } else {
        header.msg_namelen = 0;
    }
    let on_exec = if flags.contains(MessageFlags::CLOSE_ON_EXEC) { OnExec::Close } else { OnExec::Keep };
    let (control_len, control_flags) = control_out::write(&header, socket, &mut received, on_exec)?;
    header.msg_controllen = control_len as _;
    let urgent = if matches!(received.beside, Beside::Urgent) { MSG_OOB } else { 0 };
    header.msg_flags = if received.full_len > received.len { MSG_TRUNC } else { 0 } | control_flags | urgent;
    message.write(header)?;
    Ok(count_of(&received, flags))
}

/// Where the parts of a message lie in one buffer: a header of four words (`struct io_uring_recvmsg_out`),
/// room for the name and for control messages, and the bytes.
const PACKED_HEADER_BYTES: usize = 16;

/// Bytes for the parts in front of the message's own.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// For the sender's address.
    pub name: usize,
    /// For control messages.
    pub control: usize,
}

/// Receives a message into one buffer, name and all (io_uring_recvmsg_out(3)). Answers the bytes of the
/// buffer that are in use.
pub fn receive_packed(socket: &SocketRef, buffer: UserSlice, room: Room, flags: MessageFlags) -> SysResult {
    let head_len = PACKED_HEADER_BYTES.saturating_add(room.name).saturating_add(room.control);
    if buffer.len() < head_len {
        return Err(Errno::EFAULT);
    }
    let mut received = socket.receive(&[buffer.skip(head_len)], flags, WaitMode::NonBlocking)?;
    let words = UserPtr::<u32>::new(buffer.address());
    words.write(room.name as u32)?;
    match &received.from {
        Some(sender) => {
            address::write(sender, socket.family, buffer.address() + PACKED_HEADER_BYTES as u64, words)?;
        }
        None => words.write(0)?,
    }
    let control = buffer.address() as usize + PACKED_HEADER_BYTES + room.name;
    let place = msghdr {
        msg_control: core::ptr::without_provenance_mut(control),
        msg_controllen: room.control,
        ..msghdr::zeroed()
    };
    let (control_len, control_flags) = control_out::write(&place, socket, &mut received, OnExec::Close)?;
    let is_cut = received.full_len > received.len;
    words.element(1).write(control_len as u32)?;
    words.element(2).write(count_of(&received, flags) as u32)?;
    words.element(3).write(if is_cut { MSG_TRUNC } else { 0 } | control_flags)?;
    Ok(head_len + received.len)
}

/// sendmmsg(2).
pub fn sys_sendmmsg(descriptor: i32, messages: UserPtr<mmsghdr>, count: u32, flags: u32) -> SysResult {
    check_compat(flags)?;
    let socket = SocketRef::get(descriptor)?;
    let flags = read_flags(flags)?;
    each_message(messages, count, |message| send_one(&socket, &message.cast::<msghdr>().read()?, flags))
}

/// recvmmsg(2). The time-out is looked at between messages, as in Linux.
pub fn sys_recvmmsg(
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
    let mut mode = mode_of(&socket, flags);
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
    let count = (count as usize).min(MAX_BUFFERS);
    for index in 0..count {
        let message = messages.element(index);
        match step(message) {
            Ok(len) => {
                let offset = core::mem::offset_of!(mmsghdr, msg_len) as u64;
                UserPtr::new(message.address() + offset).write(len as u32)?;
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}
