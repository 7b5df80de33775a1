//! Clocks: the engine's, in nanoseconds, which is its counter, too.

use core::sync::atomic::{AtomicU64, Ordering};

pub use unikernel_machine::calibration::NS_PER_SECOND;

use crate::sim::engine;

/// 2026-01-01, when every machine begins.
const FIRST_WALL_NS: u64 = 1_767_225_600 * NS_PER_SECOND;

static BOOT_WALL_NS: AtomicU64 = AtomicU64::new(FIRST_WALL_NS);

/// What is known of a core's timer.
pub(crate) struct TimerRates {
    /// Of a timer that counts.
    pub(crate) apic_hz: u64,
    /// True: the timer compares deadlines with the counter.
    pub(crate) has_tsc_deadline: bool,
}

pub(crate) fn timer_rates() -> &'static TimerRates {
    &TimerRates { apic_hz: NS_PER_SECOND, has_tsc_deadline: true }
}

pub(crate) fn refine_if_due(_: u64) {}

pub(crate) fn ns_to_tsc(ns: u64) -> u64 {
    ns
}

/// The counter.
pub fn tsc() -> u64 {
    engine::clock_ns()
}

/// Nanoseconds since boot.
pub fn now_ns() -> u64 {
    engine::clock_ns()
}

/// Nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    BOOT_WALL_NS.load(Ordering::Relaxed) + now_ns()
}

/// Sets the wall clock; the monotonic one is not touched.
pub fn set_wall_ns(wall_ns: u64) {
    BOOT_WALL_NS.store(wall_ns.saturating_sub(now_ns()), Ordering::Relaxed);
}

/// The host has set its clock while the machine was stopped, and the kernel reads it again.
pub(in crate::sim) fn jump(by_ns: i64) {
    let boot_ns = BOOT_WALL_NS.load(Ordering::Relaxed).saturating_add_signed(by_ns);
    BOOT_WALL_NS.store(boot_ns, Ordering::Relaxed);
}

/// The clock goes at one rate.
pub fn set_rate_ppm(_: i32) {}

/// Steps of the counter in a second.
pub fn tsc_hz() -> u64 {
    NS_PER_SECOND
}

/// So many steps of the counter, in nanoseconds.
pub fn span_ns(steps: u64) -> u64 {
    steps
}
