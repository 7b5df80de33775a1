//! Small virtio devices, whose other side the tests play, and devices behind registers in memory.

mod balloon_tests;
mod console_tests;
mod entropy_tests;
mod mmio_tests;
mod share;

use unikernel_hal::sim::plain::Plain;

use super::app::{Machine, Outcome};

/// Runs the app on a machine with this device.
fn run_with(machine: Machine, plug_in: impl FnOnce() -> Plain, app: impl FnOnce() + 'static) -> Outcome {
    machine.run_with(
        || plug_in().plug_in(),
        || {
            app();
            0
        },
    )
}

/// The same; the test fails unless the app comes to its end.
#[track_caller]
fn run(plug_in: impl FnOnce() -> Plain, app: impl FnOnce() + 'static) {
    let outcome = run_with(Machine::default(), plug_in, app);
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}
