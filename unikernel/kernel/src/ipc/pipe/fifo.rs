//! Pipes with names: opening their ends (fifo(7)).

use alloc::sync::Arc;

use crate::abi::Errno;
use crate::file::{File, FileFlags, PollSource, Readiness, WaitMode};
use crate::ipc::pipe::{BothEnds, Pipe};

/// A pipe with a name (fifo(7)). It has ends while it is open.
#[derive(Clone)]
pub(crate) struct Fifo(Arc<Pipe>);

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
    pub(crate) fn open_with(&self, flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
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
                let missing = pipe.state.lock().writers_missed();
                let end = Arc::new(pipe.read_end());
                pipe.writer.notify(Readiness::WRITABLE);
                if let Some(before) = missing.filter(|_| mode == WaitMode::MayBlock) {
                    wait_or_close(&*end, &pipe.reader, || pipe.state.lock().writers_ever != before)?;
                }
                Ok(end)
            }
            Ends::Write => {
                let missing = pipe.state.lock().readers_missed();
                if mode == WaitMode::NonBlocking && missing.is_some() {
                    return Err(Errno::ENXIO);
                }
                let end = Arc::new(pipe.write_end());
                pipe.reader.notify(Readiness::empty());
                if let Some(before) = missing {
                    wait_or_close(&*end, &pipe.writer, || pipe.state.lock().readers_ever != before)?;
                }
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
