//! Bytes from and to pipes on the kernel's behalf (splice(2), tee(2), vmsplice(2)).
//!
//! While the other side of such a transfer is slow, nothing may be lost and nothing be read twice. So bytes on their way out
//! stay in the ring, held, until it is known how many of them were taken; and room for bytes on their way in is set
//! aside before they are fetched.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, OpenFile, Readiness, WaitMode, broken_pipe};
use crate::ipc::pipe::{BothEnds, Pipe, ReadEnd, WriteEnd};
use crate::kmem::room;
use crate::mem::user::UserSlice;

/// A pipe as one side of a transfer.
#[derive(Clone)]
pub(crate) struct Side(Arc<Pipe>);

/// Bytes that are in the pipe still, and that nobody else can read. They stay there unless they are [taken](Self::take).
pub(crate) struct Held {
    pipe: Arc<Pipe>,
    bytes: Vec<u8>,
    taken: usize,
}

/// Room in a pipe that nobody else can fill.
pub(crate) struct Reserved {
    pipe: Arc<Pipe>,
    /// How many bytes.
    pub len: usize,
}

/// The pipe behind an open file, if it is an end of one.
pub(crate) fn side_of(opened: &OpenFile) -> Option<Side> {
    let reader = opened.downcast::<ReadEnd>().map(|end| &end.0);
    let writer = || opened.downcast::<WriteEnd>().map(|end| &end.0);
    let both = || opened.downcast::<BothEnds>().map(|ends| &ends.0.0);
    reader.or_else(writer).or_else(both).map(|pipe| Side(Arc::clone(pipe)))
}

impl Side {
    /// True if both are the same pipe.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until there are bytes to read. False if there never will be.
    pub(crate) fn wait_for_bytes(&self, mode: WaitMode) -> Result<bool, Errno> {
        self.0.reader.block_on(mode, None, || {
            let state = self.0.state.lock();
            match state.readable() {
                0 if state.has_writer() || state.held > 0 => Err(AttemptError::Again),
                len => Ok(len > 0),
            }
        })
    }

    /// Waits until there is room to write.
    pub(crate) fn wait_for_room(&self, mode: WaitMode) -> Result<(), Errno> {
        let waited = self.0.writer.block_on(mode, None, || {
            let state = self.0.state.lock();
            match state.free() {
                _ if !state.has_reader() => Err(AttemptError::Errno(Errno::EPIPE)),
                0 => Err(AttemptError::Again),
                _ => Ok(()),
            }
        });
        waited.map_err(|error| if error == Errno::EPIPE { broken_pipe() } else { error })
    }

    /// Holds the oldest bytes, `most` at most; none if there are none now.
    pub(crate) fn hold(&self, most: usize) -> Result<Held, Errno> {
        let mut bytes = room::with_capacity(most.min(super::CAPACITY_BYTES))?;
        let mut state = self.0.state.lock();
        if state.held == 0 {
            // What was reserved is not exceeded.
            state
                .ring
                .content(bytes.capacity().min(most))
                .iter()
                .for_each(|run| bytes.extend_from_slice(run));
            state.held = bytes.len();
        }
        drop(state);
        Ok(Held { pipe: Arc::clone(&self.0), bytes, taken: 0 })
    }

    /// Sets room aside for `most` bytes at most; none if there is none now.
    pub(crate) fn reserve(&self, most: usize) -> Result<Reserved, Errno> {
        let mut state = self.0.state.lock();
        // The buffer is there before it is relied on.
        state.ring.room(0).map_err(|_| Errno::ENOMEM)?;
        let len = most.min(state.free());
        state.reserved += len;
        drop(state);
        Ok(Reserved { pipe: Arc::clone(&self.0), len })
    }

    /// Moves bytes to another pipe, as many as there are and there is room for now, `most` at most.
    pub(crate) fn move_to(&self, other: &Self, most: usize) -> SysResult {
        let (held, count) = self.copy(other, most)?;
        held.take(count);
        Ok(count)
    }

    /// The same, and they stay here.
    pub(crate) fn copy_to(&self, other: &Self, most: usize) -> SysResult {
        Ok(self.copy(other, most)?.1)
    }

    fn copy(&self, other: &Self, most: usize) -> Result<(Held, usize), Errno> {
        let reserved = other.reserve(most)?;
        let mut held = self.hold(reserved.len)?;
        let count = held.bytes().len();
        if count > 0 {
            reserved.fill(held.bytes())?;
        }
        Ok((held, count))
    }

    /// Takes as much of the app's memory as there is room for.
    pub(crate) fn fill_from(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        let written = self.0.writer.block_on(mode, None, || self.0.try_write(from, 1));
        let count = written.map_err(|error| if error == Errno::EPIPE { broken_pipe() } else { error })?;
        self.0.reader.notify(Readiness::READABLE);
        Ok(count)
    }
}

impl Held {
    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// So many of them have gone elsewhere.
    pub(crate) fn take(mut self, count: usize) {
        self.taken = count.min(self.bytes.len());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let mut state = self.pipe.state.lock();
        state.held = 0;
        state.ring.consume(self.taken);
        let has_more = !state.ring.is_empty();
        let is_over = !state.has_writer();
        drop(state);
        if self.taken > 0 {
            self.pipe.writer.notify(Readiness::WRITABLE);
        }
        if has_more || is_over {
            self.pipe.reader.notify(Readiness::READABLE);
        }
    }
}

impl Reserved {
    /// Puts bytes there, no more than were reserved. The rest of the room is free again.
    pub(crate) fn fill(self, bytes: &[u8]) -> Result<(), Errno> {
        let bytes = &bytes[..bytes.len().min(self.len)];
        let mut state = self.pipe.state.lock();
        if !state.has_reader() {
            drop(state);
            return Err(broken_pipe());
        }
        let [head, tail] = state.ring.room(bytes.len()).map_err(|_| Errno::ENOMEM)?;
        let (first, second) = bytes.split_at(head.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        state.ring.commit(bytes.len());
        drop(state);
        self.pipe.reader.notify(Readiness::READABLE);
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.reserved -= self.len;
        drop(state);
        if self.len > 0 {
            self.pipe.writer.notify(Readiness::WRITABLE);
        }
    }
}
