//! Bytes between pipes and other files without passing through the app (splice(2), tee(2), vmsplice(2)). They are copied: what
//! Linux does by handing on pages is not seen from outside.

use linux_raw_sys::general::{
    S_IFCHR, S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK, SPLICE_F_GIFT, SPLICE_F_MORE, SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
};

use crate::abi::{Errno, SysResult};
use crate::file::{FileFlags, OpenFile, WaitMode};
use crate::ipc::pipe::splice::{Side, side_of};
use crate::kmem::room;
use crate::mem::user::with_kernel_buffer;

/// Bytes moved at a time: what a pipe holds.
const MOST_BYTES: usize = crate::ipc::pipe::CAPACITY_BYTES;

/// Refuses flags that there are not.
pub(crate) fn check_flags(flags: u32) -> Result<(), Errno> {
    let known = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Whether a pipe is waited for: not if one of the descriptors or the call says no.
pub(crate) fn mode_of(flags: u32, opened: &[&OpenFile]) -> WaitMode {
    let is_hasty = opened.iter().any(|opened| opened.wait_mode() == WaitMode::NonBlocking);
    if flags & SPLICE_F_NONBLOCK != 0 || is_hasty { WaitMode::NonBlocking } else { WaitMode::MayBlock }
}

/// Bytes on their way from one open file to another. An offset stands for where the file is if there is none.
pub(crate) struct Transfer<'a> {
    /// Where they are.
    pub from: &'a OpenFile,
    /// Where they go.
    pub to: &'a OpenFile,
    /// Where to begin in the one,
    pub in_offset: Option<i64>,
    /// and in the other.
    pub out_offset: Option<i64>,
    /// How many, at most.
    pub len: usize,
    /// `SPLICE_F_*`.
    pub flags: u32,
    /// Nothing is waited for, whatever flags and descriptors say: what would be is `EAGAIN`.
    pub never_waits: bool,
}

impl Transfer<'_> {
    /// Moves what is there (splice(2)).
    pub(crate) fn splice(&self) -> SysResult {
        if self.len == 0 {
            return Ok(0);
        }
        check_flags(self.flags)?;
        let sides = (side_of(self.from), side_of(self.to));
        if sides.0.is_some() && self.in_offset.is_some() || sides.1.is_some() && self.out_offset.is_some() {
            return Err(Errno::ESPIPE);
        }
        self.check_access()?;
        match sides {
            (Some(from_pipe), Some(to_pipe)) => {
                between(&from_pipe, &to_pipe, self.len, self.mode(&[self.from, self.to]), Side::move_to)
            }
            (Some(pipe), None) => self.out_of(&pipe),
            (None, Some(pipe)) => self.into(&pipe),
            (None, None) => Err(Errno::EINVAL),
        }
    }

    /// Copies what is there from pipe to pipe (tee(2)).
    pub(crate) fn tee(&self) -> SysResult {
        check_flags(self.flags)?;
        if self.len == 0 {
            return Ok(0);
        }
        self.check_access()?;
        let (from_pipe, to_pipe) = side_of(self.from).zip(side_of(self.to)).ok_or(Errno::EINVAL)?;
        between(&from_pipe, &to_pipe, self.len, self.mode(&[self.from, self.to]), Side::copy_to)
    }

    fn check_access(&self) -> Result<(), Errno> {
        let is_allowed = self.from.flags().can_read() && self.to.flags().can_write();
        if is_allowed { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Whether pipes are waited for.
    fn mode(&self, opened: &[&OpenFile]) -> WaitMode {
        if self.never_waits { WaitMode::NonBlocking } else { mode_of(self.flags, opened) }
    }

    /// Whether what is no pipe is waited for.
    fn mode_of_other(&self, opened: &OpenFile) -> WaitMode {
        if self.never_waits { WaitMode::NonBlocking } else { opened.wait_mode() }
    }

    /// From a file or a socket into a pipe, once. Each of the two has its own say in whether it is waited for.
    fn into(&self, pipe: &Side) -> SysResult {
        let start = start_of(self.from, self.in_offset, self.len)?;
        if !matches!(self.from.file.metadata().mode & S_IFMT, S_IFREG | S_IFCHR | S_IFSOCK) {
            return Err(Errno::EINVAL);
        }
        let reserved = loop {
            pipe.wait_for_room(self.mode(&[self.to]))?;
            let reserved = pipe.reserve(self.len)?;
            if reserved.len > 0 {
                break reserved;
            }
        };
        let mut bytes = room::filled(0, reserved.len)?;
        let count = with_kernel_buffer(&mut bytes, |chunk| match start {
            Some(start) => self.from.read_at(start, chunk),
            None if self.from.file.is_seekable() => self.from.read(chunk),
            None => self.from.read_vectored_with(&[chunk], self.mode(&[self.from])),
        })?;
        if count > 0 {
            reserved.fill(&bytes[..count])?;
        }
        Ok(count)
    }

    /// From a pipe into a file or a socket: what is there.
    fn out_of(&self, pipe: &Side) -> SysResult {
        let (to, len) = (self.to, self.len);
        let kind = to.file.metadata().mode & S_IFMT;
        if to.flags().contains(FileFlags::APPEND)
            || !to.file.is_regular() && !matches!(kind, S_IFCHR | S_IFSOCK)
            || kind == S_IFDIR
        {
            return Err(Errno::EINVAL);
        }
        let start = start_of(to, self.out_offset, len)?;
        let (mut moved, mut mode) = (0, self.mode(&[self.from]));
        let outcome = loop {
            if moved == len {
                break Ok(());
            }
            match pipe.wait_for_bytes(mode) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
            let mut held = pipe.hold((len - moved).min(MOST_BYTES))?;
            if held.bytes().is_empty() {
                continue;
            }
            let written = with_kernel_buffer(held.bytes(), |chunk| match start {
                Some(start) => to.write_at(start + moved as u64, chunk),
                None => to.write_with(chunk, self.mode_of_other(to)),
            });
            match written {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    held.take(count);
                    moved += count;
                }
                Err(error) => break Err(error),
            }
            // Only the first bytes are waited for.
            mode = WaitMode::NonBlocking;
        };
        match outcome {
            Err(error) if moved == 0 => Err(error),
            _ => Ok(moved),
        }
    }
}

/// Moves or copies bytes once, as many as there are and there is room for.
fn between(
    from: &Side,
    to: &Side,
    len: usize,
    mode: WaitMode,
    transfer: fn(&Side, &Side, usize) -> SysResult,
) -> SysResult {
    if from.is(to) {
        return Err(Errno::EINVAL);
    }
    loop {
        if !from.wait_for_bytes(mode)? {
            return Ok(0);
        }
        to.wait_for_room(mode)?;
        match transfer(from, to, len)? {
            // Another thread was faster.
            0 => {}
            moved => return Ok(moved),
        }
    }
}

/// Where a transfer begins in a file that is no pipe.
fn start_of(opened: &OpenFile, offset: Option<i64>, len: usize) -> Result<Option<u64>, Errno> {
    let given = offset.map(u64::try_from).transpose().map_err(|_| Errno::EINVAL)?;
    if given.is_some() && !opened.file.takes_offset() || len > isize::MAX as usize {
        return Err(Errno::EINVAL);
    }
    let start = match given {
        Some(start) => start,
        None if opened.file.is_seekable() => opened.with_offset(|offset| *offset),
        None => 0,
    };
    start.checked_add(len as u64).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
    Ok(given)
}
