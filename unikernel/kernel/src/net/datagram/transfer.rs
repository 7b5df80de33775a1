//! Datagrams between the app's memory and the stacks.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;

use unikernel_net::{RecvError, SendError, UdpId};

use super::Datagram;
use crate::file::{AttemptError, WaitMode};
use crate::mem::fault::Missing;
use crate::mem::user::UserSlice;
use crate::net::address::Address;
use crate::net::cards;
use crate::net::shards;
use crate::net::socket::{Direction, MessageFlags, Received, Socket};
use crate::net::unix::Rights;
use crate::syscall::{Errno, SysResult};

/// Why a datagram was not sent: the stack refuses, or the app's memory is not there.
struct NotSent(AttemptError);

impl From<SendError> for NotSent {
    fn from(error: SendError) -> Self {
        Self(error.into())
    }
}

impl From<Missing> for NotSent {
    fn from(missing: Missing) -> Self {
        Self(missing.into())
    }
}

impl Datagram {
    pub(in crate::net) fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        let id = self.id_or_bind(socket)?;
        socket.block_on(mode, Direction::Receive, || {
            let count = cards::all().len().max(1);
            let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
            let mut nothing = Err(AttemptError::Again);
            for step in 0..count {
                let shard = cards::first_of((turn + step) % count);
                match receive_at(shard, id, into, flags) {
                    Ok(outcome) => return Ok(outcome?),
                    Err(RecvError::WouldBlock) => {}
                    Err(RecvError::Finished) => nothing = Ok(Received::nothing()),
                    Err(error) => return Err(error.into()),
                }
            }
            nothing
        })
    }

    pub(in crate::net) fn send(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<SocketAddr>,
        mode: WaitMode,
    ) -> SysResult {
        if self.port.lock().is_send_shut {
            return Err(Errno::EPIPE);
        }
        let id = self.id_or_bind(socket)?;
        let len: usize = from.iter().map(UserSlice::len).sum();
        if len > u16::MAX.into() {
            return Err(Errno::EMSGSIZE);
        }
        to.map_or(Ok(()), |to| socket.check_destination(to))?;
        socket.block_on(mode, Direction::Send, || {
            let gather = |room: &mut [u8]| try_gather(from, room).map_err(NotSent::from);
            let mut net = self.lock_towards(socket, id, to);
            let to = to.map(|to| cards::unscoped(to).0);
            let outcome = net.stack.udp_send(id, to, len, gather);
            if net.stack.has_loopback() {
                // What stays in the machine is there when the call returns, as on Linux.
                net.flush();
            }
            outcome.map(|()| len).map_err(|NotSent(error)| error)
        })
    }
}

/// Takes the oldest datagram of one card, or looks at it.
fn receive_at(
    shard: usize,
    id: UdpId,
    into: &[UserSlice],
    flags: MessageFlags,
) -> Result<Result<Received, Missing>, RecvError> {
    let mut net = shards::lock(shard);
    let copy = |data: &[u8], from: SocketAddr| -> Result<Received, Missing> {
        let len = try_scatter(data, into)?;
        let from = Some(Address::Internet(cards::scoped(from, shard)));
        Ok(Received { len, full_len: data.len(), from, rights: Rights::new() })
    };
    let received = net.stack.udp_peek(id, copy)?;
    let is_fault = matches!(&received, Err(missing) if missing.is_fault());
    // What the app has no memory for is lost, as on Linux; what only has to wait for memory is not.
    if !flags.contains(MessageFlags::PEEK) && (received.is_ok() || is_fault) {
        net.stack.udp_recv(id, |_, _| ())?;
    }
    Ok(received)
}

/// Copies a datagram into the app's buffers, as much as fits.
pub(in crate::net) fn try_scatter(data: &[u8], into: &[UserSlice]) -> Result<usize, Missing> {
    let mut left = data;
    for buffer in into {
        let (here, rest) = left.split_at(left.len().min(buffer.len()));
        buffer.try_write(here)?;
        left = rest;
    }
    Ok(data.len() - left.len())
}

/// Copies the app's buffers, one after the other, into a datagram of their length.
pub(in crate::net) fn try_gather(from: &[UserSlice], mut room: &mut [u8]) -> Result<(), Missing> {
    for buffer in from {
        let (here, rest) = room.split_at_mut(buffer.len());
        buffer.try_read(here)?;
        room = rest;
    }
    Ok(())
}
