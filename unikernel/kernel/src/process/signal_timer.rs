//! Timers that send signals: those of timer_create(2), and the three of setitimer(2), one of which is alarm(2)'s.
//!
//! A timer has one signal under way at most. It rests until that is taken; the expirations of the meantime are
//! overruns. So a short interval costs no more than the app takes.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

use linux_raw_sys::general::{RLIMIT_SIGPENDING, SIGALRM, SIGPROF, SIGVTALRM};
use spin::Once;
use unikernel_fs::Expirations;

use super::clocks::CpuClock;
use super::signal;
use crate::arch::cpu;
use crate::platform::time;
use crate::sync::{SpinLock, SpinLockGuard};
use crate::task::limits;
use crate::task::process::process;
use crate::task::signal::{SignalInfo, TimerSignal};
use crate::task::signal_queue::Sent;
use crate::task::thread::ThreadId;
use crate::task::timer::{self, Timer, TimerTarget};

/// Timers that an app may have (Linux bounds them by `RLIMIT_SIGPENDING`).
const MAX_TIMERS: u64 = 1024;

/// When, on the clock since boot, so much more processor time can have been used at the earliest: all cores may work on it. Nobody counts
/// it more finely than this.
pub(crate) fn earliest_ns(more_ns: u64) -> u64 {
    const TICK_NS: u64 = 1_000_000;
    time::now_ns().saturating_add((more_ns / cpu::online() as u64).max(TICK_NS))
}

/// Whom a timer tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Nobody (`SIGEV_NONE`): the app asks for the time left.
    Nobody,
    /// The app.
    Process(SignalInfo),
    /// One thread (`SIGEV_THREAD_ID`).
    Thread(ThreadId, SignalInfo),
}

/// The timers of setitimer(2). Their numbers are ones that timer_create(2) never gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IntervalTimer {
    /// Of real time, which alarm(2) sets, too.
    Real = -1,
    /// Of the app's processor time. What it spends in calls is counted with it, as in all accounts of this kernel.
    Virtual = -2,
    /// The same, for profilers.
    Profile = -3,
}

#[derive(Default)]
struct State {
    /// Counts the expirations since the last signal was taken.
    expirations: Expirations,
    timer: Option<Timer>,
    /// Counts the calls of [`SignalTimer::set`].
    setting: u32,
    /// True while a signal is under way.
    is_signal_pending: bool,
    /// Expirations that the last signal stood for besides its own (timer_getoverrun(2)).
    overrun: u32,
}

/// One timer.
pub(crate) struct SignalTimer {
    state: SpinLock<State>,
    id: i32,
    /// What it runs on, where that is processor time.
    cpu_clock: Option<CpuClock>,
    target: Target,
    myself: Weak<Self>,
}

/// When a timer expires next, and again: nanoseconds, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Setting {
    /// From now, or since boot where the call says so.
    pub first_ns: u64,
    /// Between further ones.
    pub interval_ns: u64,
}

impl SignalTimer {
    /// Makes a timer that does not run.
    fn new(id: i32, target: Target, cpu_clock: Option<CpuClock>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            state: SpinLock::default(),
            id,
            cpu_clock,
            target,
            myself: Weak::clone(myself),
        })
    }

    /// What its clock shows if that is one of processor time.
    pub(crate) fn cpu_time_ns(&self) -> Option<u64> {
        self.cpu_clock.as_ref().map(CpuClock::now_ns)
    }

    fn now_ns(&self) -> u64 {
        self.cpu_time_ns().unwrap_or_else(time::now_ns)
    }

    /// Starts it at `next_ns` on its clock (the usual one shows the time since boot), or stops it; answers what was set
    /// before.
    pub(crate) fn set(&self, next_ns: Option<u64>, interval_ns: u64) -> Setting {
        self.set_after(next_ns.map(|next_ns| (next_ns, 0)), interval_ns)
    }

    /// The same for a first expiration that comes after so many which nobody has seen.
    pub(crate) fn set_after(&self, first: Option<(u64, u64)>, interval_ns: u64) -> Setting {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        let before = self.remaining(&mut state, now_ns);
        state.expirations.set(first.map(|(next_ns, _)| next_ns), interval_ns);
        state.expirations.add_missed(first.map_or(0, |(_, missed)| missed));
        state.setting = state.setting.wrapping_add(1);
        state.is_signal_pending = false;
        state.overrun = 0;
        self.restart(state, now_ns, 0);
        before
    }

    /// What is set.
    pub(crate) fn setting(&self) -> Setting {
        let now_ns = self.now_ns();
        self.remaining(&mut self.state.lock(), now_ns)
    }

    fn remaining(&self, state: &mut State, now_ns: u64) -> Setting {
        if state.is_signal_pending || matches!(self.target, Target::Nobody) {
            state.expirations.advance(now_ns);
        }
        let first_ns = state.expirations.remaining_ns(now_ns);
        Setting { first_ns, interval_ns: state.expirations.interval_ns() }
    }

    /// Expirations that the last signal stood for besides its own.
    pub(crate) fn overrun(&self) -> u32 {
        self.state.lock().overrun
    }

    /// Runs to the next expiration, but for `rest_ns` at least; unless its signal is to be taken first.
    fn restart(&self, mut state: SpinLockGuard<State>, now_ns: u64, rest_ns: u64) {
        let next_ns = state.expirations.next_ns().filter(|_| !matches!(self.target, Target::Nobody));
        let timer = next_ns.zip(self.myself.upgrade()).filter(|_| !state.is_signal_pending);
        let is_due = state.expirations.count() > 0 && rest_ns == 0;
        let timer = timer.map(|(next_ns, myself)| {
            let next_ns = if is_due { now_ns } else { next_ns };
            let at_ns = match self.cpu_clock {
                None => next_ns.max(now_ns.saturating_add(rest_ns)),
                Some(_) => earliest_ns(next_ns.saturating_sub(now_ns)),
            };
            timer::call_at(at_ns, myself)
        });
        let old = core::mem::replace(&mut state.timer, timer);
        drop(state);
        drop(old);
    }

    fn send(&self, setting: u32) -> Sent {
        let signal = |info| SignalInfo { timer: Some(TimerSignal { id: self.id, setting }), ..info };
        match self.target {
            Target::Nobody => Sent::Ignored,
            Target::Process(info) => signal::send_to_process(signal(info)),
            Target::Thread(id, info) => {
                process().thread(id).map_or(Sent::Ignored, |thread| signal::send(&thread, signal(info)))
            }
        }
    }

    /// The signal of `setting` was taken: the timer goes on. Answers how often it has expired besides; `None` if
    /// the signal is void.
    fn signal_taken(&self, setting: u32) -> Option<u32> {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        if state.setting != setting || !state.is_signal_pending {
            return None;
        }
        state.is_signal_pending = false;
        state.expirations.advance(now_ns);
        let further = state.expirations.take().unwrap_or(1) - 1;
        // Linux's DELAYTIMER_MAX.
        let overrun = further.min(i32::MAX as u64) as u32;
        state.overrun = overrun;
        self.restart(state, now_ns, 0);
        Some(overrun)
    }

    /// Nobody takes the signal of `setting`: the timer tries again, after a rest, as nobody slows it down.
    fn signal_failed(&self, setting: u32) {
        const REST_NS: u64 = 1_000_000;
        let mut state = self.state.lock();
        if state.setting == setting {
            state.is_signal_pending = false;
            self.restart(state, self.now_ns(), REST_NS);
        }
    }
}

impl TimerTarget for SignalTimer {
    fn expired(&self) {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        state.expirations.advance(now_ns);
        let setting = state.setting;
        let is_expired = state.expirations.count() > 0;
        state.is_signal_pending |= is_expired;
        self.restart(state, now_ns, 0);
        if is_expired && self.send(setting) != Sent::Queued {
            self.signal_failed(setting);
        }
    }
}

/// A signal was taken off its queue: what its receiver is told, `None` if it is void.
pub(crate) fn take(info: SignalInfo) -> Option<SignalInfo> {
    let Some(signal) = info.timer else { return Some(info) };
    let overrun = find(signal.id).and_then(|timer| timer.signal_taken(signal.setting));
    if !info.is_posix_timer() {
        // An interval timer's signal stays, whatever is set afterwards.
        return Some(info);
    }
    // A timer's `siginfo` has its number and the overrun where others have the sender.
    overrun.map(|overrun| SignalInfo { detail: info.detail | u64::from(overrun) << 32, ..info })
}

/// A signal was dropped: it is ignored now.
pub(crate) fn signal_dropped(info: &SignalInfo) {
    let Some(signal) = info.timer else { return };
    if let Some(timer) = find(signal.id) {
        timer.signal_failed(signal.setting);
    }
}

impl IntervalTimer {
    const ALL: [Self; 3] = [Self::Real, Self::Virtual, Self::Profile];

    /// The timer.
    pub(crate) fn get(self) -> &'static Arc<SignalTimer> {
        static TIMERS: [Once<Arc<SignalTimer>>; 3] = [const { Once::new() }; 3];
        let (place, signal, cpu_clock) = match self {
            Self::Real => (&TIMERS[0], SIGALRM, None),
            Self::Virtual => (&TIMERS[1], SIGVTALRM, Some(CpuClock::Process)),
            Self::Profile => (&TIMERS[2], SIGPROF, Some(CpuClock::Process)),
        };
        let target = Target::Process(SignalInfo::from_kernel(signal));
        place.call_once(|| SignalTimer::new(self as i32, target, cpu_clock))
    }
}

struct Timers {
    by_id: BTreeMap<i32, Arc<SignalTimer>>,
    next_id: i32,
}

static TIMERS: SpinLock<Timers> = SpinLock::new(Timers { by_id: BTreeMap::new(), next_id: 0 });

/// Makes a timer under a new number, which `target` is told; `None` if there are too many.
pub(crate) fn create(target: impl FnOnce(i32) -> Target, cpu_clock: Option<CpuClock>) -> Option<i32> {
    let mut timers = TIMERS.lock();
    if timers.by_id.len() as u64 >= limits::soft(RLIMIT_SIGPENDING).min(MAX_TIMERS) {
        return None;
    }
    let id = timers.next_id;
    timers.next_id = (id + 1) & i32::MAX;
    timers.by_id.insert(id, SignalTimer::new(id, target(id), cpu_clock));
    Some(id)
}

/// The timer with a number.
pub(crate) fn find(id: i32) -> Option<Arc<SignalTimer>> {
    if let Some(interval) = IntervalTimer::ALL.into_iter().find(|interval| *interval as i32 == id) {
        return Some(Arc::clone(interval.get()));
    }
    TIMERS.lock().by_id.get(&id).cloned()
}

/// Ends all timers of timer_create(2).
pub(crate) fn delete_all() {
    loop {
        let first = TIMERS.lock().by_id.keys().next().copied();
        let Some(id) = first else { break };
        delete(id);
    }
    TIMERS.lock().next_id = 0;
}

/// Ends a timer. False if there is none.
pub(crate) fn delete(id: i32) -> bool {
    let removed = TIMERS.lock().by_id.remove(&id);
    // A running timer holds a reference to itself.
    removed.map(|timer| timer.set(None, 0)).is_some()
}
