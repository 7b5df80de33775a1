//! Clocks: the engine's, in nanoseconds, which is its counter, too.

use spin::Mutex;
pub use unikernel_machine::calibration::NS_PER_SECOND;

use crate::sim::engine;

/// 2026-01-01, when every machine begins.
const FIRST_WALL_NS: u64 = 1_767_225_600 * NS_PER_SECOND;

/// The wall clock: what it showed at a time since boot, and how much faster it goes.
struct Wall {
    wall_ns: u64,
    since_ns: u64,
    rate_ppm: i32,
}

static WALL: Mutex<Wall> = Mutex::new(Wall { wall_ns: FIRST_WALL_NS, since_ns: 0, rate_ppm: 0 });

impl Wall {
    fn at(&self, now_ns: u64) -> u64 {
        let passed_ns = i128::from(now_ns - self.since_ns);
        let gained_ns = passed_ns * i128::from(self.rate_ppm) / 1_000_000;
        self.wall_ns + (passed_ns + gained_ns) as u64
    }
}

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
    WALL.lock().at(now_ns())
}

/// Sets the wall clock; the monotonic one is not touched.
pub fn set_wall_ns(wall_ns: u64) {
    let mut wall = WALL.lock();
    *wall = Wall { wall_ns, since_ns: now_ns(), ..*wall };
}

/// The host has set its clock while the machine was stopped, and the kernel reads it again.
pub(in crate::sim) fn jump(by_ns: i64) {
    let mut wall = WALL.lock();
    wall.wall_ns = wall.wall_ns.saturating_add_signed(by_ns);
}

/// Has the wall clock go faster, or slower, by so many millionths. The monotonic one keeps its rate here.
pub fn set_rate_ppm(rate_ppm: i32) {
    let mut wall = WALL.lock();
    let since_ns = now_ns();
    *wall = Wall { wall_ns: wall.at(since_ns), since_ns, rate_ppm };
}

/// Steps of the counter in a second.
pub fn tsc_hz() -> u64 {
    NS_PER_SECOND
}

/// So many steps of the counter, in nanoseconds.
pub fn span_ns(steps: u64) -> u64 {
    steps
}
