//! Messages: what their headers say, and where what is received goes.

use linux_raw_sys::net::{MSG_OOB, MSG_TRUNC, msghdr};

use super::buffers::{self, Buffers, RawBuffer};
use super::socket::SocketRef;
use super::{control, control_out};
use crate::abi::{Errno, SysResult};
use crate::file::WaitMode;
use crate::file::table::OnExec;
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::net::address;
use crate::net::socket::{Beside, MessageFlags, Received, SendControl};
use crate::net::unix::Rights;

/// Buffers in one call at most (`UIO_MAXIOV`).
const MAX_BUFFERS: usize = 1024;

/// The buffers that a message's header names.
pub(crate) fn read_buffers(header: &msghdr) -> Result<Buffers, Errno> {
    if header.msg_iovlen > MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    buffers::read_buffers(UserPtr::<RawBuffer>::new(header.msg_iov.addr() as u64), header.msg_iovlen)
}

/// What a call answers that has received so much.
pub(crate) fn count_of(received: &Received, flags: MessageFlags) -> usize {
    if flags.contains(MessageFlags::TRUNCATE) { received.full_len } else { received.len }
}

/// What a message to be sent consists of, but for its address.
pub(crate) fn read_parts(header: &msghdr) -> Result<(Buffers, Rights, SendControl), Errno> {
    let buffers = read_buffers(header)?;
    let (rights, control) = control::read(header)?;
    Ok((buffers, rights, control))
}

/// Where a message's header has an address, and how long that is. Without a length there is none.
pub(crate) fn name_of(header: &msghdr) -> Result<Option<(u64, u32)>, Errno> {
    let (place, len) = (header.msg_name.addr() as u64, header.msg_namelen);
    match u32::try_from(len) {
        Err(_) => Err(Errno::EINVAL),
        Ok(len) => Ok((place != 0 && len != 0).then_some((place, len))),
    }
}

/// Receives a message; its header then says what came beside the bytes.
pub(crate) fn receive_into(
    socket: &SocketRef,
    buffers: &[UserSlice],
    message: UserPtr<msghdr>,
    flags: MessageFlags,
    mode: WaitMode,
) -> SysResult {
    let header = message.read()?;
    let mut received = socket.receive(buffers, flags, mode)?;
    let name = header.msg_name.addr() as u64;
    // Only what changes is written: the header has gaps between its fields, and they are the app's.
    let name_len: UserPtr<u32> = message.field(core::mem::offset_of!(msghdr, msg_namelen));
    match &received.from {
        Some(sender) => address::write(sender, socket.family, name, name_len)?,
        None => name_len.write(0)?,
    }
    let on_exec = if flags.contains(MessageFlags::CLOSE_ON_EXEC) { OnExec::Close } else { OnExec::Keep };
    let (control_len, control_flags) = control_out::write(&header, socket, &mut received, on_exec)?;
    message.field(core::mem::offset_of!(msghdr, msg_controllen)).write(control_len)?;
    let urgent = if matches!(received.beside, Beside::Urgent) { MSG_OOB } else { 0 };
    let flags_told = if received.full_len > received.len { MSG_TRUNC } else { 0 } | control_flags | urgent;
    message.field(core::mem::offset_of!(msghdr, msg_flags)).write(flags_told)?;
    Ok(count_of(&received, flags))
}

/// Where the parts of a message lie in one buffer: a header of four words (`struct io_uring_recvmsg_out`),
/// room for the name and for control messages, and the bytes.
const PACKED_HEADER_BYTES: usize = 16;

/// Bytes for the parts in front of the message's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// For the sender's address.
    pub name: usize,
    /// For control messages.
    pub control: usize,
}

/// Receives a message into one buffer, name and all (io_uring_recvmsg_out(3)). Answers the bytes of the
/// buffer that are in use.
pub(crate) fn receive_packed(
    socket: &SocketRef,
    buffer: UserSlice,
    room: Room,
    flags: MessageFlags,
) -> SysResult {
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
