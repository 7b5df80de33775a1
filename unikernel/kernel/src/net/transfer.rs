//! Bytes between the app's memory and a connection's buffers: one copy, straight from one to the
//! other. A buffer is a ring, so that it may take two pieces.

use unikernel_net::{RecvError, SendError, Stack, TcpId};

use super::flows::FlowId;
use super::socket::{Direction, MessageFlags, Socket};
use super::stream::Stream;
use crate::file::WaitMode;
use crate::mem::user::{Fault, UserSlice};
use crate::syscall::{Errno, SysResult};

/// The buffers after the first `done` bytes of them.
fn rest(buffers: &[UserSlice], done: usize) -> impl Iterator<Item = UserSlice> {
    let mut skip = done;
    buffers.iter().filter_map(move |buffer| {
        let here = skip.min(buffer.len());
        skip -= here;
        Some(buffer.skip(here)).filter(|buffer| !buffer.is_empty())
    })
}

/// Moves received bytes into the app's buffers, past the first `done` bytes of them.
#[inline]
fn take(stack: &mut Stack, id: TcpId, into: &[UserSlice], done: usize) -> Result<usize, Errno> {
    let (mut total, mut may_have_more) = (0, true);
    for mut buffer in rest(into, done) {
        while !buffer.is_empty() && may_have_more {
            let moved = stack.tcp_recv(id, |bytes| {
                let count = bytes.len().min(buffer.len());
                match buffer.write(&bytes[..count]) {
                    Ok(()) => (count, Ok(count)),
                    Err(fault) => (0, Err(fault)),
                }
            });
            match moved {
                Ok((Ok(count), left)) => {
                    total += count;
                    buffer = buffer.skip(count);
                    may_have_more = left > 0;
                }
                Ok((Err(Fault), _)) => return if total > 0 { Ok(total) } else { Err(Errno::EFAULT) },
                Err(_) if total > 0 => return Ok(total),
                Err(RecvError::Finished) => return Ok(0),
                // Still connecting: what will come may be waited for.
                Err(RecvError::NotConnected) => return Err(Errno::EAGAIN),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(total)
}

/// Copies received bytes into the app's buffers and leaves them where they are.
fn peek(stack: &mut Stack, id: TcpId, into: &[UserSlice]) -> Result<usize, Errno> {
    let Some(buffer) = rest(into, 0).next() else { return Ok(0) };
    let looked = stack.tcp_peek(id, |bytes| {
        let count = bytes.len().min(buffer.len());
        buffer.write(&bytes[..count]).map(|()| count)
    });
    match looked {
        Ok(count) => Ok(count?),
        Err(RecvError::Finished) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Moves the app's bytes past the first `done` into the send buffer, as far as there is room.
#[inline]
fn put(stack: &mut Stack, id: TcpId, from: &[UserSlice], done: usize) -> Result<usize, Errno> {
    let mut total = 0;
    stack.tcp_reserve(id, from.iter().map(UserSlice::len).sum::<usize>() - done);
    for mut buffer in rest(from, done) {
        while !buffer.is_empty() {
            let moved = stack.tcp_send(id, |room| {
                let count = room.len().min(buffer.len());
                match buffer.read(&mut room[..count]) {
                    Ok(()) => (count, Ok(count)),
                    Err(fault) => (0, Err(fault)),
                }
            });
            match moved {
                Ok(Ok(count)) => {
                    total += count;
                    buffer = buffer.skip(count);
                }
                Ok(Err(Fault)) => return if total > 0 { Ok(total) } else { Err(Errno::EFAULT) },
                Err(_) if total > 0 => return Ok(total),
                Err(SendError::NotConnected) => return Err(Errno::EAGAIN),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(total)
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
        match self.receive_now(flow, into, flags, 0) {
            Ok(count) if count == 0 || !flags.waits_for_all() => Ok(count),
            Err(Errno::EAGAIN) if mode == WaitMode::MayBlock => {
                self.receive_in_time(socket, into, flags, mode, 0)
            }
            Ok(count) => self.receive_in_time(socket, into, flags, mode, count),
            Err(error) => Err(error),
        }
    }

    fn receive_now(
        &self,
        flow: FlowId,
        into: &[UserSlice],
        flags: MessageFlags,
        done: usize,
    ) -> Result<usize, Errno> {
        let mut net = flow.lock();
        let count = match flags.contains(MessageFlags::PEEK) {
            false => take(&mut net.stack, flow.id, into, done)?,
            true => peek(&mut net.stack, flow.id, into)?,
        };
        self.standing.note(&net.stack, flow.id);
        Ok(count)
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
        let wanted: usize = into.iter().map(UserSlice::len).sum();
        let outcome = socket.block_on(mode, Direction::Receive, || {
            let is_over = done == wanted;
            let count = if is_over { 0 } else { self.receive_now(flow, into, flags, done)? };
            done += count;
            if flags.waits_for_all() && count > 0 && done < wanted { Err(Errno::EAGAIN) } else { Ok(()) }
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    #[inline]
    pub(super) fn send(&self, socket: &Socket, from: &[UserSlice], mode: WaitMode) -> SysResult {
        let flow = self.flow().ok_or(Errno::EPIPE)?;
        let wanted: usize = from.iter().map(UserSlice::len).sum();
        let first = put(&mut flow.lock().stack, flow.id, from, 0);
        match first {
            Ok(count) if count == wanted || mode == WaitMode::NonBlocking => Ok(count),
            Ok(count) => self.send_in_time(socket, from, mode, count),
            Err(Errno::EAGAIN) if mode == WaitMode::MayBlock => self.send_in_time(socket, from, mode, 0),
            Err(error) => Err(error),
        }
    }

    /// Waits for room for what follows the first `done` bytes.
    #[cold]
    fn send_in_time(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        mode: WaitMode,
        mut done: usize,
    ) -> SysResult {
        let flow = self.flow().ok_or(Errno::EPIPE)?;
        let wanted: usize = from.iter().map(UserSlice::len).sum();
        let outcome = socket.block_on(mode, Direction::Send, || {
            done += put(&mut flow.lock().stack, flow.id, from, done)?;
            if done < wanted { Err(Errno::EAGAIN) } else { Ok(()) }
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }
}
