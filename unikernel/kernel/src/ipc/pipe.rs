//! pipe(2): bytes from one end to the other, 64 KiB at most in between. [`splice`] moves them on the kernel's behalf.

mod fifo;
pub(crate) mod splice;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::S_IFIFO;
use linux_raw_sys::ioctl::FIONREAD;
use unikernel_fs::Ring;

pub(crate) use fifo::Fifo;

use crate::abi::{Errno, SysResult};
use crate::file::{
    AttemptError, File, FileFlags, Metadata, OpenFile, PollSource, Readiness, WaitMode, broken_pipe,
};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::sync::SpinLock;

/// Bytes a pipe holds (pipe(7)).
pub(crate) const CAPACITY_BYTES: usize = 65_536;
/// A write of so much at most is not mixed with others' (`PIPE_BUF`).
const ATOMIC_BYTES: usize = 4096;

struct State {
    ring: Ring<CAPACITY_BYTES>,
    /// Of the oldest bytes, those that a transfer of the kernel's holds: until it lets go, nobody reads.
    held: usize,
    /// Room that is set aside for such a transfer.
    reserved: usize,
    readers: usize,
    writers: usize,
    /// Somebody has been able to write: only then does a lack of writers mean a hang-up (fifo(7)).
    had_writer: bool,
    /// Ends that there have ever been: who waits for the other end must not miss one that came and went.
    readers_ever: usize,
    writers_ever: usize,
}

impl State {
    fn has_reader(&self) -> bool {
        self.readers > 0
    }

    fn has_writer(&self) -> bool {
        self.writers > 0
    }

    /// If nobody could read, how many readers there have ever been: one more, and somebody could.
    fn readers_missed(&self) -> Option<usize> {
        (!self.has_reader()).then_some(self.readers_ever)
    }

    /// The same of writers.
    fn writers_missed(&self) -> Option<usize> {
        (!self.has_writer()).then_some(self.writers_ever)
    }

    /// Bytes that can be read now.
    fn readable(&self) -> usize {
        if self.held > 0 { 0 } else { self.ring.len() }
    }

    /// Bytes that can be written now.
    fn free(&self) -> usize {
        self.ring.free().saturating_sub(self.reserved)
    }
}

struct Pipe {
    state: SpinLock<State>,
    reader: PollSource,
    writer: PollSource,
    inode: u64,
    /// It is opened by a name, so that who opens an end waits for the other one.
    is_named: bool,
}

/// The end to read from.
pub(crate) struct ReadEnd(Arc<Pipe>);
/// The end to write to.
pub(crate) struct WriteEnd(Arc<Pipe>);

/// Both ends in one: a named pipe that was opened to read and write.
struct BothEnds(ReadEnd, WriteEnd);

/// Makes a pipe.
pub(crate) fn pair() -> (Arc<ReadEnd>, Arc<WriteEnd>) {
    let pipe = Pipe::new(false);
    (Arc::new(pipe.read_end()), Arc::new(pipe.write_end()))
}

/// True if an open file is an end of a pipe.
pub(crate) fn is_pipe(opened: &OpenFile) -> bool {
    splice::side_of(opened).is_some()
}

impl Pipe {
    fn new(is_named: bool) -> Arc<Self> {
        static NEXT_INODE: AtomicU64 = AtomicU64::new(1);
        let state = State {
            ring: Ring::new(),
            held: 0,
            reserved: 0,
            readers: 0,
            writers: 0,
            had_writer: false,
            readers_ever: 0,
            writers_ever: 0,
        };
        Arc::new(Self {
            state: SpinLock::new(state),
            reader: PollSource::new(),
            writer: PollSource::new(),
            inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            is_named,
        })
    }

    fn read_end(self: &Arc<Self>) -> ReadEnd {
        let mut state = self.state.lock();
        state.readers += 1;
        state.readers_ever += 1;
        drop(state);
        ReadEnd(Arc::clone(self))
    }

    fn write_end(self: &Arc<Self>) -> WriteEnd {
        let mut state = self.state.lock();
        state.writers += 1;
        state.writers_ever += 1;
        state.had_writer = true;
        drop(state);
        WriteEnd(Arc::clone(self))
    }

    /// What is in a named pipe when nobody has it open any more is lost.
    fn forget_if_closed(state: &mut State) {
        if !state.has_reader() && !state.has_writer() {
            let len = state.ring.len();
            state.ring.consume(len);
            state.had_writer = false;
        }
    }

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

    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError> {
        let mut state = self.state.lock();
        if state.readable() == 0 {
            let may_come = state.has_writer() || state.held > 0;
            return if may_come { Err(AttemptError::Again) } else { Ok(0) };
        }
        let [head, tail] = state.ring.content(into.len());
        into.try_write(head)?;
        if !tail.is_empty() {
            into.skip(head.len()).try_write(tail)?;
        }
        let count = head.len() + tail.len();
        state.ring.consume(count);
        Ok(count)
    }

    /// Writes what there is room for, if that is `least` at least.
    fn try_write(&self, from: UserSlice, least: usize) -> Result<usize, AttemptError> {
        let mut state = self.state.lock();
        if !state.has_reader() {
            return Err(Errno::EPIPE.into());
        }
        let free = state.free();
        if free < least {
            return Err(AttemptError::Again);
        }
        if !state.ring.has_buffer() {
            room::ask_locked().map_err(Errno::from)?;
        }
        let [head, tail] = state.ring.room(from.len().min(free)).map_err(|_| Errno::ENOMEM)?;
        from.try_read(head)?;
        if !tail.is_empty() {
            from.skip(head.len()).try_read(tail)?;
        }
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
        ready.set(Readiness::READABLE, state.readable() > 0);
        ready.set(Readiness::HUP, !state.has_writer() && state.had_writer);
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

    fn reopen(&self, flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        Fifo::of(&self.0).open_with(flags)
    }

    fn close(&self) {
        let is_last = {
            let mut state = self.0.state.lock();
            state.readers -= 1;
            Pipe::forget_if_closed(&mut state);
            !state.has_reader()
        };
        if is_last {
            self.0.writer.notify(Readiness::ERR | Readiness::WRITABLE);
        }
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
            let least = if rest.len() <= ATOMIC_BYTES { rest.len() } else { 1 };
            match self.0.writer.block_on(mode, None, || self.0.try_write(rest, least)) {
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
        ready.set(Readiness::WRITABLE, state.free() >= ATOMIC_BYTES);
        ready.set(Readiness::ERR, !state.has_reader());
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

    fn reopen(&self, flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        Fifo::of(&self.0).open_with(flags)
    }

    fn close(&self) {
        let is_last = {
            let mut state = self.0.state.lock();
            state.writers -= 1;
            Pipe::forget_if_closed(&mut state);
            !state.has_writer()
        };
        if is_last {
            self.0.reader.notify(Readiness::HUP);
        }
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

impl File for BothEnds {
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        self.0.read(into, mode)
    }

    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        self.1.write(from, mode)
    }

    fn readiness(&self) -> Readiness {
        self.0.readiness() | self.1.readiness()
    }

    fn poll_source(&self) -> Option<&PollSource> {
        // What is written comes to the reader: it hears of that, and asks about both.
        self.0.poll_source()
    }

    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        self.0.ioctl(request, argument)
    }

    fn reopen(&self, flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        Fifo::of(&self.0.0).open_with(flags)
    }

    fn close(&self) {
        self.1.close();
        self.0.close();
    }

    fn name(&self) -> String {
        self.0.name()
    }
}
