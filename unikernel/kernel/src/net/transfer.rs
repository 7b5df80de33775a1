//! Bytes between the app's memory and a connection's buffers: one copy, straight from one to the
//! other. A buffer is a ring, so that it may take two pieces.

use core::sync::atomic::Ordering;

use unikernel_net::{RecvError, SendError, Stack, TcpId};

use super::flows::FlowId;
use super::socket::{Direction, MessageFlags, Socket};
use super::stream::Stream;
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, WaitMode, complete};
use crate::mem::fault::Missing;
use crate::mem::user::UserSlice;

/// The buffers after the first `done` bytes of them.
fn rest<'a>(buffers: &'a [UserSlice<'a>], done: usize) -> impl Iterator<Item = UserSlice<'a>> {
    let mut skip = done;
    buffers.iter().filter_map(move |buffer| {
        let here = skip.min(buffer.len());
        skip -= here;
        Some(buffer.skip(here)).filter(|buffer| !buffer.is_empty())
    })
}

/// Moves received bytes into the app's buffers past the first `done` of them, which grow by what was moved. An error
/// counts only if nothing was moved before it; a page that is missing always does.
#[inline]
fn take(
    stack: &mut Stack,
    id: TcpId,
    into: &[UserSlice],
    done: &mut usize,
    copy: impl Fn(UserSlice, &[u8]) -> Result<(), Missing>,
) -> Result<(), AttemptError> {
    let (begin, mut may_have_more) = (*done, true);
    for mut buffer in rest(into, begin) {
        while !buffer.is_empty() && may_have_more {
            // Beside the answer, so that the usual answer is a number, which takes a register.
            let mut missing = None;
            let moved = stack.tcp_recv(id, |bytes| {
                let count = bytes.len().min(buffer.len());
                missing = copy(buffer, &bytes[..count]).err();
                let count = if missing.is_none() { count } else { 0 };
                (count, count)
            });
            if let Some(missing) = missing {
                return Err(missing.into());
            }
            match moved {
                Ok((count, left)) => {
                    *done += count;
                    buffer = buffer.skip(count);
                    may_have_more = left > 0;
                }
                Err(_) if *done > begin => return Ok(()),
                Err(RecvError::Finished) => return Ok(()),
                // Still connecting: what will come may be waited for.
                Err(RecvError::NotConnected) => return Err(AttemptError::Again),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Copies received bytes into the app's buffers and leaves them where they are.
fn peek(stack: &mut Stack, id: TcpId, start: usize, into: &[UserSlice]) -> Result<usize, AttemptError> {
    let mut done = 0;
    // The buffer is a ring, of which each look shows one piece.
    while let Some(buffer) = rest(into, done).next() {
        let looked = stack.tcp_peek(id, start + done, |bytes| {
            let count = bytes.len().min(buffer.len());
            buffer.try_write(&bytes[..count]).map(|()| count)
        });
        match looked {
            Ok(Ok(0)) => break,
            Ok(count) => done += count?,
            Err(_) if done > 0 => break,
            Err(RecvError::Finished) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Moves the app's bytes, so many in total, past the first `done` into the send buffer, as far as there is room; `done` grows by them. For
/// errors see [`take`].
#[inline]
fn put(
    stack: &mut Stack,
    id: TcpId,
    (from, total): (&[UserSlice], usize),
    done: &mut usize,
) -> Result<(), AttemptError> {
    let begin = *done;
    for mut buffer in rest(from, begin) {
        while !buffer.is_empty() {
            let mut missing = None;
            let moved = stack.tcp_send(id, total - *done, |room| {
                let count = room.len().min(buffer.len());
                missing = buffer.try_read(&mut room[..count]).err();
                let count = if missing.is_none() { count } else { 0 };
                (count, count)
            });
            if let Some(missing) = missing {
                return Err(missing.into());
            }
            match moved {
                Ok(count) => {
                    *done += count;
                    buffer = buffer.skip(count);
                }
                Err(_) if *done > begin => return Ok(()),
                Err(SendError::NotConnected) => return Err(AttemptError::Again),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[inline]
fn total(buffers: &[UserSlice]) -> usize {
    if let [buffer] = buffers {
        return buffer.len();
    }
    buffers.iter().map(UserSlice::len).sum()
}

impl Stream {
    #[inline]
    pub(super) fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> SysResult {
        let flow = self.flow().ok_or(Errno::ENOTCONN)?;
        let mut done = 0;
        match self.receive_now(flow, into, flags, &mut done) {
            Ok(()) if done == 0 || done >= self.target(into, flags) || self.is_at_mark() => Ok(done),
            Err(AttemptError::Again) if mode == WaitMode::NonBlocking => {
                self.receive_from_here(flow, into, flags)
            }
            Err(AttemptError::Errno(error)) => Err(error),
            _ => self.receive_in_time(socket, into, flags, mode, done),
        }
    }

    /// The same after what was written on this machine has come.
    #[cold]
    fn receive_from_here(&self, flow: FlowId, into: &[UserSlice], flags: MessageFlags) -> SysResult {
        if !Self::carry_over(flow) {
            return Err(Errno::EAGAIN);
        }
        let mut done = 0;
        complete(|| self.receive_now(flow, into, flags, &mut done))?;
        Ok(done)
    }

    /// What was written on this machine has come at once, as on Linux, though it may not have been carried over yet: whoever
    /// looks without waiting sees to that first. True if there may be news.
    pub(super) fn carry_over(flow: FlowId) -> bool {
        let net = flow.lock();
        let has_work = net.stack.tcp_is_loopback(flow.id) && net.stack.has_work();
        if has_work {
            net.flush();
        }
        has_work
    }

    /// How many bytes a call waits for.
    #[inline]
    fn target(&self, into: &[UserSlice], flags: MessageFlags) -> usize {
        let low = self.receive_low.load(Ordering::Relaxed) as usize;
        match flags.waits_for_all() {
            true => total(into),
            // A look cannot be put together from several.
            false if low <= 1 || flags.contains(MessageFlags::PEEK) => 1,
            false => low.min(total(into)),
        }
    }

    fn receive_now(
        &self,
        flow: FlowId,
        into: &[UserSlice],
        flags: MessageFlags,
        done: &mut usize,
    ) -> Result<(), AttemptError> {
        let mut net = flow.lock();
        if flags.contains(MessageFlags::PEEK) {
            *done = peek(&mut net.stack, flow.id, self.peek_offset.start(flags), into)?;
        } else if flags.contains(MessageFlags::TRUNCATE) {
            // The bytes are only to go away (tcp(7)).
            take(&mut net.stack, flow.id, into, done, |_, _| Ok(()))?;
        } else {
            take(&mut net.stack, flow.id, into, done, |buffer, bytes| buffer.try_write(bytes))?;
        }
        self.cached.note(&net.stack, flow.id);
        Ok(())
    }

    /// Waits for something, or for all that fits if the caller wants that; the first `done` bytes are there.
    #[cold]
    fn receive_in_time(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
        mut done: usize,
    ) -> SysResult {
        let flow = self.flow().ok_or(Errno::ENOTCONN)?;
        let (wanted, target) = (total(into), self.target(into, flags));
        let outcome = socket.block_on(mode, Direction::Receive, || {
            let before = done;
            if done == wanted {
                return Ok(());
            }
            match self.receive_now(flow, into, flags, &mut done) {
                Ok(()) if done > before && done < target && !self.is_at_mark() => Err(AttemptError::Again),
                // There was something until a page was missing.
                Err(AttemptError::Again) if done > 0 && done >= target => Ok(()),
                outcome => outcome,
            }
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    #[inline]
    pub(super) fn send(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> SysResult {
        let flow = self.flow().ok_or(Errno::EPIPE)?;
        let (wanted, mut done) = (total(from), 0);
        let mut net = flow.lock();
        let first = put(&mut net.stack, flow.id, (from, wanted), &mut done);
        if done > 0 && flags.contains(MessageFlags::URGENT) {
            net.stack.tcp_mark_urgent(flow.id);
        }
        if net.stack.tcp_is_refused_at_once(flow.id) {
            // The next write is to know, as on Linux, where loopback does not wait.
            net.flush();
        } else {
            drop(net);
        }
        match first {
            Ok(()) if done == wanted || mode == WaitMode::NonBlocking => Ok(done),
            Err(AttemptError::Again) if mode == WaitMode::NonBlocking => Err(Errno::EAGAIN),
            Err(AttemptError::Errno(error)) => Err(error),
            _ => self.send_in_time(socket, from, (flags, mode), done),
        }
    }

    /// Waits for room for what follows the first `done` bytes.
    #[cold]
    fn send_in_time(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        (flags, mode): (MessageFlags, WaitMode),
        mut done: usize,
    ) -> SysResult {
        let flow = self.flow().ok_or(Errno::EPIPE)?;
        let wanted = total(from);
        let outcome = socket.block_on(mode, Direction::Send, || {
            let mut net = flow.lock();
            let before = done;
            let outcome = put(&mut net.stack, flow.id, (from, wanted), &mut done);
            if done > before && flags.contains(MessageFlags::URGENT) {
                net.stack.tcp_mark_urgent(flow.id);
            }
            outcome?;
            if done < wanted { Err(AttemptError::Again) } else { Ok(()) }
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }
}
