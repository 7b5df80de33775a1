//! The buffers of a connection without an engine: two rings of bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smoltcp::storage::RingBuffer;
use smoltcp::time::Instant;

use crate::engine::Held;
use crate::scoreboard::Scoreboard;
use crate::timers::NEVER;

/// The buffers of a connection without an engine.
pub(crate) struct Plain {
    /// Arrived and not read yet.
    pub(crate) received: RingBuffer<'static, u8>,
    /// Written and not acknowledged yet; what is under way comes first.
    pub(crate) sending: RingBuffer<'static, u8>,
    /// When the peer must have its acknowledgement.
    pub(crate) ack_at: Instant,
    /// What the peer lacks of what it should have; none while that is nothing.
    pub(crate) board: Option<Box<Scoreboard>>,
}

/// A ring for so many bytes.
fn ring(bytes: usize) -> RingBuffer<'static, u8> {
    RingBuffer::new(alloc::vec![0; bytes])
}

/// Moves a ring's bytes into a larger one.
fn enlarged(old: &RingBuffer<'static, u8>, bytes: usize) -> RingBuffer<'static, u8> {
    let mut new = ring(bytes);
    copy_out(old, 0, new.enqueue_many(old.len()));
    new
}

/// Adds bytes that fit.
#[inline]
pub(crate) fn append(ring: &mut RingBuffer<'static, u8>, bytes: &[u8]) {
    let place = ring.enqueue_many(bytes.len());
    let (front, back) = bytes.split_at(place.len());
    place.copy_from_slice(front);
    if !back.is_empty() {
        ring.enqueue_many(back.len()).copy_from_slice(back);
    }
}

/// Copies what a ring holds from `offset` on.
#[inline]
pub(crate) fn copy_out(ring: &RingBuffer<'static, u8>, offset: usize, into: &mut [u8]) {
    let first = ring.get_allocated(offset, into.len());
    let (front, back) = into.split_at_mut(first.len());
    front.copy_from_slice(first);
    if !back.is_empty() {
        // Behind the end of the buffer it goes on at its beginning.
        back.copy_from_slice(ring.get_allocated(offset + front.len(), back.len()));
    }
}

fn content(ring: &RingBuffer<'static, u8>) -> Vec<u8> {
    let mut bytes = alloc::vec![0; ring.len()];
    copy_out(ring, 0, &mut bytes);
    bytes
}

impl Plain {
    pub(crate) fn new(rx_buffer: usize, tx_buffer: usize) -> Self {
        Self { received: ring(rx_buffer), sending: ring(tx_buffer), ack_at: NEVER, board: None }
    }

    /// The sizes of the receive and the send buffer, in bytes.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.received.capacity(), self.sending.capacity())
    }

    /// Makes the buffers larger.
    pub(crate) fn enlarge(&mut self, rx_buffer: usize, tx_buffer: usize) {
        if rx_buffer > self.received.capacity() {
            self.received = enlarged(&self.received, rx_buffer);
        }
        if tx_buffer > self.sending.capacity() {
            self.sending = enlarged(&self.sending, tx_buffer);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.sending.clear();
        (self.ack_at, self.board) = (NEVER, None);
    }

    /// Takes what an engine held; the rings have its sizes.
    pub(crate) fn fill(&mut self, held: &Held) {
        append(&mut self.received, &held.received);
        append(&mut self.sending, &held.unacknowledged);
    }

    /// What an engine has to be given.
    pub(crate) fn held(&self) -> Held {
        Held { received: content(&self.received), unacknowledged: content(&self.sending), has_fin: false }
    }
}

/// Drops the first `count` bytes.
#[inline]
pub(crate) fn discard(ring: &mut RingBuffer<'static, u8>, count: usize) {
    let first = ring.dequeue_many(count).len();
    if first < count {
        let rest = ring.dequeue_many(count - first).len();
        debug_assert_eq!(first + rest, count);
    }
}
