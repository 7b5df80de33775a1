//! splice(2) and tee(2) as requests. Two files may have to be waited for: whichever is not ready.

use alloc::sync::Arc;

use linux_raw_sys::general::SPLICE_F_NONBLOCK;
use linux_raw_sys::io_uring::SPLICE_F_FD_IN_FIXED;

use super::Ring;
use super::attempt::Attempt;
use super::operation::opcode;
use super::request::{Action, Request};
use super::sqe::Sqe;
use crate::abi::{Errno, SysResult};
use crate::file::{self, OpenFile, Readiness, WaitMode};
use crate::ops::splice::Transfer;

/// What is to be moved into the request's file.
pub(super) struct Splice {
    /// Found when the request is started, as its file is.
    pub(super) from: Option<Arc<OpenFile>>,
    in_offset: Option<i64>,
    out_offset: Option<i64>,
    is_tee: bool,
}

impl Splice {
    /// Reads the entry, whose second file is where others have a registered one, and -1 stands for no offset.
    pub(super) fn read(sqe: &Sqe) -> Result<Self, Errno> {
        let is_tee = sqe.opcode == opcode::TEE;
        if is_tee && (sqe.off != 0 || sqe.addr != 0) {
            return Err(Errno::EINVAL);
        }
        let offset = |word: u64| (!is_tee && word != u64::MAX).then_some(word as i64);
        Ok(Self { from: None, in_offset: offset(sqe.addr), out_offset: offset(sqe.off), is_tee })
    }

    fn transfer(&self, sqe: &Sqe, to: &OpenFile) -> SysResult {
        let transfer = Transfer {
            from: self.from.as_ref().ok_or(Errno::EBADF)?,
            to,
            in_offset: self.in_offset,
            out_offset: self.out_offset,
            len: sqe.len as usize,
            flags: sqe.op_flags & !SPLICE_F_FD_IN_FIXED,
            never_waits: true,
        };
        if self.is_tee { transfer.tee() } else { transfer.splice() }
    }

    /// True if `EAGAIN` is the answer rather than a reason to wait.
    fn is_hasty(&self, sqe: &Sqe, to: &OpenFile) -> bool {
        let is_hasty = |opened: &OpenFile| opened.wait_mode() == WaitMode::NonBlocking;
        sqe.op_flags & SPLICE_F_NONBLOCK != 0 || is_hasty(to) || self.from.as_deref().is_some_and(is_hasty)
    }
}

impl Ring {
    /// The file that a transfer takes its bytes from.
    pub(super) fn source_of(&self, sqe: &Sqe) -> Result<Arc<OpenFile>, Errno> {
        if sqe.op_flags & SPLICE_F_FD_IN_FIXED != 0 {
            self.registered.lock().file(sqe.file_index)
        } else {
            file::get(sqe.file_index as i32)
        }
    }

    /// Tries to get a transfer done. If it has to wait, the request is told for which file.
    pub(super) fn splice(&self, request: &mut Request) -> Attempt {
        let (Action::Splice(splice), Some(to)) = (&request.action, &request.file) else {
            return Attempt::Done(Err(Errno::EBADF), 0);
        };
        let result = splice.transfer(&request.sqe, to);
        let Some(from) = splice.from.as_ref().filter(|_| result == Err(Errno::EAGAIN)) else {
            return Attempt::Done(result, 0);
        };
        if splice.is_hasty(&request.sqe, to) {
            return Attempt::Done(result, 0);
        }
        let has_bytes = from.file.readiness().intersects(Readiness::READABLE | Readiness::ALWAYS);
        let (awaited, wanted) =
            if has_bytes { (to, Readiness::WRITABLE) } else { (from, Readiness::READABLE) };
        request.awaited = Some(Arc::clone(awaited));
        Attempt::Blocked(wanted)
    }
}
