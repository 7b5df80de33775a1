//! One attempt at a request that may have to wait: the transfer without sleeping, whichever core and whichever
//! thread's time it is. There is one address space, so the app's memory is at hand everywhere.

use alloc::sync::Arc;

use linux_raw_sys::io_uring::*;
use linux_raw_sys::net::SOCK_STREAM;

use super::Ring;
use super::operation::{self, opcode};
use super::request::{Action, Request};
use super::sqe::{Sqe, SqeFlags};
use crate::abi::{Errno, SysResult};
use crate::file::table::{OnExec, Reserved, on_exec_of};
use crate::file::{self, FileFlags, OpenFile, Readiness, WaitMode, complete};
use crate::mem::user::{UserPtr, UserSlice};
use crate::net::address::{self, Raw};
use crate::net::events;
use crate::net::socket::{MessageFlags, Outgoing, Socket, kind_number};
use crate::ops::buffers::Buffers;
use crate::ops::socket::SocketRef;
use crate::ops::{self, message};
use crate::task::release::release;

/// How an attempt ended.
pub(super) enum Attempt {
    /// With a result; for a multishot request, this is its last.
    Done(SysResult, u32),
    /// The file has to become ready for this first.
    Blocked(Readiness),
    /// Its time has to come.
    Waits,
}

impl Ring {
    /// Tries to get a request done.
    pub(super) fn attempt(&self, request: &mut Request) -> Attempt {
        if request.is_cancelled {
            return Attempt::Done(Err(Errno::ECANCELED), 0);
        }
        if matches!(request.action, Action::Timeout(_)) {
            return Attempt::Waits;
        }
        if let Action::Poll { wanted, is_one_shot } = request.action {
            return self.poll(request, wanted, is_one_shot);
        }
        if matches!(request.action, Action::Splice(_)) {
            return self.splice(request);
        }
        let wanted = match &request.action {
            Action::Write { .. } | Action::Send { .. } | Action::Connect { .. } => Readiness::WRITABLE,
            _ => Readiness::READABLE,
        };
        let mut has_posted = false;
        loop {
            let result = self.step(request, wanted, has_posted);
            let flags = request.selected.map_or(0, |selected| selected.cqe_flags());
            match result {
                Err(Errno::EAGAIN) if !request.is_impatient() => return Attempt::Blocked(wanted),
                Ok(count) if goes_on(request, count) => {
                    request.selected = None;
                    request.done = 0;
                    has_posted = true;
                    if !self.post(request.sqe.user_data, count as i32, flags | IORING_CQE_F_MORE) {
                        // The queue is full: whoever wants more asks anew.
                        return Attempt::Done(Err(Errno::ECANCELED), 0);
                    }
                }
                Ok(count) if count > 0 => return Attempt::Done(result, flags),
                _ => {
                    // The end, or an error: nothing was put into the buffer.
                    if let Some(selected) = request.selected.take() {
                        self.registered.lock().give_back(request.sqe.buf, selected);
                    }
                    return Attempt::Done(result, 0);
                }
            }
        }
    }

    fn step(&self, request: &mut Request, wanted: Readiness, has_posted: bool) -> SysResult {
        if let Action::Refused(error) = request.action {
            return Err(error);
        }
        if matches!(request.action, Action::Call) {
            return operation::call(self, request);
        }
        if request.polls_first() && request.key.is_none() {
            return Err(Errno::EAGAIN);
        }
        let opened = Arc::clone(request.file.as_ref().ok_or(Errno::EBADF)?);
        if request.sqe.flags.contains(SqeFlags::BUFFER_SELECT) && request.selected.is_none() {
            let (group, len) = (request.sqe.buf, request.most_bytes());
            // A buffer is taken only when there is something for it.
            if !opened.file.readiness().intersects(wanted | Readiness::ALWAYS | Readiness::RDHUP) {
                let has_buffer = !tells_shortage(request, &opened, has_posted)
                    || complete(|| self.registered.lock().has_buffer(group))?;
                return Err(if has_buffer { Errno::EAGAIN } else { Errno::ENOBUFS });
            }
            request.selected = Some(complete(|| self.registered.lock().select(group, len))?);
        }
        let is_multishot = request.is_multishot();
        let sqe = &request.sqe;
        let chosen = request.selected.map(|selected| [selected.buffer]);
        match &mut request.action {
            Action::Read { buffers, offset } => {
                self.check_fixed(sqe, buffers)?;
                read(&opened, chosen.as_ref().map_or(&buffers[..], |chosen| chosen), *offset)
            }
            Action::Write { buffers, offset } => {
                self.check_fixed(sqe, buffers)?;
                write(&opened, buffers, *offset)
            }
            Action::Receive { buffers, flags } => {
                let socket = SocketRef::of(opened)?;
                let all = chosen.as_ref().map_or(&buffers[..], |chosen| chosen);
                let rest: Buffers = rest(all, request.done);
                let received = socket.receive(&rest, *flags, WaitMode::NonBlocking);
                progress(&mut request.done, all, *flags, received.map(|received| received.len))
            }
            Action::ReceiveMessage { message, room, buffers, flags } => {
                let socket = SocketRef::of(opened)?;
                match chosen {
                    Some([chosen]) if is_multishot => message::receive_packed(&socket, chosen, *room, *flags),
                    chosen => {
                        let into = chosen.as_ref().map_or(&buffers[..], |chosen| chosen);
                        message::receive_into(&socket, into, *message, *flags, WaitMode::NonBlocking)
                    }
                }
            }
            Action::Send { buffers, to, rights, control, flags } => {
                let socket = SocketRef::of(opened)?;
                let to = match to {
                    Some(raw) => socket.destination_of(raw)?,
                    None => None,
                };
                let rest: Buffers = rest(buffers, request.done);
                let (rights, control) = (rights.clone(), *control);
                let message = Outgoing { buffers: &rest, to, rights, control };
                let sent = socket.send(message, *flags, WaitMode::NonBlocking);
                progress(&mut request.done, buffers, *flags, sent)
            }
            Action::Accept => self.accept(&SocketRef::of(opened)?, &request.sqe),
            Action::Connect { to, has_begun } => connect(&SocketRef::of(opened)?, to, has_begun),
            Action::Call
            | Action::Poll { .. }
            | Action::Splice(_)
            | Action::Timeout(_)
            | Action::Refused(_) => Err(Errno::EINVAL),
        }
    }

    /// `READ_FIXED` and `WRITE_FIXED` stay within a registered buffer.
    fn check_fixed(&self, sqe: &Sqe, buffers: &[UserSlice]) -> Result<(), Errno> {
        let is_fixed = matches!(sqe.opcode, opcode::READ_FIXED | opcode::WRITE_FIXED);
        let registered = self.registered.lock();
        let is_inside = buffers.iter().all(|buffer| registered.holds(sqe.buf, *buffer));
        if !is_fixed || is_inside { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn poll(&self, request: &Request, wanted: Readiness, is_one_shot: bool) -> Attempt {
        let Some(opened) = &request.file else { return Attempt::Done(Err(Errno::EBADF), 0) };
        let ready = opened.file.readiness() & wanted;
        if ready.is_empty() {
            return Attempt::Blocked(wanted);
        }
        let bits = ready.bits() as usize;
        if is_one_shot || !self.post(request.sqe.user_data, bits as i32, IORING_CQE_F_MORE) {
            return Attempt::Done(Ok(bits), 0);
        }
        Attempt::Blocked(wanted)
    }

    fn accept(&self, socket: &SocketRef, sqe: &Sqe) -> SysResult {
        let reserved = reserve_place(sqe)?;
        let (accepted, peer) = socket.accept(WaitMode::NonBlocking)?;
        let family = accepted.family;
        let opened = ops::socket::open(accepted, sqe.op_flags);
        address::write(&peer, family, sqe.addr, UserPtr::new(sqe.off))?;
        let has_descriptor = reserved.is_some();
        let place = self.place(reserved, opened, on_exec_of(sqe.op_flags), sqe)?;
        if has_descriptor {
            events::note_open(place);
        }
        Ok(place)
    }

    /// Gives what was opened a place among the registered files, if the entry says so, or else a descriptor.
    pub(super) fn place(
        &self,
        reserved: Option<Reserved>,
        opened: Arc<OpenFile>,
        on_exec: OnExec,
        sqe: &Sqe,
    ) -> SysResult {
        if let Some(reserved) = reserved {
            return Ok(reserved.install(opened, on_exec));
        }
        // What only names a file is of no use to a request.
        if opened.flags().contains(FileFlags::PATH) {
            return Err(Errno::EBADF);
        }
        // If there is no place for it, it is closed, which may sleep: without the lock.
        let placed = self.registered.lock().place_file(&opened, sqe.file_index);
        let (index, replaced) = placed.inspect_err(|_| release([opened]))?;
        release(replaced);
        Ok(index)
    }
}

/// Reserves a descriptor for what an entry is about to open, unless it wants a place among the registered files.
pub(super) fn reserve_place(sqe: &Sqe) -> Result<Option<Reserved>, Errno> {
    (sqe.file_index == 0).then(file::table::reserve).transpose()
}

/// True if a request that would wait for its file is told now that its group has no buffer: at its first attempt, and
/// behind a message, as Linux does not know then whether there is another.
fn tells_shortage(request: &Request, opened: &OpenFile, has_posted: bool) -> bool {
    if !has_posted {
        return request.key.is_none();
    }
    let is_stream = |socket: &Socket| kind_number(socket) == SOCK_STREAM;
    opened.downcast::<Socket>().is_some_and(|socket| !is_stream(socket))
}

/// True if a multishot request goes on behind this result.
fn goes_on(request: &Request, count: usize) -> bool {
    request.is_multishot() && (count > 0 || matches!(request.action, Action::Accept))
}

/// The buffers behind the first `done` bytes.
fn rest(buffers: &[UserSlice<'static>], done: usize) -> Buffers {
    let mut skip = done;
    let rest = buffers.iter().map(|buffer| {
        let here = skip.min(buffer.len());
        skip -= here;
        buffer.skip(here)
    });
    rest.collect()
}

/// Adds up what was moved; with `MSG_WAITALL` the request goes on until all is.
fn progress(done: &mut usize, all: &[UserSlice], flags: MessageFlags, moved: SysResult) -> SysResult {
    let wanted: usize = all.iter().map(UserSlice::len).sum();
    match moved {
        Ok(count) => {
            *done += count;
            let is_over = count == 0 || *done >= wanted || !flags.contains(MessageFlags::WAIT_ALL);
            if is_over { Ok(*done) } else { Err(Errno::EAGAIN) }
        }
        Err(error) if error == Errno::EAGAIN || *done == 0 => Err(error),
        Err(_) => Ok(*done),
    }
}

fn read(opened: &OpenFile, into: &[UserSlice], offset: Option<u64>) -> SysResult {
    match offset.filter(|_| opened.file.is_seekable()) {
        Some(offset) => file::at_each(into, offset, |offset, buffer| opened.read_at(offset, buffer)),
        None => opened.read_vectored_with(into, WaitMode::NonBlocking),
    }
}

fn write(opened: &OpenFile, from: &[UserSlice], offset: Option<u64>) -> SysResult {
    match offset.filter(|_| opened.file.is_seekable()) {
        Some(offset) => opened.write_vectored_at(offset, from),
        None => opened.write_vectored_with(from, WaitMode::NonBlocking),
    }
}

fn connect(socket: &SocketRef, to: &Raw, has_begun: &mut bool) -> SysResult {
    let to = socket.peer_of(to, Errno::EAFNOSUPPORT)?;
    match socket.connect(to, WaitMode::NonBlocking) {
        Ok(()) => Ok(0),
        Err(Errno::EISCONN) if *has_begun => Ok(0),
        // It goes on: the next look is when the socket can be written, or has failed.
        Err(Errno::EINPROGRESS | Errno::EALREADY) => {
            *has_begun = true;
            Err(Errno::EAGAIN)
        }
        Err(error) => Err(error),
    }
}
