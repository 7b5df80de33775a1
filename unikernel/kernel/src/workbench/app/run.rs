//! Machines for tests whose app is a closure without an exit code.

use super::{Machine, call};

/// What a system call answers: a value, or the error number as `linux_raw_sys::errno` has it.
pub(crate) type Answer<T = u64> = core::result::Result<T, u32>;

/// Makes a system call.
pub(crate) fn sys(number: u32, arguments: &[u64]) -> Answer {
    call(number, arguments).map_err(|error| error as u32)
}

/// Runs the app on one core; the test fails unless it comes to its end.
#[track_caller]
pub(crate) fn run(app: impl FnOnce() + 'static) {
    run_on(Machine::default(), app);
}

/// Runs the app on two cores, once for each of so many seeds.
#[track_caller]
pub(crate) fn run_seeds(seeds: u64, app: impl Fn() + Clone + 'static) {
    for seed in 0..seeds {
        run_on(Machine { seed, cores: 2, ..Machine::default() }, app.clone());
    }
}

/// Runs the app on this machine.
#[track_caller]
pub(crate) fn run_on(machine: Machine, app: impl FnOnce() + 'static) {
    let seed = machine.seed;
    let outcome = machine.run(|| {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "seed {seed}: {}", outcome.console);
}
