//! The clocks of clock_gettime(2), and what a time on one of them is as a deadline.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::abi::Errno;
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::task::current;
use crate::task::process::{PROCESS_ID, process};
use crate::task::scheduler;
use crate::task::thread::Thread;

/// Nanoseconds in a second.
pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// What a time argument counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClockBase {
    /// From now.
    Relative,
    /// From boot.
    AbsoluteMonotonic,
    /// From 1970.
    AbsoluteWall,
}

/// Nanoseconds in a `timespec`; `EINVAL` if it is not normalised or negative.
pub(crate) fn timespec_ns(time: __kernel_timespec) -> Result<u64, Errno> {
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if nanos < NANOS_PER_SECOND => {
            Ok(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Nanoseconds in a `timeval`; `EINVAL` if it is not normalised or negative.
pub(crate) fn timeval_ns(time: __kernel_old_timeval) -> Result<u64, Errno> {
    let tv_nsec = time.tv_usec.checked_mul(1000).ok_or(Errno::EINVAL)?;
    timespec_ns(__kernel_timespec { tv_sec: time.tv_sec, tv_nsec })
}

/// The `timespec` for some nanoseconds.
pub(crate) fn to_timespec(nanoseconds: u64) -> __kernel_timespec {
    __kernel_timespec {
        tv_sec: (nanoseconds / NANOS_PER_SECOND) as i64,
        tv_nsec: (nanoseconds % NANOS_PER_SECOND) as i64,
    }
}

/// Reads an optional time argument as a deadline in nanoseconds since boot.
pub(crate) fn read_deadline(
    pointer: UserPtr<__kernel_timespec>,
    base: ClockBase,
) -> Result<Option<u64>, Errno> {
    let Some(pointer) = pointer.non_null() else { return Ok(None) };
    Ok(Some(deadline_ns(timespec_ns(pointer.read()?)?, base)))
}

/// A time on some clock as a deadline in nanoseconds since boot.
pub(crate) fn deadline_ns(nanoseconds: u64, base: ClockBase) -> u64 {
    match base {
        ClockBase::Relative => time::now_ns().saturating_add(nanoseconds),
        ClockBase::AbsoluteMonotonic => nanoseconds,
        ClockBase::AbsoluteWall => nanoseconds.saturating_sub(boot_wall_ns()),
    }
}

/// What the wall clock showed at boot.
fn boot_wall_ns() -> u64 {
    time::wall_ns().saturating_sub(time::now_ns())
}

/// The first expiration of a timer as nanoseconds since boot, and how many were before boot: times on the wall clock go back
/// further than the machine, and each that has passed counts (timerfd_settime(2)).
pub(crate) fn first_expiration(nanoseconds: u64, interval_ns: u64, base: ClockBase) -> (u64, u64) {
    let before_boot = match base {
        ClockBase::AbsoluteWall => boot_wall_ns().saturating_sub(nanoseconds),
        _ => 0,
    };
    match before_boot.div_ceil(interval_ns.max(1)) {
        missed if before_boot > 0 && interval_ns > 0 => {
            (missed.saturating_mul(interval_ns) - before_boot, missed)
        }
        _ => (deadline_ns(nanoseconds, base), 0),
    }
}

/// Whose processor time a clock shows.
pub(crate) enum CpuClock {
    /// That of all threads.
    Process,
    /// One thread's.
    Thread(Arc<Thread>),
}

impl CpuClock {
    /// The clock of a number, if it is one of processor time; `EINVAL` if nobody has it. Negative numbers are
    /// `!id << 3`, 4 for a thread's, and 0 to 2 for how it is counted (`CPUCLOCK_PROF`, `VIRT`, `SCHED`), which here is one way.
    pub(crate) fn of(clock: u32) -> Result<Option<Self>, Errno> {
        const THREAD: i32 = 4;
        const WHICH: i32 = 3;
        let clock = match clock {
            CLOCK_PROCESS_CPUTIME_ID => return Ok(Some(Self::Process)),
            CLOCK_THREAD_CPUTIME_ID => return Ok(Some(Self::Thread(Arc::clone(&current())))),
            _ => clock.cast_signed(),
        };
        if clock >= 0 {
            return Ok(None);
        }
        if clock & WHICH == WHICH {
            // The clock of a device.
            return Err(Errno::EINVAL);
        }
        match (!(clock >> 3), clock & THREAD != 0) {
            (0, true) => Ok(Some(Self::Thread(Arc::clone(&current())))),
            (id, true) => process().thread(id).map(|thread| Some(Self::Thread(thread))).ok_or(Errno::EINVAL),
            (id, false) if id == 0 || id == PROCESS_ID || id == current().id => Ok(Some(Self::Process)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What it shows.
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Self::Process => process().cpu_time_ns(),
            Self::Thread(thread) => scheduler::cpu_time_ns(thread),
        }
    }
}

/// What a clock shows, in nanoseconds.
pub(crate) fn clock_ns(clock: u32) -> Result<u64, Errno> {
    if let Some(clock) = CpuClock::of(clock)? {
        return Ok(clock.now_ns());
    }
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI | CLOCK_REALTIME_ALARM => Ok(time::wall_ns()),
        CLOCK_MONOTONIC
        | CLOCK_MONOTONIC_RAW
        | CLOCK_MONOTONIC_COARSE
        | CLOCK_BOOTTIME
        | CLOCK_BOOTTIME_ALARM => Ok(time::now_ns()),
        _ => Err(Errno::EINVAL),
    }
}
