//! Times that requests wait for: `IORING_OP_TIMEOUT`, and `IORING_OP_LINK_TIMEOUT`, which ends the request
//! before it in its chain.

use alloc::sync::{Arc, Weak};

use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::io_uring::*;

use super::Ring;
use super::operation::opcode;
use super::slots::Key;
use super::sqe::Sqe;
use crate::abi::Errno;
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::process::clocks::{ClockBase, deadline_ns, timespec_ns};
use crate::task::timer::{self, Timer, TimerTarget};

/// What a time-out waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    /// On the clock since boot.
    pub(super) deadline_ns: u64,
    /// Completions that end it too; 0 for none.
    pub(super) count: u32,
    /// Completions of the ring by which it ends, once it waits for them.
    pub(super) target: Option<u64>,
    /// The time between two, for one that repeats.
    interval_ns: Option<u64>,
    /// Times it repeats; 0 for ever.
    left: u32,
    /// Whether it counts as a success, for its chain, when its time has come.
    pub(super) is_success: bool,
    /// The request that it watches over.
    pub(super) victim: Option<Key>,
}

impl Timeout {
    /// Reads the entry of a time-out.
    pub(super) fn read(sqe: &Sqe, time: UserPtr<__kernel_timespec>) -> Result<Self, Errno> {
        let flags = sqe.op_flags;
        let known = IORING_TIMEOUT_ABS
            | IORING_TIMEOUT_CLOCK_MASK
            | IORING_TIMEOUT_ETIME_SUCCESS
            | IORING_TIMEOUT_MULTISHOT;
        let repeats = flags & IORING_TIMEOUT_MULTISHOT != 0;
        let is_absolute = flags & IORING_TIMEOUT_ABS != 0;
        let has_two_clocks = flags & IORING_TIMEOUT_CLOCK_MASK == IORING_TIMEOUT_CLOCK_MASK;
        if flags & !known != 0 || sqe.len != 1 || repeats && is_absolute || has_two_clocks {
            return Err(Errno::EINVAL);
        }
        let span_ns = timespec_ns(time.read()?)?;
        let off = if sqe.opcode == opcode::LINK_TIMEOUT { 0 } else { sqe.off as u32 };
        Ok(Self {
            deadline_ns: deadline_ns(span_ns, base(flags)),
            count: if repeats { 0 } else { off },
            target: None,
            interval_ns: repeats.then_some(span_ns),
            left: if repeats { off } else { 0 },
            is_success: flags & IORING_TIMEOUT_ETIME_SUCCESS != 0,
            victim: None,
        })
    }

    pub(super) fn repeats(&self) -> bool {
        self.interval_ns.is_some()
    }

    /// Goes on to the next time; false if this was the last.
    pub(super) fn advance(&mut self) -> bool {
        let Some(interval_ns) = self.interval_ns else { return false };
        if self.left == 1 {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.deadline_ns = self.deadline_ns.saturating_add(interval_ns).max(time::now_ns());
        true
    }
}

/// The clock that a time is on.
pub(super) fn base(flags: u32) -> ClockBase {
    match (flags & IORING_TIMEOUT_ABS != 0, flags & IORING_TIMEOUT_REALTIME != 0) {
        (false, _) => ClockBase::Relative,
        (true, false) => ClockBase::AbsoluteMonotonic,
        (true, true) => ClockBase::AbsoluteWall,
    }
}

/// Tells the ring that a request's time has come.
struct Alarm {
    ring: Weak<Ring>,
    key: Key,
}

impl TimerTarget for Alarm {
    fn expired(&self) {
        if let Some(ring) = self.ring.upgrade() {
            ring.expired.lock().push_back((self.key, Expiry::Time));
            ring.schedule();
        }
    }
}

/// What ended a wait for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    /// The time.
    Time,
    /// As many completions as it was to wait for.
    Count,
}

impl Ring {
    /// A timer for the request that waits at `key`.
    pub(super) fn alarm(&self, deadline_ns: u64, key: Key) -> Timer {
        timer::call_at(deadline_ns, Arc::new(Alarm { ring: Weak::clone(&self.myself), key }))
    }
}
