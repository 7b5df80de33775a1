//! Timers that send signals: those of timer_create(2), and the one of setitimer(2) and alarm(2).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

use linux_raw_sys::general::SI_TIMER;
use unikernel_fs::Expirations;

use super::process::process;
use super::signal::{self, SignalInfo};
use super::thread::ThreadId;
use super::timer::{self, Timer, TimerTarget};
use crate::arch::cpu;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::syscall::time::CpuClock;

/// Timers that an app may have (Linux bounds them by `RLIMIT_SIGPENDING`).
pub const MAX_TIMERS: usize = 1024;

/// When, on the clock since boot, so much more processor time can have been used at the earliest: all cores may work on it. Nobody counts
/// it more finely than this.
pub fn earliest_ns(more_ns: u64) -> u64 {
    const TICK_NS: u64 = 1_000_000;
    time::now_ns().saturating_add((more_ns / cpu::online() as u64).max(TICK_NS))
}

/// Whom a timer tells.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Nobody (`SIGEV_NONE`): the app asks for the time left.
    Nobody,
    /// The app.
    Process(SignalInfo),
    /// One thread (`SIGEV_THREAD_ID`).
    Thread(ThreadId, SignalInfo),
}

#[derive(Default)]
struct State {
    expirations: Expirations,
    timer: Option<Timer>,
    /// Expirations that the last signal did not stand for alone (timer_getoverrun(2)).
    overrun: u32,
}

/// One timer.
pub struct SignalTimer {
    state: SpinLock<State>,
    /// What it runs on, where that is processor time.
    cpu_clock: Option<CpuClock>,
    target: Target,
    myself: Weak<Self>,
}

/// When a timer expires next, and again: nanoseconds, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// From now, or since boot where the call says so.
    pub first_ns: u64,
    /// Between further ones.
    pub interval_ns: u64,
}

impl SignalTimer {
    /// Makes a timer that does not run.
    pub fn new(target: Target, cpu_clock: Option<CpuClock>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            state: SpinLock::default(),
            cpu_clock,
            target,
            myself: Weak::clone(myself),
        })
    }

    /// What its clock shows if that is one of processor time.
    pub fn cpu_time_ns(&self) -> Option<u64> {
        self.cpu_clock.as_ref().map(CpuClock::now_ns)
    }

    fn now_ns(&self) -> u64 {
        self.cpu_time_ns().unwrap_or_else(time::now_ns)
    }

    /// Starts it at `next_ns` on its clock (the usual one shows the time since boot), or stops it; answers what was set
    /// before.
    pub fn set(&self, next_ns: Option<u64>, interval_ns: u64) -> Setting {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        let before = state.remaining(now_ns);
        state.expirations.set(next_ns, interval_ns);
        let timer = self.start(&state, now_ns);
        let old = core::mem::replace(&mut state.timer, timer);
        drop(state);
        drop(old);
        before
    }

    /// What is set.
    pub fn setting(&self) -> Setting {
        let now_ns = self.now_ns();
        self.state.lock().remaining(now_ns)
    }

    /// Expirations that the last signal did not stand for alone.
    pub fn overrun(&self) -> u32 {
        self.state.lock().overrun
    }

    fn start(&self, state: &State, now_ns: u64) -> Option<Timer> {
        let myself = self.myself.upgrade()?;
        let next_ns = state.expirations.next_ns()?;
        let at_ns = match self.cpu_clock {
            None => next_ns,
            Some(_) => earliest_ns(next_ns.saturating_sub(now_ns)),
        };
        Some(timer::call_at(at_ns, myself))
    }

    fn tell(&self, overrun: u32) {
        // A timer's `siginfo` has its number and the overrun where others have the sender.
        let with_overrun = |info: SignalInfo| {
            let is_posix = info.code == SI_TIMER;
            SignalInfo {
                detail: if is_posix { info.detail | u64::from(overrun) << 32 } else { info.detail },
                ..info
            }
        };
        match self.target {
            Target::Nobody => {}
            Target::Process(info) => {
                signal::send_to_process(with_overrun(info));
            }
            Target::Thread(id, info) => {
                if let Some(thread) = process().thread(id) {
                    signal::send(&thread, with_overrun(info));
                }
            }
        }
    }
}

impl State {
    fn remaining(&self, now_ns: u64) -> Setting {
        let first_ns = self.expirations.remaining_ns(now_ns);
        Setting { first_ns, interval_ns: self.expirations.interval_ns() }
    }
}

impl TimerTarget for SignalTimer {
    fn expired(&self) {
        let now_ns = self.now_ns();
        let mut state = self.state.lock();
        state.expirations.advance(now_ns);
        let count = state.expirations.take();
        if let Some(count) = count {
            state.overrun = u32::try_from(count - 1).unwrap_or(u32::MAX);
        }
        let overrun = state.overrun;
        let timer = self.start(&state, now_ns);
        let old = core::mem::replace(&mut state.timer, timer);
        drop(state);
        drop(old);
        if count.is_some() {
            self.tell(overrun);
        }
    }
}

struct Timers {
    by_id: BTreeMap<i32, Arc<SignalTimer>>,
    next_id: i32,
}

static TIMERS: SpinLock<Timers> = SpinLock::new(Timers { by_id: BTreeMap::new(), next_id: 0 });

/// Makes a timer under a new number, which `target` is told; `None` if there are too many.
pub fn create(target: impl FnOnce(i32) -> Target, cpu_clock: Option<CpuClock>) -> Option<i32> {
    let mut timers = TIMERS.lock();
    if timers.by_id.len() == MAX_TIMERS {
        return None;
    }
    let id = timers.next_id;
    timers.next_id = (id + 1) & i32::MAX;
    timers.by_id.insert(id, SignalTimer::new(target(id), cpu_clock));
    Some(id)
}

/// The timer with a number.
pub fn find(id: i32) -> Option<Arc<SignalTimer>> {
    TIMERS.lock().by_id.get(&id).cloned()
}

/// Ends a timer. False if there is none.
pub fn delete(id: i32) -> bool {
    let removed = TIMERS.lock().by_id.remove(&id);
    // A running timer holds a reference to itself.
    removed.map(|timer| timer.set(None, 0)).is_some()
}
