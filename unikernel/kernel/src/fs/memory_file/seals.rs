//! Seals: what nobody may do to a file in memory any more (fcntl(2), `F_ADD_SEALS`). They can be added and never taken away.
//!
//! Writes are counted while they copy, for they hold no lock then: a seal against writing is refused while there is one.

use linux_raw_sys::general::{
    F_SEAL_EXEC, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE,
};

use super::{MemoryFile, State};
use crate::abi::Errno;
use crate::mem::space;

const ALL: u32 = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
/// What an executable file gets with `F_SEAL_EXEC`.
const CONTENT: u32 = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
/// No content may be written.
const ANY_WRITE: u32 = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

/// A write that is under way.
pub(super) struct Writing<'f>(&'f MemoryFile);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().writing -= 1;
    }
}

impl State {
    /// Checks that the file may get this length.
    pub(super) fn check_resize(&self, size: u64) -> Result<(), Errno> {
        let breaks_seal = size < self.size && self.seals & F_SEAL_SHRINK != 0
            || size > self.size && self.seals & F_SEAL_GROW != 0;
        if breaks_seal { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Checks that content may be written.
    pub(super) fn check_write(&self) -> Result<(), Errno> {
        if self.seals & ANY_WRITE != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }
}

impl MemoryFile {
    /// The seals.
    pub(crate) fn seals(&self) -> u32 {
        self.state.lock().seals
    }

    /// Sets the seals of a file that nobody else has yet.
    pub(crate) fn begin_with_seals(&self, seals: u32) {
        self.state.lock().seals = seals;
    }

    /// Adds seals to a file with these permission bits.
    pub(crate) fn add_seals(&self, seals: u32, mode: u32) -> Result<(), Errno> {
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        let implied = if seals & F_SEAL_EXEC != 0 && mode & 0o111 != 0 { CONTENT } else { 0 };
        let seals = seals | implied;
        // Nobody makes the file grow meanwhile, or seals it.
        let _turn = self.moving_end.lock();
        let before = {
            let mut state = self.state.lock();
            if state.seals & F_SEAL_SEAL != 0 {
                return Err(Errno::EPERM);
            }
            let ends_writing = seals & F_SEAL_WRITE & !state.seals != 0;
            if ends_writing && state.writing > 0 {
                return Err(Errno::EBUSY);
            }
            let before = state.seals;
            state.seals |= seals;
            if !ends_writing {
                return Ok(());
            }
            before
        };
        // From now on there are no new ones.
        if space::has_writable_mapping(self) {
            self.state.lock().seals = before;
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Counts a write, if there may be one.
    pub(super) fn begin_write(&self) -> Result<Writing<'_>, Errno> {
        let mut state = self.state.lock();
        state.check_write()?;
        state.writing += 1;
        Ok(Writing(self))
    }

    /// Checks that a file with some permission bits may get others.
    pub(crate) fn check_mode(&self, before: u32, wanted: u32) -> Result<(), Errno> {
        let is_refused = self.seals() & F_SEAL_EXEC != 0 && (before ^ wanted) & 0o111 != 0;
        if is_refused { Err(Errno::EPERM) } else { Ok(()) }
    }
}
