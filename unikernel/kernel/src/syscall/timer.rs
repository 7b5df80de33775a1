//! Timers that send signals (timer_create(2), setitimer(2), alarm(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::process::clocks::{
    ClockBase, CpuClock, NANOS_PER_SECOND, deadline_ns, first_expiration, timespec_ns, timeval_ns,
    to_timespec,
};
use crate::process::signal_timer::{self, IntervalTimer, Setting, SignalTimer, Target};
use crate::task::process::process;
use crate::task::signal::{MAX_SIGNAL, SignalInfo};

const NANOS_PER_MICRO: u64 = 1000;

/// The start of `struct sigevent`: value, signal, how to notify, thread (sigevent(3type)).
type Event = [u32; 5];

fn base_of(clock: u32) -> Result<ClockBase, Errno> {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM | CLOCK_TAI => Ok(ClockBase::AbsoluteWall),
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Ok(ClockBase::AbsoluteMonotonic),
        CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_REALTIME_COARSE => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// The bit of a timer's number that says "on the wall clock".
const WALL_CLOCK: i32 = 1 << 30;

/// timer_create(2).
pub(crate) fn sys_timer_create(clock: u32, event: UserPtr<Event>, id: UserPtr<i32>) -> SysResult {
    let cpu_clock = CpuClock::of(clock)?;
    let is_wall = cpu_clock.is_none() && base_of(clock)? == ClockBase::AbsoluteWall;
    let [low, high, signal, notify, thread] = match event.non_null() {
        Some(event) => event.read()?,
        // SIGALRM with the timer's number.
        None => [0, 0, SIGALRM, SIGEV_SIGNAL, 0],
    };
    if notify != SIGEV_NONE && !(1..=MAX_SIGNAL).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    let thread = thread as i32;
    if notify == SIGEV_THREAD_ID && process().thread(thread).is_none() {
        return Err(Errno::EINVAL);
    }
    let value = u64::from(high) << 32 | u64::from(low);
    let has_value = !event.is_null();
    let target = |id: i32| {
        let number = if is_wall { id | WALL_CLOCK } else { id } as u64;
        let value = if has_value { value } else { number };
        let info = SignalInfo { signal, code: SI_TIMER, detail: number, value, timer: None };
        match notify {
            SIGEV_NONE => Target::Nobody,
            SIGEV_THREAD_ID => Target::Thread(thread, info),
            _ => Target::Process(info),
        }
    };
    if !matches!(notify, SIGEV_NONE | SIGEV_SIGNAL | SIGEV_THREAD | SIGEV_THREAD_ID) {
        return Err(Errno::EINVAL);
    }
    let number = signal_timer::create(target, cpu_clock).ok_or(Errno::EAGAIN)?;
    let number = if is_wall { number | WALL_CLOCK } else { number };
    if let Err(fault) = id.write(number) {
        signal_timer::delete(number & !WALL_CLOCK);
        return Err(fault.into());
    }
    Ok(0)
}

fn find(id: i32) -> Result<Arc<SignalTimer>, Errno> {
    // Negative numbers are never given.
    let id = (id >= 0).then_some(id & !WALL_CLOCK).ok_or(Errno::EINVAL)?;
    signal_timer::find(id).ok_or(Errno::EINVAL)
}

fn to_itimerspec(setting: Setting) -> __kernel_itimerspec {
    __kernel_itimerspec {
        it_interval: to_timespec(setting.interval_ns),
        it_value: to_timespec(setting.first_ns),
    }
}

/// timer_settime(2).
pub(crate) fn sys_timer_settime(
    id: i32,
    flags: u32,
    new: UserPtr<__kernel_itimerspec>,
    old: UserPtr<__kernel_itimerspec>,
) -> SysResult {
    let new = new.non_null().ok_or(Errno::EINVAL)?.read()?;
    let timer = find(id)?;
    let (first_ns, interval_ns) = (timespec_ns(new.it_value)?, timespec_ns(new.it_interval)?);
    let base = match (flags & TIMER_ABSTIME != 0, id & WALL_CLOCK != 0) {
        (false, _) => ClockBase::Relative,
        (true, true) => ClockBase::AbsoluteWall,
        (true, false) => ClockBase::AbsoluteMonotonic,
    };
    let first = (first_ns != 0).then(|| match (timer.cpu_time_ns(), base) {
        (Some(now_ns), ClockBase::Relative) => (now_ns.saturating_add(first_ns), 0),
        (Some(_), _) => (first_ns, 0),
        (None, base) => first_expiration(first_ns, interval_ns, base),
    });
    let before = timer.set_after(first, interval_ns);
    if let Some(old) = old.non_null() {
        old.write(to_itimerspec(before))?;
    }
    Ok(0)
}

/// timer_gettime(2).
pub(crate) fn sys_timer_gettime(id: i32, current: UserPtr<__kernel_itimerspec>) -> SysResult {
    current.write(to_itimerspec(find(id)?.setting()))?;
    Ok(0)
}

/// timer_getoverrun(2).
pub(crate) fn sys_timer_getoverrun(id: i32) -> SysResult {
    Ok(find(id)?.overrun() as usize)
}

/// timer_delete(2).
pub(crate) fn sys_timer_delete(id: i32) -> SysResult {
    if signal_timer::delete(id & !WALL_CLOCK) { Ok(0) } else { Err(Errno::EINVAL) }
}

fn to_itimerval(setting: Setting) -> __kernel_old_itimerval {
    let timeval = |ns: u64| {
        // A timer that runs never shows zero, which would mean that it does not.
        let micros = ns.div_ceil(NANOS_PER_MICRO);
        __kernel_old_timeval { tv_sec: (micros / 1_000_000) as i64, tv_usec: (micros % 1_000_000) as i64 }
    };
    __kernel_old_itimerval { it_interval: timeval(setting.interval_ns), it_value: timeval(setting.first_ns) }
}

/// setitimer(2).
pub(crate) fn sys_setitimer(
    which: u32,
    new: UserPtr<__kernel_old_itimerval>,
    old: UserPtr<__kernel_old_itimerval>,
) -> SysResult {
    let (first_ns, interval_ns) = match new.non_null() {
        Some(new) => {
            let new = new.read()?;
            (timeval_ns(new.it_value)?, timeval_ns(new.it_interval)?)
        }
        None => (0, 0),
    };
    let timer = interval_timer(which)?.get();
    let now_ns = timer.cpu_time_ns().unwrap_or_else(time::now_ns);
    let before = timer.set((first_ns != 0).then(|| now_ns.saturating_add(first_ns)), interval_ns);
    if let Some(old) = old.non_null() {
        old.write(to_itimerval(before))?;
    }
    Ok(0)
}

fn interval_timer(which: u32) -> Result<IntervalTimer, Errno> {
    match which {
        ITIMER_REAL => Ok(IntervalTimer::Real),
        ITIMER_VIRTUAL => Ok(IntervalTimer::Virtual),
        ITIMER_PROF => Ok(IntervalTimer::Profile),
        _ => Err(Errno::EINVAL),
    }
}

/// getitimer(2).
pub(crate) fn sys_getitimer(which: u32, current: UserPtr<__kernel_old_itimerval>) -> SysResult {
    current.write(to_itimerval(interval_timer(which)?.get().setting()))?;
    Ok(0)
}

/// alarm(2). Answers the seconds that were left, rounded as Linux does.
pub(crate) fn sys_alarm(seconds: u32) -> SysResult {
    let wait_ns = u64::from(seconds) * NANOS_PER_SECOND;
    let next_ns = (seconds != 0).then(|| deadline_ns(wait_ns, ClockBase::Relative));
    let before = IntervalTimer::Real.get().set(next_ns, 0).first_ns;
    let rounded = (before + NANOS_PER_SECOND / 2) / NANOS_PER_SECOND;
    Ok(if before > 0 { rounded.max(1) as usize } else { 0 })
}
