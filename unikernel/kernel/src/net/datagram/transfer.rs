//! Datagrams between the app's memory and the stacks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;

use unikernel_net::{Arrival, ErrorOrigin, RecvError, SendError, SendOptions, SentNote, Stack, UdpId};

use super::Datagram;
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, WaitMode};
use crate::mem::fault::{Missing, paging_in};
use crate::mem::user::UserSlice;
use crate::net::address::Address;
use crate::net::cards::{self, InterfaceId};
use crate::net::options::SocketOptions;
use crate::net::shards;
use crate::net::socket::{Beside, Direction, MessageFlags, Received, SendControl, Socket, Timestamping};
use crate::net::unix::Rights;
use crate::platform::time;

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
        if flags.contains(MessageFlags::ERROR_QUEUE) {
            return receive_error(id, into);
        }
        let received = socket.block_on(mode, Direction::Receive, || {
            // With several cards the places of peeked bytes would be those of none of them.
            let offset = self.peek_offset.start(flags);
            let count = cards::all().len().max(1);
            let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
            for step in 0..count {
                let shard = cards::first_of((turn + step) % count);
                match receive_at(shard, id, into, (flags, offset)) {
                    Ok(outcome) => return Ok(outcome?),
                    Err(RecvError::WouldBlock) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // That reading was shut is told only to who would wait (Linux: `__skb_wait_for_more_packets`).
            if mode == WaitMode::MayBlock && self.port.lock().is_receive_shut {
                return Ok(Received::nothing());
            }
            Err(AttemptError::Again)
        })?;
        self.peek_offset.advance(flags, received.len, received.full_len);
        Ok(received)
    }

    pub(in crate::net) fn send(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<SocketAddr>,
        (control, flags): (&SendControl, MessageFlags),
        mode: WaitMode,
    ) -> SysResult {
        if self.port.lock().is_send_shut {
            return Err(Errno::EPIPE);
        }
        let has_more = flags.contains(MessageFlags::MORE) || self.cork.is_on();
        if has_more || self.cork.is_there() {
            return self.send_part(socket, from, to, (control, flags), (has_more, mode));
        }
        self.send_whole(socket, from, to, (control, flags), mode)
    }

    pub(super) fn send_whole(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<SocketAddr>,
        (control, flags): (&SendControl, MessageFlags),
        mode: WaitMode,
    ) -> SysResult {
        let id = self.id_or_bind(socket)?;
        let len: usize = from.iter().map(UserSlice::len).sum();
        if len > u16::MAX.into() {
            return Err(Errno::EMSGSIZE);
        }
        to.map_or(Ok(()), |to| socket.check_destination(to))?;
        socket.block_on(mode, Direction::Send, || {
            let gather = |room: &mut [u8]| try_gather(from, room).map_err(NotSent::from);
            let options = *socket.options.lock();
            let (mut net, to) = self.lock_towards(&options, id, to, control);
            let timestamping =
                options.datagram.timestamping & Timestamping::TX_SOFTWARE.union(Timestamping::TX_SCHED);
            let options = send_options(&options, to, control, flags)?;
            let outcome = net.stack.udp_send_with(id, to, &options, len, gather);
            if outcome.is_ok() && !timestamping.is_empty() {
                socket.note_sent(&mut net.stack, id, to, from);
            }
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
    (flags, offset): (MessageFlags, usize),
) -> Result<Result<Received, Missing>, RecvError> {
    let mut net = shards::lock(shard);
    let copy = |data: &[u8], arrival: &Arrival| -> Result<Received, Missing> {
        let len = try_scatter(data, into)?;
        let from = Some(Address::Internet(cards::scoped(arrival.from, shard)));
        let beside = Beside::Arrival(*arrival, cards::number_of(arrival.link, shard));
        Ok(Received { len, full_len: data.len(), from, rights: Rights::new(), beside })
    };
    let received = net.stack.udp_peek(id, offset, copy)?;
    let is_fault = matches!(&received, Err(missing) if missing.is_fault());
    // What the app has no memory for is lost, as on Linux; what only has to wait for memory is not.
    if !flags.contains(MessageFlags::PEEK) && (received.is_ok() || is_fault) {
        net.stack.udp_recv(id, |_, _| ())?;
    }
    Ok(received)
}

/// Takes the oldest error that waits, with what came back of the datagram that it is about (recv(2), `MSG_ERRQUEUE`).
fn receive_error(id: UdpId, into: &[UserSlice]) -> Result<Received, Errno> {
    let take = |shard| shards::lock(shard).stack.udp_take_queued_error(id);
    let queued = cards::firsts().find_map(take).ok_or(Errno::EAGAIN)?;
    let len = paging_in(|| try_scatter(&queued.data, into))?;
    let is_error = !matches!(queued.origin, ErrorOrigin::Sent(_));
    let (full_len, from) = (queued.data.len(), is_error.then_some(Address::Internet(queued.to)));
    Ok(Received { len, full_len, from, rights: Rights::new(), beside: Beside::Error(Box::new(queued)) })
}

/// What the socket and control messages ask for a datagram to `to`, or else to the peer.
fn send_options(
    options: &SocketOptions,
    to: Option<SocketAddr>,
    control: &SendControl,
    flags: MessageFlags,
) -> Result<SendOptions, Errno> {
    let is_v6 = to.is_some_and(|to| to.is_ipv6());
    if control.is_bad[usize::from(is_v6)] {
        return Err(Errno::EINVAL);
    }
    let header = control.headers[usize::from(is_v6)];
    let link = match header.interface {
        0 => None,
        number => Some(InterfaceId::by_number(number).ok_or(Errno::ENODEV)?.in_stack()),
    };
    Ok(SendOptions {
        source: header.source,
        is_free: options.is_free || options.is_transparent,
        link,
        hop_limit: header.hop_limit,
        traffic_class: header.traffic_class,
        is_unsplit: is_v6 && control.is_unsplit.unwrap_or(options.datagram.is_unsplit_v6),
        is_direct: options.is_direct || flags.contains(MessageFlags::DONT_ROUTE),
        segment: control.segment.or(Some(options.datagram.segment)),
    })
}

impl Socket {
    /// Tells in the queue of errors when a datagram was sent, as `SO_TIMESTAMPING` asks for.
    #[cold]
    fn note_sent(&self, stack: &mut Stack, id: UdpId, to: Option<SocketAddr>, from: &[UserSlice]) {
        let Some(to) = to.or_else(|| stack.udp_peer(id)) else { return };
        let (wanted, key) = {
            let datagram = &mut self.options.lock().datagram;
            let is_counted = datagram.timestamping.contains(Timestamping::OPT_ID);
            let key = if is_counted { datagram.sent_key } else { 0 };
            datagram.sent_key = datagram.sent_key.wrapping_add(u32::from(is_counted));
            (datagram.timestamping, key)
        };
        let mut data = Vec::new();
        let len = from.iter().map(UserSlice::len).sum();
        // Without memory for it the time comes alone; so it does if the app has unmapped the bytes meanwhile.
        if !wanted.contains(Timestamping::OPT_TSONLY) && data.try_reserve_exact(len).is_ok() {
            data.resize(len, 0);
            if try_gather(from, &mut data).is_err() {
                data.clear();
            }
        }
        for (kind, is_scheduled) in [(Timestamping::TX_SCHED, true), (Timestamping::TX_SOFTWARE, false)] {
            if wanted.contains(kind) {
                let note = SentNote { wall_ns: time::wall_ns(), key, is_scheduled };
                stack.udp_note_sent(id, to, note, data.clone());
            }
        }
    }
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
