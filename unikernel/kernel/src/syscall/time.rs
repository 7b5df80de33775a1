//! Clocks and sleeping (clock_gettime(2), clock_nanosleep(2)).

use linux_raw_sys::general::*;

use super::restart::interrupted;
use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::process::clocks::{ClockBase, CpuClock, clock_ns, deadline_ns, timespec_ns, to_timespec};
use crate::process::signal_timer::earliest_ns;
use crate::task::WaitQueue;
use crate::task::current;
use crate::task::restart::Restart;
use crate::task::wait::WaitError;
/// What the clocks resolve, in nanoseconds.
const RESOLUTION_NS: i64 = 1;

/// clock_gettime(2).
pub(crate) fn sys_clock_gettime(clock: u32, time: UserPtr<__kernel_timespec>) -> SysResult {
    time.write(to_timespec(clock_ns(clock)?))?;
    Ok(0)
}

/// clock_getres(2).
pub(crate) fn sys_clock_getres(clock: u32, resolution: UserPtr<__kernel_timespec>) -> SysResult {
    clock_ns(clock)?;
    if let Some(resolution) = resolution.non_null() {
        resolution.write(__kernel_timespec { tv_sec: 0, tv_nsec: RESOLUTION_NS })?;
    }
    Ok(0)
}

/// gettimeofday(2). The time zone is always UTC.
pub(crate) fn sys_gettimeofday(time: UserPtr<__kernel_old_timeval>, zone: UserPtr<[i32; 2]>) -> SysResult {
    let now = to_timespec(time::wall_ns());
    if let Some(time) = time.non_null() {
        time.write(__kernel_old_timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 })?;
    }
    if let Some(zone) = zone.non_null() {
        zone.write([0; 2])?;
    }
    Ok(0)
}

/// time(2).
pub(crate) fn sys_time(seconds: UserPtr<i64>) -> SysResult {
    let now = to_timespec(time::wall_ns()).tv_sec;
    if let Some(seconds) = seconds.non_null() {
        seconds.write(now)?;
    }
    Ok(now as usize)
}

/// nanosleep(2).
pub(crate) fn sys_nanosleep(
    request: UserPtr<__kernel_timespec>,
    remaining: UserPtr<__kernel_timespec>,
) -> SysResult {
    sys_clock_nanosleep(CLOCK_MONOTONIC, 0, request, remaining)
}

/// clock_nanosleep(2).
pub(crate) fn sys_clock_nanosleep(
    clock: u32,
    flags: u32,
    request: UserPtr<__kernel_timespec>,
    remaining: UserPtr<__kernel_timespec>,
) -> SysResult {
    match CpuClock::of(clock)? {
        None if matches!(clock, CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_REALTIME_COARSE) => {
            return Err(Errno::EOPNOTSUPP);
        }
        None => {}
        _ if clock == CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EOPNOTSUPP),
        // Who sleeps uses none.
        Some(CpuClock::Thread(thread)) if thread.id == current().id => return Err(Errno::EINVAL),
        Some(clock) => return sleep_processor_time(&clock, flags, request, remaining),
    }
    let base = match (flags & TIMER_ABSTIME != 0, clock) {
        (false, _) => ClockBase::Relative,
        (true, CLOCK_REALTIME) => ClockBase::AbsoluteWall,
        (true, _) => ClockBase::AbsoluteMonotonic,
    };
    clock_ns(clock)?;
    let deadline_ns = deadline_ns(timespec_ns(request.read()?)?, base);
    if base == ClockBase::Relative {
        return sleep(deadline_ns, remaining);
    }
    match wait_until(deadline_ns) {
        Err(WaitError::Interrupted) => Err(Errno::RESTART_NO_HANDLER),
        _ => Ok(0),
    }
}

/// On a queue that nobody wakes: only the deadline or a signal ends this.
fn wait_until(deadline_ns: u64) -> Result<(), WaitError> {
    WaitQueue::new().wait_until(Some(deadline_ns), || None)
}

/// A sleep for a span, which ends then.
pub(super) fn sleep(deadline_ns: u64, remaining: UserPtr<__kernel_timespec>) -> SysResult {
    match wait_until(deadline_ns) {
        Err(WaitError::Interrupted) => {
            if let Some(remaining) = remaining.non_null() {
                remaining.write(to_timespec(deadline_ns.saturating_sub(time::now_ns())))?;
            }
            interrupted(Restart::Sleep { deadline_ns, remaining: remaining.address() })
        }
        _ => Ok(0),
    }
}

/// Sleeps until others have used so much processor time.
fn sleep_processor_time(
    clock: &CpuClock,
    flags: u32,
    request: UserPtr<__kernel_timespec>,
    remaining: UserPtr<__kernel_timespec>,
) -> SysResult {
    let span_ns = timespec_ns(request.read()?)?;
    let is_absolute = flags & TIMER_ABSTIME != 0;
    let end_ns = if is_absolute { span_ns } else { clock.now_ns().saturating_add(span_ns) };
    loop {
        let left_ns = end_ns.saturating_sub(clock.now_ns());
        if left_ns == 0 {
            return Ok(0);
        }
        match wait_until(earliest_ns(left_ns)) {
            Err(WaitError::Interrupted) if is_absolute => return Err(Errno::RESTART_NO_HANDLER),
            Err(WaitError::Interrupted) => {
                if let Some(remaining) = remaining.non_null() {
                    remaining.write(to_timespec(end_ns.saturating_sub(clock.now_ns())))?;
                }
                return Err(Errno::EINTR);
            }
            _ => {}
        }
    }
}

/// times(2): in ticks of a hundredth of a second; the result counts from boot.
pub(crate) fn sys_times(answer: UserPtr<[u64; 4]>) -> SysResult {
    const NANOS_PER_TICK: u64 = 10_000_000;
    if let Some(answer) = answer.non_null() {
        let user = crate::task::process::process().cpu_time_ns() / NANOS_PER_TICK;
        answer.write([user, 0, 0, 0])?;
    }
    Ok((time::now_ns() / NANOS_PER_TICK) as usize)
}
