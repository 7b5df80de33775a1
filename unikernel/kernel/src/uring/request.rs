//! One request: what an entry asks for, read and checked when it is submitted, so that the app may reuse its
//! structures then (`IORING_FEAT_SUBMIT_STABLE`); only a `msghdr` to receive into must stay.

use alloc::boxed::Box;
use alloc::sync::Arc;

use linux_raw_sys::general::{__kernel_timespec, RWF_NOWAIT};
use linux_raw_sys::io_uring::*;
use linux_raw_sys::net::{MSG_NOSIGNAL, msghdr};
use smallvec::smallvec;
use unikernel_policy::access::Domain;

use super::buffers::Selected;
use super::operation::{self, opcode};
use super::slots::Key;
use super::splice::Splice;
use super::sqe::{Sqe, SqeFlags};
use super::timeout::Timeout;
use crate::abi::Errno;
use crate::file::poll_source::Watch;
use crate::file::{OpenFile, Readiness};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::net::address::Raw;
use crate::net::socket::{MessageFlags, SendControl};
use crate::net::unix::Rights;
use crate::ops::buffers::{Buffers, RawBuffer, read_buffers};
use crate::ops::message;
use crate::ops::message::Room;
use crate::policy::calls;
use crate::task::confinement;
use crate::task::release::release;
use crate::task::timer::Timer;

/// What is to be done.
pub(super) enum Action {
    /// A call that never waits: its handler does it ([`operation::call`]).
    Call,
    /// read(2), readv(2), pread(2) and so on; the place is where the file stands if there is none.
    Read { buffers: Buffers, offset: Option<u64> },
    /// write(2) and so on.
    Write { buffers: Buffers, offset: Option<u64> },
    /// send(2), sendto(2), sendmsg(2).
    Send { buffers: Buffers, to: Option<Raw>, rights: Rights, control: SendControl, flags: MessageFlags },
    /// recv(2).
    Receive { buffers: Buffers, flags: MessageFlags },
    /// recvmsg(2): what came beside the bytes goes to the message's header.
    ReceiveMessage { message: UserPtr<msghdr>, room: Room, buffers: Buffers, flags: MessageFlags },
    /// accept4(2).
    Accept,
    /// connect(2).
    Connect { to: Raw, has_begun: bool },
    /// poll(2) for one file.
    Poll { wanted: Readiness, is_one_shot: bool },
    /// splice(2), tee(2).
    Splice(Splice),
    /// A time to wait for.
    Timeout(Timeout),
    /// Refused when it was read.
    Refused(Errno),
}

/// A request on its way.
pub(super) struct Request {
    pub(super) sqe: Sqe,
    pub(super) action: Action,
    /// What binds who has submitted it.
    pub(super) domain: Option<Arc<Domain>>,
    /// What the descriptor led to when the request was started.
    pub(super) file: Option<Arc<OpenFile>>,
    /// Where it is parked, once it had to wait.
    pub(super) key: Option<Key>,
    pub(super) watch: Option<Arc<Watch>>,
    /// The file that it waits for, if that is another.
    pub(super) awaited: Option<Arc<OpenFile>>,
    /// The provided buffer that was taken for it.
    pub(super) selected: Option<Selected>,
    /// Bytes that were moved, for requests that want all.
    pub(super) done: usize,
    /// Somebody wants it to end.
    pub(super) is_cancelled: bool,
    /// A worker has it, or had it.
    pub(super) is_with_worker: bool,
    pub(super) timer: Option<Timer>,
    /// The linked time-out that watches over it.
    pub(super) guard: Option<Key>,
    /// The rest of its chain.
    pub(super) next: Option<Box<Request>>,
}

impl Request {
    /// Reads what the entry points to.
    pub(super) fn new(sqe: Sqe) -> Box<Self> {
        let action = room::ask_locked()
            .map_err(Errno::from)
            .and_then(|()| {
                let is_there = operation::is_supported(sqe.opcode);
                if is_there { calls::check_ring(operation::same_calls(&sqe)) } else { Err(Errno::EINVAL) }
            })
            .and_then(|()| prepare(&sqe));
        let action = action.unwrap_or_else(Action::Refused);
        Box::new(Self {
            sqe,
            action,
            domain: confinement::domain(),
            file: None,
            key: None,
            watch: None,
            awaited: None,
            selected: None,
            done: 0,
            is_cancelled: false,
            is_with_worker: false,
            timer: None,
            guard: None,
            next: None,
        })
    }

    /// True if the request goes on after a completion.
    pub(super) fn is_multishot(&self) -> bool {
        match &self.action {
            Action::Accept => u32::from(self.sqe.ioprio) & IORING_ACCEPT_MULTISHOT != 0,
            Action::Receive { .. } | Action::ReceiveMessage { .. } => {
                u32::from(self.sqe.ioprio) & IORING_RECV_MULTISHOT != 0
            }
            Action::Read { .. } => self.sqe.opcode == opcode::READ_MULTISHOT,
            Action::Poll { is_one_shot, .. } => !is_one_shot,
            Action::Timeout(timeout) => timeout.repeats(),
            _ => false,
        }
    }

    /// True if a link timeout may watch over a request, of which it is the next.
    pub(super) fn is_link_timeout(&self) -> bool {
        self.sqe.opcode == opcode::LINK_TIMEOUT
    }

    /// How much of a provided buffer the app wants to be used; 0 for all.
    pub(super) fn most_bytes(&self) -> usize {
        match &self.action {
            Action::ReceiveMessage { .. } if self.is_multishot() => 0,
            Action::ReceiveMessage { buffers, .. } | Action::Read { buffers, .. } => {
                buffers.first().map_or(0, UserSlice::len)
            }
            _ => self.sqe.len as usize,
        }
    }

    /// True if the first attempt is not made before the file is ready.
    pub(super) fn polls_first(&self) -> bool {
        matches!(self.action, Action::Receive { .. } | Action::ReceiveMessage { .. } | Action::Send { .. })
            && u32::from(self.sqe.ioprio) & IORING_RECVSEND_POLL_FIRST != 0
    }

    /// True if `EAGAIN` is the answer rather than a reason to wait.
    pub(super) fn is_impatient(&self) -> bool {
        let is_nonblocking = self.file.as_ref().is_some_and(|opened| {
            opened.wait_mode() == crate::file::WaitMode::NonBlocking
                && !matches!(self.action, Action::Poll { .. })
        });
        let says_so = match &self.action {
            Action::Read { .. } | Action::Write { .. } => self.sqe.op_flags & RWF_NOWAIT != 0,
            Action::Send { flags, .. }
            | Action::Receive { flags, .. }
            | Action::ReceiveMessage { flags, .. } => flags.contains(MessageFlags::DONT_WAIT),
            Action::Accept => u32::from(self.sqe.ioprio) & IORING_ACCEPT_DONTWAIT != 0,
            Action::Call | Action::Refused(_) => true,
            _ => false,
        };
        is_nonblocking || says_so
    }
}

impl Drop for Request {
    /// What it was the last to keep open is closed, one after the other: a ring among it has requests of its own.
    fn drop(&mut self) {
        let (from, rights) = match &mut self.action {
            Action::Splice(splice) => (splice.from.take(), Rights::new()),
            Action::Send { rights, .. } => (None, core::mem::take(rights)),
            _ => (None, Rights::new()),
        };
        let files = [self.file.take(), self.awaited.take(), from];
        release(files.into_iter().flatten().chain(rights));
        // A chain is as long as the app likes.
        let mut next = self.next.take();
        while let Some(mut request) = next {
            next = request.next.take();
        }
    }
}

fn one(sqe: &Sqe) -> Buffers {
    smallvec![UserSlice::new(sqe.addr, sqe.len as usize)]
}

fn list(sqe: &Sqe) -> Result<Buffers, Errno> {
    read_buffers(UserPtr::<RawBuffer>::new(sqe.addr), sqe.len as usize)
}

/// -1 stands for where the file is (`IORING_FEAT_RW_CUR_POS`).
fn offset(sqe: &Sqe) -> Option<u64> {
    (sqe.off != u64::MAX).then_some(sqe.off)
}

fn message_flags(sqe: &Sqe) -> Result<MessageFlags, Errno> {
    // Nobody is there to take a signal.
    let bits = sqe.op_flags | MSG_NOSIGNAL;
    MessageFlags::from_bits(bits).ok_or(Errno::EOPNOTSUPP)
}

fn prepare(sqe: &Sqe) -> Result<Action, Errno> {
    if sqe.flags.bits() & !SqeFlags::all().bits() != 0 || sqe.personality != 0 {
        return Err(Errno::EINVAL);
    }
    check_selection(sqe)?;
    Ok(match sqe.opcode {
        opcode::READ | opcode::READ_FIXED | opcode::READ_MULTISHOT => {
            Action::Read { buffers: one(sqe), offset: offset(sqe) }
        }
        opcode::READV => Action::Read { buffers: list(sqe)?, offset: offset(sqe) },
        opcode::WRITE | opcode::WRITE_FIXED => Action::Write { buffers: one(sqe), offset: offset(sqe) },
        opcode::WRITEV => Action::Write { buffers: list(sqe)?, offset: offset(sqe) },
        opcode::SEND | opcode::SEND_ZC => Action::Send {
            buffers: one(sqe),
            to: address(sqe.off, sqe.file_index & 0xffff)?,
            rights: Rights::new(),
            control: SendControl::default(),
            flags: message_flags(sqe)?,
        },
        opcode::SENDMSG | opcode::SENDMSG_ZC => {
            let header = UserPtr::<msghdr>::new(sqe.addr).read()?;
            let (buffers, rights, control) = message::read_parts(&header)?;
            let to = match message::name_of(&header)? {
                Some((place, len)) => address(place, len)?,
                None => None,
            };
            Action::Send { buffers, to, rights, control, flags: message_flags(sqe)? }
        }
        opcode::RECV => Action::Receive { buffers: one(sqe), flags: message_flags(sqe)? },
        opcode::RECVMSG => {
            let message = UserPtr::<msghdr>::new(sqe.addr);
            let header = message.read()?;
            let buffers = message::read_buffers(&header)?;
            let room = Room { name: header.msg_namelen.max(0) as usize, control: header.msg_controllen };
            Action::ReceiveMessage { message, room, buffers, flags: message_flags(sqe)? }
        }
        opcode::ACCEPT => Action::Accept,
        opcode::CONNECT => {
            let to = address(sqe.addr, sqe.off as u32)?.ok_or(Errno::EFAULT)?;
            Action::Connect { to, has_begun: false }
        }
        opcode::POLL_ADD => poll(sqe)?,
        opcode::SPLICE | opcode::TEE => Action::Splice(Splice::read(sqe)?),
        opcode::TIMEOUT | opcode::LINK_TIMEOUT => {
            Action::Timeout(Timeout::read(sqe, UserPtr::<__kernel_timespec>::new(sqe.addr))?)
        }
        other if operation::is_supported(other) => Action::Call,
        _ => return Err(Errno::EINVAL),
    })
}

/// Which operations take a buffer of the kernel's choice, and into how many they read then.
fn check_selection(sqe: &Sqe) -> Result<(), Errno> {
    if !sqe.flags.contains(SqeFlags::BUFFER_SELECT) {
        return Ok(());
    }
    match sqe.opcode {
        opcode::READV if sqe.len != 1 => Err(Errno::EINVAL),
        opcode::READ | opcode::READV | opcode::READ_MULTISHOT | opcode::RECV | opcode::RECVMSG => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn address(place: u64, len: u32) -> Result<Option<Raw>, Errno> {
    if place == 0 { Ok(None) } else { Raw::read(place, len).map(Some) }
}

fn poll(sqe: &Sqe) -> Result<Action, Errno> {
    if sqe.len & !(IORING_POLL_ADD_MULTI | IORING_POLL_ADD_LEVEL) != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = Readiness::from_bits_truncate(sqe.op_flags) | Readiness::ALWAYS;
    Ok(Action::Poll { wanted, is_one_shot: sqe.len & IORING_POLL_ADD_MULTI == 0 })
}
