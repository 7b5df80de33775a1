//! Pipes with names: opening their ends (fifo(7)).

use alloc::sync::Arc;

use super::{BothEnds, Pipe};
use crate::file::{File, FileFlags, PollSource, Readiness, WaitMode};
use crate::syscall::Errno;

/// A pipe with a name (fifo(7)). It has ends while it is open.
#[derive(Clone)]
pub struct Fifo(Arc<Pipe>);

/// Which ends of a named pipe are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    /// The one to read from.
    Read,
    /// The one to write to.
    Write,
    /// Both.
    Both,
}

impl Default for Fifo {
    /// A named pipe that nobody has open.
    fn default() -> Self {
        Self(Pipe::new(true))
    }
}

impl Fifo {
    /// A pipe, to be opened once more.
    pub(super) fn of(pipe: &Arc<Pipe>) -> Self {
        Self(Arc::clone(pipe))
    }

    /// Opens it, by flags of open(2).
    pub fn open_with(&self, flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        let ends = match (flags.can_read(), flags.can_write()) {
            (true, true) => Ends::Both,
            (false, _) => Ends::Write,
            (true, false) => Ends::Read,
        };
        let is_patient = !flags.contains(FileFlags::NONBLOCK);
        self.open(ends, if is_patient { WaitMode::MayBlock } else { WaitMode::NonBlocking })
    }

    /// Opens it. Who wants one end waits for somebody at the other; if it may not wait, reading goes on
    /// without, and writing answers `ENXIO`.
    fn open(&self, ends: Ends, mode: WaitMode) -> Result<Arc<dyn File>, Errno> {
        let pipe = &self.0;
        match ends {
            Ends::Read if !pipe.is_named => Ok(Arc::new(pipe.read_end())),
            Ends::Write if !pipe.is_named => Ok(Arc::new(pipe.write_end())),
            Ends::Both => Ok(Arc::new(BothEnds(pipe.read_end(), pipe.write_end()))),
            Ends::Read => {
                let (is_met, before) = {
                    let state = pipe.state.lock();
                    (state.has_writer(), state.writers_ever)
                };
                let end = Arc::new(pipe.read_end());
                pipe.writer.notify(Readiness::WRITABLE);
                // A writer that was there may have written and left by now.
                if mode == WaitMode::MayBlock && !is_met {
                    wait_or_close(&*end, &pipe.reader, || {
                        let state = pipe.state.lock();
                        state.has_writer() || state.writers_ever != before
                    })?;
                }
                Ok(end)
            }
            Ends::Write => {
                if mode == WaitMode::NonBlocking && !pipe.state.lock().has_reader() {
                    return Err(Errno::ENXIO);
                }
                let (is_met, before) = {
                    let state = pipe.state.lock();
                    (state.has_reader(), state.readers_ever)
                };
                let end = Arc::new(pipe.write_end());
                pipe.reader.notify(Readiness::empty());
                wait_or_close(&*end, &pipe.writer, || {
                    let state = pipe.state.lock();
                    is_met || state.has_reader() || state.readers_ever != before
                })?;
                Ok(end)
            }
        }
    }
}

/// Waits until somebody has the other end. A signal gives the own one back.
fn wait_or_close(end: &dyn File, source: &PollSource, is_there: impl Fn() -> bool) -> Result<(), Errno> {
    source.wait(None, || is_there().then_some(())).map_err(|_| {
        end.close();
        Errno::RESTART
    })
}
