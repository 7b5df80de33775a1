//! Waking at a time. A timer is a deadline and what to do then; it belongs to the core on which it
//! was set. The hardware is set to the earliest deadline and never earlier, so an idle machine has
//! no tick.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::scheduler;
use super::thread::Thread;
use crate::arch::cpu::{exit_work, this_cpu};
use crate::arch::per_core::PerCore;
use crate::platform::{self, time};
use crate::sync::SpinLock;
use unikernel_hal::per_core;

/// Something that wants to know when its time has come.
pub(crate) trait TimerTarget: Send + Sync {
    /// Called once after the deadline, from an interrupt or the idle loop: must be short.
    fn expired(&self);
}

enum Action {
    Wake(Arc<Thread>),
    Call(Arc<dyn TimerTarget>),
}

/// Deadlines in nanoseconds since boot; the second part keeps equal ones apart.
type Key = (u64, u64);

struct Timers {
    queue: BTreeMap<Key, Action>,
    next_sequence: u64,
}

static TIMERS: PerCore<SpinLock<Timers>> =
    per_core!(SpinLock::new(Timers { queue: BTreeMap::new(), next_sequence: 0 }));
/// What the core's hardware is set to; `u64::MAX` when it is not.
static ARMED_NS: PerCore<AtomicU64> = per_core!(AtomicU64::new(u64::MAX));

/// A timer that is cancelled when this is dropped.
#[must_use = "dropping a timer cancels it"]
pub(crate) struct Timer {
    core: usize,
    key: Key,
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The action may hold the last reference to something; it is let go without the lock.
        let action = TIMERS.of(self.core).lock().queue.remove(&self.key);
        drop(action);
    }
}

/// Wakes `thread` at `deadline_ns`.
pub(super) fn wake_at(deadline_ns: u64, thread: Arc<Thread>) -> Timer {
    add(deadline_ns, Action::Wake(thread))
}

/// Calls `target` at `deadline_ns`.
pub(crate) fn call_at(deadline_ns: u64, target: Arc<dyn TimerTarget>) -> Timer {
    add(deadline_ns, Action::Call(target))
}

fn add(deadline_ns: u64, action: Action) -> Timer {
    let key = {
        let mut timers = TIMERS.lock();
        timers.next_sequence += 1;
        let key = (deadline_ns, timers.next_sequence);
        timers.queue.insert(key, action);
        key
    };
    interrupt_by(deadline_ns);
    Timer { core: this_cpu().index(), key }
}

/// Makes sure that a timer interrupt comes to this core at `deadline_ns` at the latest. It is only a hint that
/// there may be work: what is due is found by looking.
#[inline]
pub(crate) fn interrupt_by(deadline_ns: u64) {
    if deadline_ns < ARMED_NS.load(Ordering::Relaxed) {
        ARMED_NS.store(deadline_ns, Ordering::Relaxed);
        platform::timer::arm(deadline_ns);
    }
}

/// The timer interrupt of this core.
pub(crate) fn interrupt() {
    ARMED_NS.store(u64::MAX, Ordering::Relaxed);
    this_cpu().request(exit_work::NETWORK);
    run_expired();
    scheduler::slice_check();
}

/// Timers that one call of [`run_expired`] runs at most. As many as the app has can be due at once; between two calls there is
/// time for the network and for other threads.
const MAX_EXPIRED_AT_ONCE: usize = 256;

/// Runs what is due on this core, or a part of that, and sets the hardware to the next deadline.
pub(crate) fn run_expired() {
    let now_ns = time::now_ns();
    for _ in 0..MAX_EXPIRED_AT_ONCE {
        let due = {
            let mut timers = TIMERS.lock();
            match timers.queue.first_entry() {
                Some(first) if first.key().0 <= now_ns => first.remove(),
                Some(first) => {
                    let deadline_ns = first.key().0;
                    drop(timers);
                    return interrupt_by(deadline_ns);
                }
                None => return,
            }
        };
        match due {
            Action::Wake(thread) => scheduler::time_out(&thread),
            Action::Call(target) => target.expired(),
        }
    }
    interrupt_by(now_ns);
}
