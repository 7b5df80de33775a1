//! A core's interrupt controller.

use crate::sim::engine;

/// How the timer is told when to fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// It counts down at its own rate; no machine of this kind has it.
    OneShot,
    /// It compares with the time-stamp counter.
    TscDeadline,
}

/// This core's APIC id.
pub fn id() -> u32 {
    engine::current() as u32
}

/// Tells the APIC that the interrupt being handled is done.
pub fn end_of_interrupt() {}

/// Sends an interrupt to the core with APIC id `to`.
pub fn send(to: u32, vector: u8) {
    engine::raise(to as usize, vector);
}

/// Sets what the timer does when it fires.
pub fn start_timer(_: TimerMode) {}

/// One-shot mode: fires after `count` steps.
pub fn set_timer_count(_: u32) {}

/// Deadline mode: fires when the time-stamp counter reaches `tsc`; 0 stops the timer.
pub fn set_tsc_deadline(tsc: u64) {
    engine::set_deadline((tsc != 0).then_some(tsc));
}
