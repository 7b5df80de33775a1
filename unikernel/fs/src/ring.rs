//! Bytes on their way through a pipe: first in, first out, in a buffer of fixed size that is
//! allocated when the first byte comes.
//!
//! The caller copies: it is shown the at most two runs where bytes are or may go, and says
//! afterwards how many it moved. So a copy that fails half-way leaves the ring as it was.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::ops::Range;

/// A queue of at most `CAPACITY` bytes.
#[derive(Debug, Default)]
pub struct Ring<const CAPACITY: usize> {
    bytes: Vec<u8>,
    first: usize,
    len: usize,
}

impl<const CAPACITY: usize> Ring<CAPACITY> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), first: 0, len: 0 }
    }

    /// Bytes in it.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if it has its buffer already.
    pub const fn has_buffer(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Bytes that it has room for.
    pub const fn free(&self) -> usize {
        CAPACITY - self.len
    }

    /// The oldest bytes, `wanted` at most.
    #[inline]
    pub fn content(&self, wanted: usize) -> [&[u8]; 2] {
        let [head, tail] = runs::<CAPACITY>(self.first, wanted.min(self.len));
        [self.bytes.get(head).unwrap_or(&[]), self.bytes.get(tail).unwrap_or(&[])]
    }

    /// Takes out the `count` oldest bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len, "more bytes taken out than were in");
        self.first = (self.first + count) % CAPACITY;
        self.len -= count;
    }

    /// Room for new bytes, `wanted` at most.
    #[inline]
    pub fn room(&mut self, wanted: usize) -> Result<[&mut [u8]; 2], TryReserveError> {
        if !self.has_buffer() {
            self.allocate()?;
        }
        let [head, tail] = runs::<CAPACITY>((self.first + self.len) % CAPACITY, wanted.min(self.free()));
        let (low, high) = self.bytes.split_at_mut(head.start);
        Ok([&mut high[..head.len()], &mut low[tail]])
    }

    #[cold]
    fn allocate(&mut self) -> Result<(), TryReserveError> {
        self.bytes.try_reserve_exact(CAPACITY)?;
        self.bytes.resize(CAPACITY, 0);
        Ok(())
    }

    /// Adds the bytes that were written to the start of [`Self::room`].
    ///
    /// # Panics
    ///
    /// If there was less room.
    pub fn commit(&mut self, count: usize) {
        assert!(count <= self.free(), "more bytes put in than there was room for");
        self.len += count;
    }
}

/// The run of `count` bytes from `start` on, cut in two where it wraps.
fn runs<const CAPACITY: usize>(start: usize, count: usize) -> [Range<usize>; 2] {
    let head = count.min(CAPACITY - start);
    [start..start + head, 0..count - head]
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ring_behaves_as_a_queue(moves in prop::collection::vec((any::<bool>(), 0..30usize), 0..100)) {
            let (mut ring, mut model) = (Ring::<16>::new(), VecDeque::new());
            let mut next = 0u8;
            for (is_write, count) in moves {
                if is_write {
                    let [head, tail] = ring.room(count).unwrap();
                    prop_assert_eq!(head.len() + tail.len(), count.min(16 - model.len()));
                    let mut written = 0;
                    for byte in head.iter_mut().chain(tail) {
                        *byte = next;
                        model.push_back(next);
                        next = next.wrapping_add(1);
                        written += 1;
                    }
                    ring.commit(written);
                } else {
                    let [head, tail] = ring.content(count);
                    let taken = head.len() + tail.len();
                    let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
                    prop_assert_eq!([head, tail].concat(), expected);
                    ring.consume(taken);
                }
                prop_assert_eq!((ring.len(), ring.free()), (model.len(), 16 - model.len()));
            }
        }
    }

    #[test]
    #[should_panic(expected = "more bytes taken out")]
    fn taking_more_than_there_is_panics() {
        Ring::<16>::new().consume(1);
    }
}
