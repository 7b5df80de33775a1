//! Message queues (mq_open(2) and relatives).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_vfs::access::Wanted;

use crate::abi::{Errno, SysResult};
use crate::file::table::OnExec;
use crate::file::{self, FileFlags, OpenFile};
use crate::fs;
use crate::ipc::message_queue::{
    self, COOKIE_BYTES, DEFAULT_MESSAGE_BYTES, DEFAULT_MESSAGES, MAX_MESSAGE_BYTES, MAX_MESSAGES, Making,
    Message, OpenError, PRIORITIES, Queue, QueueFile, Registration, Shape,
};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::net::address::Family;
use crate::net::socket::Socket;
use crate::ops::path::read_path;
use crate::process::clocks::{ClockBase, read_deadline};
use crate::task::credentials::{self, Capability};
use crate::task::process::PROCESS_ID;
use crate::task::signal::{MAX_SIGNAL, SignalInfo};

/// `struct mq_attr`: flags, most messages, bytes of each, messages; the rest is reserved.
type QueueAttributes = [i64; 8];
/// The start of `struct sigevent`: value, signal or socket, how to notify.
type Event = [u32; 4];

/// `si_code` of a signal that tells of a message (siginfo.h).
const SI_MESGQ: i32 = -3;
/// Bits of an access mode that mean nothing together.
const NO_ACCESS: u32 = O_WRONLY | O_RDWR;

/// A name, which the C library gives without the slash.
fn read_name(name: UserPtr<u8>) -> Result<Vec<u8>, Errno> {
    let name = read_path(name)?;
    match &name[..] {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        name if name.len() > unikernel_fs::MAX_NAME_BYTES => Err(Errno::ENAMETOOLONG),
        _ => Ok(name),
    }
}

/// What the attributes ask for, if the caller may have that.
fn shape_of(attributes: Option<QueueAttributes>) -> Option<Shape> {
    let Some([_, messages, bytes, ..]) = attributes else {
        return Some(Shape { max_messages: DEFAULT_MESSAGES, message_bytes: DEFAULT_MESSAGE_BYTES });
    };
    let (most_messages, most_bytes) = match credentials::has(Capability::SysResource) {
        true => (MAX_MESSAGES, MAX_MESSAGE_BYTES),
        false => (DEFAULT_MESSAGES, DEFAULT_MESSAGE_BYTES),
    };
    let within = |value, most| usize::try_from(value).ok().filter(|&value| value > 0 && value <= most);
    Some(Shape { max_messages: within(messages, most_messages)?, message_bytes: within(bytes, most_bytes)? })
}

/// mq_open(2).
pub(crate) fn sys_mq_open(
    name: UserPtr<u8>,
    flags: u32,
    mode: u32,
    attributes: UserPtr<QueueAttributes>,
) -> SysResult {
    let attributes = attributes.non_null().map(UserPtr::read).transpose()?;
    let name = read_name(name)?;
    let making = (flags & O_CREAT != 0).then(|| Making {
        shape: shape_of(attributes),
        mode: mode & 0o7777 & !fs::mask(),
        is_exclusive: flags & O_EXCL != 0,
    });
    let reserved = file::table::reserve()?;
    let wanted = match flags & O_ACCMODE {
        O_RDONLY => Wanted::READ,
        O_WRONLY => Wanted::WRITE,
        _ => Wanted::READ.and(Wanted::WRITE),
    };
    let (queue, is_new) = message_queue::open(&name, making, wanted).map_err(|error| match error {
        OpenError::Absent => Errno::ENOENT,
        OpenError::Exists => Errno::EEXIST,
        OpenError::Denied => Errno::EACCES,
        OpenError::TooMany => Errno::ENOSPC,
        OpenError::Shape => Errno::EINVAL,
        OpenError::Limit => Errno::EMFILE,
    })?;
    if !is_new && flags & O_ACCMODE == NO_ACCESS {
        return Err(Errno::EINVAL);
    }
    let status = FileFlags::from_bits_truncate(flags & (O_ACCMODE | O_NONBLOCK));
    Ok(reserved.install(file::open(Arc::new(QueueFile { queue }), status), OnExec::Close))
}

/// mq_unlink(2).
pub(crate) fn sys_mq_unlink(name: UserPtr<u8>) -> SysResult {
    message_queue::unlink(&read_name(name)?).map(|()| 0)
}

/// The queue that a descriptor stands for; `EBADF` for other files, too.
fn queue_of(opened: &OpenFile) -> Result<&Queue, Errno> {
    opened.downcast::<QueueFile>().map(|file| &*file.queue).ok_or(Errno::EBADF)
}

/// mq_timedsend(2).
pub(crate) fn sys_mq_timedsend(
    fd: i32,
    message: UserPtr<u8>,
    len: usize,
    priority: u32,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult {
    let deadline_ns = read_deadline(timeout, ClockBase::AbsoluteWall)?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let queue = queue_of(&opened)?;
    if !opened.flags().can_write() {
        return Err(Errno::EBADF);
    }
    if len > queue.shape.message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = room::filled(0, len)?;
    UserSlice::checked(message.address(), len)?.read(&mut bytes)?;
    queue.send(Message { priority, bytes }, opened.wait_mode(), deadline_ns)?;
    Ok(0)
}

/// mq_timedreceive(2). A message that cannot be written where the app said is lost, as on Linux.
pub(crate) fn sys_mq_timedreceive(
    fd: i32,
    into: UserPtr<u8>,
    len: usize,
    priority: UserPtr<u32>,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult {
    let deadline_ns = read_deadline(timeout, ClockBase::AbsoluteWall)?;
    let opened = file::get(fd)?;
    let queue = queue_of(&opened)?;
    if !opened.flags().can_read() {
        return Err(Errno::EBADF);
    }
    if len < queue.shape.message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    let message = queue.receive(opened.wait_mode(), deadline_ns)?;
    if let Some(priority) = priority.non_null() {
        priority.write(message.priority)?;
    }
    UserSlice::checked(into.address(), message.bytes.len())?.write(&message.bytes)?;
    Ok(message.bytes.len())
}

/// mq_notify(2).
pub(crate) fn sys_mq_notify(fd: i32, event: UserPtr<Event>) -> SysResult {
    let event = event.non_null().map(UserPtr::read).transpose()?;
    let registration = event.map(registration_of).transpose()?;
    let opened = file::get(fd)?;
    let queue = queue_of(&opened)?;
    match registration {
        None => queue.unregister(),
        Some(registration) => queue.register(registration).map_err(|_| Errno::EBUSY)?,
    }
    Ok(0)
}

/// Who is to be told.
fn registration_of([low, high, signal, notify]: Event) -> Result<Registration, Errno> {
    let value = u64::from(high) << 32 | u64::from(low);
    match notify {
        SIGEV_NONE => Ok(Registration::Nobody),
        SIGEV_SIGNAL if signal <= MAX_SIGNAL => {
            let detail = PROCESS_ID as u64;
            Ok(Registration::Signal(SignalInfo { signal, code: SI_MESGQ, detail, value, timer: None }))
        }
        SIGEV_THREAD => {
            let cookie: [u8; COOKIE_BYTES] = UserPtr::new(value).read()?;
            // The signal's place has a netlink socket.
            let opened = file::get(signal as i32)?;
            match opened.downcast::<Socket>() {
                None => Err(Errno::ENOTSOCK),
                Some(socket) if socket.family != Family::Netlink => Err(Errno::EINVAL),
                Some(_) => Ok(Registration::Socket(Arc::clone(&opened.file), cookie)),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// mq_getsetattr(2): of the new attributes only `O_NONBLOCK` counts.
pub(crate) fn sys_mq_getsetattr(
    fd: i32,
    new: UserPtr<QueueAttributes>,
    old: UserPtr<QueueAttributes>,
) -> SysResult {
    let new = new.non_null().map(UserPtr::read).transpose()?;
    if new.is_some_and(|[flags, ..]| flags & !i64::from(O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let queue = queue_of(&opened)?;
    let flags = opened.flags() & FileFlags::NONBLOCK;
    if let Some([wanted, ..]) = new {
        opened.set_flags(FileFlags::NONBLOCK, FileFlags::from_bits_truncate(wanted as u32));
    }
    if let Some(old) = old.non_null() {
        let Shape { max_messages, message_bytes } = queue.shape;
        let flags = i64::from(flags.bits());
        old.write([flags, max_messages as i64, message_bytes as i64, queue.count() as i64, 0, 0, 0, 0])?;
    }
    Ok(0)
}
