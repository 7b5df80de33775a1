//! The buffers of a connection without an engine: two rings of bytes.
//!
//! smoltcp's `RingBuffer` divides by the capacity at each step and is made for elements of any kind; this one is on the way
//! of every segment, four times for a request.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smoltcp::time::Instant;

use crate::engine::Held;
use crate::scoreboard::Scoreboard;
use crate::template::Template;
use crate::timers::NEVER;

/// Bytes in the order in which they came, in a buffer of fixed size. What is free and what is held each have two
/// parts if they reach over the buffer's end.
pub(crate) struct Ring {
    buffer: Box<[u8]>,
    /// Where the first byte lies.
    first: usize,
    len: usize,
}

impl Ring {
    /// A ring for so many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { buffer: alloc::vec![0; capacity].into_boxed_slice(), first: 0, len: 0 }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that it holds.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.len < self.buffer.len()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        (self.first, self.len) = (0, 0);
    }

    /// Where the byte at `offset` lies; `offset` is not beyond the capacity.
    #[inline]
    fn place(&self, offset: usize) -> usize {
        let place = self.first + offset;
        if place >= self.buffer.len() { place - self.buffer.len() } else { place }
    }

    /// The first part of what is free.
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let start = self.place(self.len);
        let room = (self.capacity() - self.len).min(self.capacity() - start);
        &mut self.buffer[start..][..room]
    }

    /// Holds `count` bytes more, which were written to the first of [`Self::room`].
    #[inline]
    pub(crate) fn fill(&mut self, count: usize) {
        assert!(count <= self.capacity() - self.len, "no more can be filled than there is room for");
        self.len += count;
    }

    /// Adds bytes that fit.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.room();
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.fill(now.len());
            rest = later;
        }
    }

    /// The first part of what it holds from `offset` on, `len` bytes at most.
    #[inline]
    pub(crate) fn part(&self, offset: usize, len: usize) -> &[u8] {
        let offset = offset.min(self.len);
        let start = self.place(offset);
        &self.buffer[start..][..len.min(self.len - offset).min(self.capacity() - start)]
    }

    /// Drops the first `count` bytes.
    #[inline]
    pub(crate) fn discard(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        // An empty ring begins anew: what comes next is in one part.
        self.first = if self.len == 0 { 0 } else { self.place(count) };
    }

    /// Copies what it holds from `offset` on; all of `into` must be there.
    #[inline]
    pub(crate) fn copy_out(&self, offset: usize, into: &mut [u8]) {
        let first = self.part(offset, into.len());
        let (front, back) = into.split_at_mut(first.len());
        front.copy_from_slice(first);
        if !back.is_empty() {
            // Behind the end of the buffer it goes on at its beginning.
            back.copy_from_slice(self.part(offset + front.len(), back.len()));
        }
    }

    /// Moves to a larger buffer.
    fn enlarge(&mut self, capacity: usize) {
        if capacity > self.capacity() {
            let mut new = Self::new(capacity);
            self.copy_out(0, &mut new.buffer[..self.len]);
            new.len = self.len;
            *self = new;
        }
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; self.len];
        self.copy_out(0, &mut bytes);
        bytes
    }
}

/// The buffers of a connection without an engine.
pub(crate) struct Plain {
    /// Arrived and not read yet.
    pub(crate) received: Ring,
    /// Written and not acknowledged yet; what is under way comes first.
    pub(crate) sending: Ring,
    /// When the peer must have its acknowledgement.
    pub(crate) ack_at: Instant,
    /// What the peer lacks of what it should have; none while that is nothing.
    pub(crate) board: Option<Box<Scoreboard>>,
    /// What the headers of its segments are copied from, once there were any.
    pub(crate) template: Option<Template>,
}

impl Plain {
    pub(crate) fn new(rx_buffer: usize, tx_buffer: usize) -> Self {
        Self {
            received: Ring::new(rx_buffer),
            sending: Ring::new(tx_buffer),
            ack_at: NEVER,
            board: None,
            template: None,
        }
    }

    /// The sizes of the receive and the send buffer, in bytes.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.received.capacity(), self.sending.capacity())
    }

    /// Makes the buffers larger.
    pub(crate) fn enlarge(&mut self, rx_buffer: usize, tx_buffer: usize) {
        self.received.enlarge(rx_buffer);
        self.sending.enlarge(tx_buffer);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.sending.clear();
        (self.ack_at, self.board, self.template) = (NEVER, None, None);
    }

    /// Takes what an engine held; the rings have its sizes.
    pub(crate) fn fill(&mut self, held: &Held) {
        self.received.append(&held.received);
        self.sending.append(&held.unacknowledged);
    }

    /// What an engine has to be given.
    pub(crate) fn held(&self) -> Held {
        Held { received: self.received.content(), unacknowledged: self.sending.content(), ..Held::default() }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<u8>),
        Discard(usize),
        Take(usize),
        Enlarge(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..24).prop_map(Step::Append),
            2 => (0usize..24).prop_map(Step::Discard),
            2 => (0usize..24).prop_map(Step::Take),
            1 => (0usize..64).prop_map(Step::Enlarge),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against a queue of bytes.
        #[test]
        fn a_ring_is_a_queue(capacity in 0usize..40, steps in steps(), offset in 0usize..40) {
            let (mut ring, mut queue) = (Ring::new(capacity), VecDeque::new());
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        let fits = &bytes[..bytes.len().min(ring.capacity() - ring.len())];
                        ring.append(fits);
                        queue.extend(fits);
                    }
                    Step::Discard(count) => {
                        ring.discard(count);
                        queue.drain(..count.min(queue.len()));
                    }
                    Step::Take(most) => {
                        let taken = ring.part(0, most).to_vec();
                        ring.discard(taken.len());
                        prop_assert!(taken.iter().all(|byte| queue.pop_front() == Some(*byte)));
                    }
                    Step::Enlarge(capacity) => ring.enlarge(capacity),
                }
                prop_assert_eq!(ring.len(), queue.len());
                let offset = offset.min(queue.len());
                let mut tail = alloc::vec![0; queue.len() - offset];
                ring.copy_out(offset, &mut tail);
                prop_assert!(queue.iter().skip(offset).eq(&tail));
            }
        }
    }
}
