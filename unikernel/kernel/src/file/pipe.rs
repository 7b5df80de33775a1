//! pipe(2): bytes from one end to the other, 64 KiB at most in between.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::S_IFIFO;
use linux_raw_sys::ioctl::FIONREAD;
use unikernel_fs::Ring;

use super::{File, Metadata, OpenFile, PollSource, Readiness, WaitMode, broken_pipe};
use crate::mem::user::{UserPtr, UserSlice};
use crate::sync::SpinLock;
use crate::syscall::{Errno, SysResult};

/// Bytes a pipe holds (pipe(7)).
pub const CAPACITY_BYTES: usize = 65_536;
/// A write of so much at most is not mixed with others' (`PIPE_BUF`).
const ATOMIC_BYTES: usize = 4096;

struct State {
    ring: Ring<CAPACITY_BYTES>,
    has_reader: bool,
    has_writer: bool,
}

struct Pipe {
    state: SpinLock<State>,
    reader: PollSource,
    writer: PollSource,
    inode: u64,
}

/// The end to read from.
pub struct ReadEnd(Arc<Pipe>);
/// The end to write to.
pub struct WriteEnd(Arc<Pipe>);

/// Makes a pipe.
pub fn pair() -> (Arc<ReadEnd>, Arc<WriteEnd>) {
    static NEXT_INODE: AtomicU64 = AtomicU64::new(1);
    let pipe = Arc::new(Pipe {
        state: SpinLock::new(State { ring: Ring::new(), has_reader: true, has_writer: true }),
        reader: PollSource::new(),
        writer: PollSource::new(),
        inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
    });
    (Arc::new(ReadEnd(Arc::clone(&pipe))), Arc::new(WriteEnd(pipe)))
}

/// True if an open file is an end of a pipe.
pub fn is_pipe(opened: &OpenFile) -> bool {
    opened.downcast::<ReadEnd>().is_some() || opened.downcast::<WriteEnd>().is_some()
}

impl Pipe {
    fn metadata(&self) -> Metadata {
        Metadata::anonymous(S_IFIFO, self.inode)
    }

    fn name(&self) -> String {
        format!("pipe:[{}]", self.inode)
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let len = self.state.lock().ring.len();
        UserPtr::new(argument).write(len as i32)?;
        Ok(0)
    }

    fn try_read(&self, into: UserSlice) -> SysResult {
        let mut state = self.state.lock();
        if state.ring.is_empty() {
            return if state.has_writer { Err(Errno::EAGAIN) } else { Ok(0) };
        }
        let [head, tail] = state.ring.content(into.len());
        into.write(head)?;
        into.skip(head.len()).write(tail)?;
        let count = head.len() + tail.len();
        state.ring.consume(count);
        Ok(count)
    }

    fn try_write(&self, from: UserSlice) -> SysResult {
        let mut state = self.state.lock();
        if !state.has_reader {
            return Err(Errno::EPIPE);
        }
        let least = if from.len() <= ATOMIC_BYTES { from.len() } else { 1 };
        if state.ring.free() < least {
            return Err(Errno::EAGAIN);
        }
        let [head, tail] = state.ring.room(from.len());
        from.read(head)?;
        from.skip(head.len()).read(tail)?;
        let count = head.len() + tail.len();
        state.ring.commit(count);
        Ok(count)
    }
}

impl File for ReadEnd {
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.is_empty() {
            return Ok(0);
        }
        let count = self.0.reader.block_on(mode, None, || self.0.try_read(into))?;
        self.0.writer.notify(Readiness::WRITABLE);
        Ok(count)
    }

    fn readiness(&self) -> Readiness {
        let state = self.0.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE, !state.ring.is_empty());
        ready.set(Readiness::HUP, !state.has_writer);
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.0.reader)
    }

    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        self.0.ioctl(request, argument)
    }

    fn close(&self) {
        self.0.state.lock().has_reader = false;
        self.0.writer.notify(Readiness::ERR | Readiness::WRITABLE);
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

impl File for WriteEnd {
    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        let mut written = 0;
        // A blocking write ends when all is written, a non-blocking one when the pipe is full.
        while written < from.len() {
            let rest = from.skip(written);
            match self.0.writer.block_on(mode, None, || self.0.try_write(rest)) {
                Ok(count) => written += count,
                Err(Errno::EPIPE) => return Err(broken_pipe()),
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
            self.0.reader.notify(Readiness::READABLE);
        }
        Ok(written)
    }

    fn readiness(&self) -> Readiness {
        let state = self.0.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::WRITABLE, state.ring.free() >= ATOMIC_BYTES);
        ready.set(Readiness::ERR, !state.has_reader);
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.0.writer)
    }

    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        self.0.ioctl(request, argument)
    }

    fn close(&self) {
        self.0.state.lock().has_writer = false;
        self.0.reader.notify(Readiness::HUP);
    }

    fn name(&self) -> String {
        self.0.name()
    }
}
