//! What is on its way to one socket: bytes of a stream, or whole messages, with the open files that
//! travel along.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::{SocketType, UnixName};
use crate::abi::Errno;
use crate::file::{AttemptError, OpenFile, WaitMode};
use crate::kmem::room;
use crate::mem::fault::Missing;
use crate::mem::user::UserSlice;
use crate::net::socket::Socket;

/// Bytes on their way to one socket at most (Linux: `net.core.wmem_default`).
pub(crate) const CAPACITY_BYTES: usize = 212_992;
/// Pieces of a stream that are joined into one are no longer than this.
const MAX_PIECE_BYTES: usize = 65_536;
/// Messages on their way, for those without bytes (Linux: `net.unix.max_dgram_qlen` is 10, but bounds
/// bursts only).
const MAX_MESSAGES: usize = 512;

/// Open files that travel with bytes (`SCM_RIGHTS`).
pub(crate) type Rights = Vec<Arc<OpenFile>>;

/// A message, or a piece of a stream.
struct Packet {
    bytes: Vec<u8>,
    /// Bytes of it that were read.
    taken: usize,
    rights: Rights,
    from: UnixName,
}

/// The way to one socket.
#[derive(Default)]
pub(super) struct Queue {
    packets: VecDeque<Packet>,
    queued_bytes: usize,
    /// Packets that open files travel with.
    with_rights: usize,
    /// Nobody writes any more.
    pub(super) is_write_shut: bool,
    /// Nobody reads any more.
    pub(super) is_read_shut: bool,
    /// The socket itself is gone.
    pub(super) is_closed: bool,
    /// The peer went without having read everything; told once.
    pub(super) is_reset: bool,
    /// Sockets that found no room.
    waiting: Vec<Weak<Socket>>,
}

/// What was taken.
pub(super) struct Taken {
    pub(super) len: usize,
    pub(super) full_len: usize,
    pub(super) rights: Rights,
    pub(super) from: Option<UnixName>,
}

impl Taken {
    fn nothing() -> Self {
        Self { len: 0, full_len: 0, rights: Vec::new(), from: None }
    }
}

impl Queue {
    pub(super) fn has_data(&self) -> bool {
        !self.packets.is_empty()
    }

    /// True if a write would not block; for messages, of whose length nothing is known, with plenty of
    /// room to spare.
    pub(super) fn has_room(&self, socket_type: SocketType) -> bool {
        match socket_type {
            SocketType::Stream => self.queued_bytes < CAPACITY_BYTES,
            _ => self.queued_bytes < CAPACITY_BYTES / 2 && self.packets.len() < MAX_MESSAGES,
        }
    }

    /// True if nothing more will come through it.
    pub(super) fn is_over(&self) -> bool {
        self.is_write_shut || self.is_read_shut
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The bytes of the first message, or all of a stream (`FIONREAD`).
    pub(super) fn next_bytes(&self, socket_type: SocketType) -> usize {
        match socket_type {
            SocketType::Stream => self.queued_bytes,
            _ => self.packets.front().map_or(0, |packet| packet.bytes.len()),
        }
    }

    /// Notes who wants to hear of room.
    pub(super) fn wait_for_room(&mut self, socket: &Weak<Socket>) {
        if !self.waiting.iter().any(|waiting| waiting.ptr_eq(socket)) {
            self.waiting.push(Weak::clone(socket));
        }
    }

    /// Who wanted to hear of room, once there is plenty; to be told without this queue's lock.
    pub(super) fn take_waiting(&mut self, socket_type: SocketType) -> Vec<Weak<Socket>> {
        if self.has_room(socket_type) { core::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// True if open files travel here: taking them needs the lock of those in flight.
    pub(super) fn has_rights(&self) -> bool {
        self.with_rights > 0
    }

    /// The open files that travel here.
    pub(super) fn rights(&self) -> impl Iterator<Item = &Arc<OpenFile>> {
        self.packets.iter().flat_map(|packet| &packet.rights)
    }

    /// Empties the queue: who reads it is gone. What travelled is to be released without the queue's lock.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Rights> + use<> {
        self.queued_bytes = 0;
        self.with_rights = 0;
        core::mem::take(&mut self.packets).into_iter().map(|packet| packet.rights)
    }

    /// Takes what is there, as its type has it; or leaves it there, and looks at what comes after the first `peek` bytes. That reading was shut a datagram socket tells only who would wait
    /// (Linux: `__skb_wait_for_more_packets`).
    pub(super) fn take(
        &mut self,
        socket_type: SocketType,
        into: &[UserSlice],
        peek: Option<usize>,
        mode: WaitMode,
    ) -> Result<Taken, AttemptError> {
        let is_at_end = match (socket_type, peek) {
            (SocketType::Stream, Some(offset)) => self.queued_bytes <= offset,
            (_, Some(offset)) => self.message_at(offset).is_none(),
            (_, None) => false,
        };
        if self.packets.is_empty() || is_at_end {
            if core::mem::take(&mut self.is_reset) {
                return Err(Errno::ECONNRESET.into());
            }
            let is_told = socket_type != SocketType::Datagram || mode == WaitMode::MayBlock;
            return if self.is_over() && is_told { Ok(Taken::nothing()) } else { Err(AttemptError::Again) };
        }
        match socket_type {
            SocketType::Stream => self.take_stream(into, peek),
            SocketType::Datagram | SocketType::SeqPacket => self.take_message(into, peek),
        }
    }

    /// The message that a byte is in, and where; the first also if it has none.
    fn message_at(&self, mut offset: usize) -> Option<(&Packet, usize)> {
        let is_first = offset == 0;
        let packet = self.packets.iter().find(|packet| {
            let is_it = is_first || offset < packet.bytes.len();
            offset -= if is_it { 0 } else { packet.bytes.len() };
            is_it
        });
        packet.map(|packet| (packet, offset))
    }

    fn take_message(&mut self, into: &[UserSlice], peek: Option<usize>) -> Result<Taken, AttemptError> {
        let Some((packet, start)) = self.message_at(peek.unwrap_or(0)) else {
            return Err(AttemptError::Again);
        };
        let len = try_scatter(&packet.bytes[start..], into, 0)?;
        let (full_len, from) = (packet.bytes.len(), Some(packet.from.clone()));
        if peek.is_some() {
            return Ok(Taken { len, full_len, rights: packet.rights.clone(), from });
        }
        let rights = self.packets.pop_front().map(|packet| packet.rights).unwrap_or_default();
        self.queued_bytes -= full_len;
        self.with_rights -= usize::from(!rights.is_empty());
        Ok(Taken { len, full_len, rights, from })
    }

    /// Bytes that come after those with files are not read in one go with them (unix(7)).
    fn take_stream(&mut self, into: &[UserSlice], peek: Option<usize>) -> Result<Taken, AttemptError> {
        let room: usize = into.iter().map(UserSlice::len).sum();
        let (mut len, mut skip) = (0, peek.unwrap_or(0));
        for packet in &self.packets {
            if len == room {
                break;
            }
            let bytes = &packet.bytes[packet.taken..];
            let here = skip.min(bytes.len());
            skip -= here;
            if here == bytes.len() {
                continue;
            }
            match try_scatter(&bytes[here..], into, len) {
                Ok(count) => len += count,
                // Only what the app has memory for is taken.
                Err(missing) if missing.is_fault() && len > 0 => break,
                Err(missing) => return Err(missing.into()),
            }
            if !packet.rights.is_empty() {
                break;
            }
        }
        // Nothing is taken before everything is copied.
        let rights = match peek {
            Some(start) => self.rights_within(start + len),
            None => self.consume(len),
        };
        Ok(Taken { len, full_len: len, rights, from: None })
    }

    /// The files that travel with the first `len` bytes of a stream.
    fn rights_within(&self, mut len: usize) -> Rights {
        let mut rights = Rights::new();
        for packet in &self.packets {
            if len == 0 {
                break;
            }
            rights.extend(packet.rights.iter().cloned());
            len -= len.min(packet.bytes.len() - packet.taken);
        }
        rights
    }

    /// Takes the first `len` bytes of a stream off; answers the files that travelled with them.
    fn consume(&mut self, mut len: usize) -> Rights {
        self.queued_bytes -= len;
        let mut rights = Rights::new();
        while len > 0 {
            let Some(packet) = self.packets.front_mut() else { break };
            self.with_rights -= usize::from(!packet.rights.is_empty());
            rights.append(&mut packet.rights);
            let count = len.min(packet.bytes.len() - packet.taken);
            packet.taken += count;
            len -= count;
            if packet.taken == packet.bytes.len() {
                self.packets.pop_front();
            }
        }
        rights
    }

    /// Puts in what its type lets in: a whole message or nothing, or as much of a stream as there is
    /// room for. `rights` are taken if anything was put in.
    pub(super) fn put(
        &mut self,
        socket_type: SocketType,
        from: &[UserSlice],
        rights: &mut Rights,
        sender: &UnixName,
    ) -> Result<usize, AttemptError> {
        if self.is_closed && socket_type == SocketType::Datagram {
            return Err(Errno::ECONNREFUSED.into());
        }
        if self.is_over() {
            return Err(Errno::EPIPE.into());
        }
        let len: usize = from.iter().map(UserSlice::len).sum();
        if socket_type != SocketType::Stream {
            if len > CAPACITY_BYTES {
                return Err(Errno::EMSGSIZE.into());
            }
            let has_room = self.packets.len() < MAX_MESSAGES
                && (self.queued_bytes + len <= CAPACITY_BYTES || self.packets.is_empty());
            if !has_room {
                return Err(AttemptError::Again);
            }
            return Ok(self.push(try_gather(from, len)?, rights, sender));
        }
        if len == 0 {
            return Ok(0);
        }
        let room = CAPACITY_BYTES - self.queued_bytes.min(CAPACITY_BYTES);
        if room == 0 {
            return Err(AttemptError::Again);
        }
        let bytes = try_gather(from, len.min(room))?;
        if let Some(last) = self.packets.back_mut()
            && rights.is_empty()
            && last.rights.is_empty()
            && last.bytes.len() + bytes.len() <= MAX_PIECE_BYTES
        {
            last.bytes.try_reserve(bytes.len()).map_err(|_| Errno::ENOBUFS)?;
            last.bytes.extend_from_slice(&bytes);
            self.queued_bytes += bytes.len();
            return Ok(bytes.len());
        }
        Ok(self.push(bytes, rights, sender))
    }

    fn push(&mut self, bytes: Vec<u8>, rights: &mut Rights, sender: &UnixName) -> usize {
        let len = bytes.len();
        self.queued_bytes += len;
        let rights = core::mem::take(rights);
        self.with_rights += usize::from(!rights.is_empty());
        self.packets.push_back(Packet { bytes, taken: 0, rights, from: sender.clone() });
        len
    }
}

/// Copies bytes to the app's buffers, past the first `done` bytes of those.
fn try_scatter(bytes: &[u8], into: &[UserSlice], done: usize) -> Result<usize, Missing> {
    let (mut skip, mut copied) = (done, 0);
    for buffer in into {
        let here = skip.min(buffer.len());
        skip -= here;
        let buffer = buffer.skip(here);
        let count = buffer.len().min(bytes.len() - copied);
        buffer.try_write(&bytes[copied..copied + count])?;
        copied += count;
    }
    Ok(copied)
}

/// Copies the first `len` bytes of the app's buffers.
fn try_gather(from: &[UserSlice], len: usize) -> Result<Vec<u8>, AttemptError> {
    // Bytes also come by write(2), which is never refused at its entry.
    room::ask_locked().map_err(|_| Errno::ENOBUFS)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(len, 0);
    let mut done = 0;
    for buffer in from {
        let count = buffer.len().min(len - done);
        buffer.try_read(&mut bytes[done..done + count])?;
        done += count;
    }
    Ok(bytes)
}
