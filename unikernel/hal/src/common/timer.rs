//! The one timer interrupt of each core, at a given time. Who wants it for what is the business of
//! `task::timer`.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::per_core::PerCore;
use crate::per_core;
use crate::platform::apic::{self, TimerMode};
use crate::platform::time::{self, NS_PER_SECOND};

/// Nothing is armed.
const NEVER: u64 = u64::MAX;
/// Longer waits are cut into pieces, so that an APIC rate that was measured 0.3 % wrong makes a
/// long wait at most 6 ms late.
const LONGEST_WAIT_NS: u64 = 2 * NS_PER_SECOND;
/// Shorter ones would be over before the return to ring 3.
const SHORTEST_WAIT_NS: u64 = 1_000;

/// What the core's timer is set to.
static ARMED_NS: PerCore<AtomicU64> = per_core!(AtomicU64::new(NEVER));

/// Prepares the timer of this core. Call after the clocks were started.
pub fn init_this_cpu() {
    apic::start_timer(mode());
    disarm_hardware();
}

fn mode() -> TimerMode {
    if time::timer_rates().has_tsc_deadline { TimerMode::TscDeadline } else { TimerMode::OneShot }
}

/// Asks for an interrupt at `deadline_ns` (nanoseconds since boot) in place of any earlier wish. A
/// deadline in the past means at once.
pub fn arm(deadline_ns: u64) {
    if ARMED_NS.swap(deadline_ns, Ordering::Relaxed) != deadline_ns {
        let now_ns = time::now_ns();
        time::refine_if_due(now_ns);
        program(deadline_ns, now_ns);
    }
}

/// Called with each timer interrupt. True if the deadline has come; a piece of a longer wait is
/// followed by the next.
pub(super) fn on_interrupt() -> bool {
    let now_ns = time::now_ns();
    time::refine_if_due(now_ns);
    let armed_ns = ARMED_NS.load(Ordering::Relaxed);
    if now_ns < armed_ns && armed_ns != NEVER {
        program(armed_ns, now_ns);
        return false;
    }
    ARMED_NS.store(NEVER, Ordering::Relaxed);
    true
}

fn program(deadline_ns: u64, now_ns: u64) {
    let wait_ns = deadline_ns.saturating_sub(now_ns).clamp(SHORTEST_WAIT_NS, LONGEST_WAIT_NS);
    match mode() {
        TimerMode::TscDeadline => apic::set_tsc_deadline(time::tsc() + time::ns_to_tsc(wait_ns)),
        TimerMode::OneShot => {
            let count = (wait_ns * time::timer_rates().apic_hz).div_ceil(NS_PER_SECOND);
            apic::set_timer_count(u32::try_from(count).unwrap_or(u32::MAX).max(1));
        }
    }
}

fn disarm_hardware() {
    match mode() {
        TimerMode::TscDeadline => apic::set_tsc_deadline(0),
        TimerMode::OneShot => apic::set_timer_count(0),
    }
}
