//! `socketpair`: two ends that are each other's peer, bytes both ways (unix(7), streams only).
//! `tokio` wakes its signal handling with one.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use spin::Once;

use super::socket::{Direction, MessageFlags, Received, Shutdown, Socket};
use crate::file::{Readiness, WaitMode};
use crate::mem::user::UserSlice;
use crate::sync::SpinLock;
use crate::syscall::{Errno, SysResult};

/// Bytes on their way in one direction at most.
const CAPACITY_BYTES: usize = 64 * 1024;
/// Bytes copied in one go, through the kernel's stack.
const CHUNK_BYTES: usize = 512;

/// One direction.
#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    /// Nobody writes any more.
    is_write_shut: bool,
    /// Nobody reads any more.
    is_read_shut: bool,
}

/// One end.
pub struct Pair {
    incoming: Arc<SpinLock<Lane>>,
    outgoing: Arc<SpinLock<Lane>>,
    peer: Once<Weak<Socket>>,
}

/// Makes the two ends, which learn of each other by [`Pair::introduce`].
pub fn ends() -> (Pair, Pair) {
    let there = Arc::new(SpinLock::new(Lane::default()));
    let back = Arc::new(SpinLock::new(Lane::default()));
    let first = Pair { incoming: Arc::clone(&back), outgoing: Arc::clone(&there), peer: Once::new() };
    (first, Pair { incoming: there, outgoing: back, peer: Once::new() })
}

impl Pair {
    /// Tells this end which socket the other is.
    pub fn introduce(&self, peer: &Arc<Socket>) {
        self.peer.call_once(|| Arc::downgrade(peer));
    }

    fn notify_peer(&self) {
        if let Some(peer) = self.peer.get().and_then(Weak::upgrade) {
            use crate::file::File;
            peer.source.notify(peer.readiness());
        }
    }

    pub(super) fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        let is_peek = flags.contains(MessageFlags::PEEK);
        let len = socket.block_on(mode, Direction::Receive, || self.incoming.lock().take(into, is_peek))?;
        if len > 0 && !is_peek {
            self.notify_peer();
        }
        Ok(Received { len, full_len: len, from: None })
    }

    pub(super) fn send(&self, socket: &Socket, from: &[UserSlice], mode: WaitMode) -> SysResult {
        let len = socket.block_on(mode, Direction::Send, || self.outgoing.lock().put(from))?;
        self.notify_peer();
        Ok(len)
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        if how.ends_receiving() {
            self.incoming.lock().is_read_shut = true;
        }
        if how.ends_sending() {
            self.outgoing.lock().is_write_shut = true;
        }
        self.notify_peer();
        Ok(())
    }

    pub(super) fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        let incoming = self.incoming.lock();
        let is_in_over = incoming.is_write_shut || incoming.is_read_shut;
        ready.set(Readiness::READABLE, !incoming.bytes.is_empty() || is_in_over);
        ready.set(Readiness::RDHUP, is_in_over);
        drop(incoming);
        let outgoing = self.outgoing.lock();
        let is_out_over = outgoing.is_write_shut || outgoing.is_read_shut;
        ready.set(Readiness::WRITABLE, outgoing.bytes.len() < CAPACITY_BYTES || is_out_over);
        ready.set(Readiness::HUP, is_in_over && is_out_over);
        ready
    }

    pub(super) fn queues(&self) -> (usize, usize) {
        (self.incoming.lock().bytes.len(), self.outgoing.lock().bytes.len())
    }

    pub(super) fn close(&self) {
        self.incoming.lock().is_read_shut = true;
        self.outgoing.lock().is_write_shut = true;
        self.notify_peer();
    }
}

impl Lane {
    fn take(&mut self, into: &[UserSlice], is_peek: bool) -> SysResult {
        if self.bytes.is_empty() {
            let is_over = self.is_write_shut || self.is_read_shut;
            return if is_over { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let mut total = 0;
        let (head, tail) = self.bytes.as_slices();
        for buffer in into {
            let first = head.len().saturating_sub(total).min(buffer.len());
            buffer.write(&head[total.min(head.len())..][..first])?;
            total += first;
            let rest = buffer.skip(first);
            let from = total.saturating_sub(head.len()).min(tail.len());
            let second = rest.len().min(tail.len() - from);
            if total >= head.len() {
                rest.write(&tail[from..from + second])?;
                total += second;
            }
        }
        if !is_peek {
            self.bytes.drain(..total);
        }
        Ok(total)
    }

    fn put(&mut self, from: &[UserSlice]) -> SysResult {
        if self.is_write_shut || self.is_read_shut {
            return Err(Errno::EPIPE);
        }
        let mut total = 0;
        for buffer in from {
            let mut left = *buffer;
            while !left.is_empty() {
                let mut chunk = [0; CHUNK_BYTES];
                let room = CAPACITY_BYTES - self.bytes.len();
                let chunk = &mut chunk[..left.len().min(CHUNK_BYTES).min(room)];
                if chunk.is_empty() {
                    return if total > 0 { Ok(total) } else { Err(Errno::EAGAIN) };
                }
                left.read(chunk)?;
                self.bytes.extend(&*chunk);
                total += chunk.len();
                left = left.skip(chunk.len());
            }
        }
        Ok(total)
    }
}
