//! Requests that may have to sleep, for a disk: they go to threads of the kernel's own, so that the app has as
//! many of them in flight as it likes, and an idle core, which cannot sleep, never meets one (Linux: io-wq). Where pages of
//! the app's memory may have to be waited for, an idle core meets none at all.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::Ring;
use super::operation::opcode;
use super::request::{Action, Request};
use crate::abi::Errno;
use crate::mem::space;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// Threads at most: so many requests are in flight.
const MOST_WORKERS: usize = 32;

/// What there is to do, and who does it.
struct Pool {
    waiting: VecDeque<(Arc<Ring>, Box<Request>)>,
    workers: usize,
    /// Workers that wait for something to do.
    idle: usize,
}

static POOL: SpinLock<Pool> = SpinLock::new(Pool { waiting: VecDeque::new(), workers: 0, idle: 0 });
static NEWS: WaitQueue = WaitQueue::new();

/// True if a request must not be tried here: it would keep the submitter waiting for the disk, or it might sleep
/// where nobody can.
pub(super) fn wants_worker(request: &Request) -> bool {
    if request.is_with_worker {
        return false;
    }
    if !scheduler::can_block() && space::has_paged_objects() && copies(&request.action) {
        return true;
    }
    match (&request.action, &request.file) {
        (Action::Read { buffers, offset }, Some(opened)) if opened.file.is_on_disk() => {
            let len = buffers.iter().map(crate::mem::user::UserSlice::len).sum();
            !scheduler::can_block() || offset.is_none_or(|offset| !opened.file.has_in_memory(offset, len))
        }
        (Action::Write { .. }, Some(opened)) if opened.file.is_on_disk() => true,
        (Action::Read { .. } | Action::Write { .. }, Some(opened)) => {
            // The lock of the place where the file stands is one that sleeps.
            opened.file.is_seekable() && !scheduler::can_block()
        }
        (Action::Splice(splice), Some(to)) => {
            let mut both = [splice.from.as_ref(), Some(to)].into_iter().flatten();
            both.any(|opened| {
                opened.file.is_on_disk() || opened.file.is_seekable() && !scheduler::can_block()
            })
        }
        (Action::Call, Some(opened)) => {
            // A file in memory has a lock that sleeps as well, for its end.
            opened.file.is_on_disk() || opened.file.is_seekable() && !scheduler::can_block()
        }
        (Action::Call, None) => walks(request.sqe.opcode) && !scheduler::can_block(),
        _ => false,
    }
}

/// True if the app's memory is read or written for it.
fn copies(action: &Action) -> bool {
    !matches!(action, Action::Poll { .. } | Action::Timeout(_) | Action::Refused(_))
}

/// True for calls that take a path, or let go of a file.
fn walks(operation: u8) -> bool {
    use opcode::*;
    matches!(operation, OPENAT | OPENAT2 | CLOSE | STATX | RENAMEAT | UNLINKAT | MKDIRAT | SYMLINKAT | LINKAT)
}

impl Ring {
    /// Gives a request to a worker. It comes back if there is no memory for one.
    pub(super) fn hand_over(&self, mut request: Box<Request>) -> Result<(), (Box<Request>, Errno)> {
        let Some(ring) = self.myself.upgrade() else { return Err((request, Errno::ECANCELED)) };
        request.is_with_worker = true;
        let mut pool = POOL.lock();
        if pool.waiting.try_reserve(1).is_err() {
            return Err((request, Errno::ENOMEM));
        }
        if pool.idle <= pool.waiting.len() && pool.workers < MOST_WORKERS {
            if scheduler::start_kernel_thread("io_uring", main).is_ok() {
                pool.workers += 1;
            } else if pool.workers == 0 {
                return Err((request, Errno::ENOMEM));
            }
        }
        pool.waiting.push_back((ring, request));
        drop(pool);
        NEWS.wake_one();
        Ok(())
    }

    /// Does a request to its end, and has the rest of its chain started.
    fn serve(&self, request: Box<Request>) {
        self.follow(self.drive(request));
        self.announce();
        super::run_scheduled();
    }
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    loop {
        let (ring, request) = next();
        ring.serve(request);
    }
}

/// Waits for a request.
fn next() -> (Arc<Ring>, Box<Request>) {
    let take = |pool: &mut Pool| pool.waiting.pop_front();
    if let Some(found) = take(&mut POOL.lock()) {
        return found;
    }
    POOL.lock().idle += 1;
    loop {
        let found = NEWS.wait_uninterrupted(None, || {
            let mut pool = POOL.lock();
            let found = take(&mut pool)?;
            pool.idle -= 1;
            Some(found)
        });
        if let Some(found) = found {
            return found;
        }
    }
}
