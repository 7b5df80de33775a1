//! Bytes between the app's memory and a connection's buffers: one copy, straight from one to the
//! other. A buffer is a ring, so that it may take two pieces.

use unikernel_net::{RecvError, SendError, Stack, TcpId};

use crate::mem::user::{Fault, UserSlice};
use crate::syscall::Errno;

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
pub(super) fn take(stack: &mut Stack, id: TcpId, into: &[UserSlice], done: usize) -> Result<usize, Errno> {
    let mut total = 0;
    for mut buffer in rest(into, done) {
        while !buffer.is_empty() && (total == 0 || stack.tcp_recv_queue(id) > 0) {
            let moved = stack.tcp_recv(id, |bytes| {
                let count = bytes.len().min(buffer.len());
                match buffer.write(&bytes[..count]) {
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
pub(super) fn peek(stack: &mut Stack, id: TcpId, into: &[UserSlice]) -> Result<usize, Errno> {
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
pub(super) fn put(stack: &mut Stack, id: TcpId, from: &[UserSlice], done: usize) -> Result<usize, Errno> {
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
