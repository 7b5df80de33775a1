//! Machines for tests whose app is a closure without an exit code.

use unikernel_hal::sim::disk::{Disk, Faults};

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

/// Runs the app twice: `/tmp` is in memory, as usual, then ext4 on a disk.
#[track_caller]
pub(crate) fn run_on_each_filesystem(app: impl Fn() + Clone + 'static) {
    run(app.clone());
    run_on_ext4(app);
}

/// Runs the app with a new ext4 on a disk at `/tmp`.
#[track_caller]
pub(crate) fn run_on_ext4(app: impl FnOnce() + 'static) {
    const DISK_BYTES: usize = 32 << 20;
    let disk = Disk::new(DISK_BYTES);
    let machine = Machine { command_line: "mount=/tmp:blk0 format=blk0".into(), ..Machine::default() };
    let outcome = machine.run_with(
        || disk.plug_in(Faults::default()),
        || {
            app();
            0
        },
    );
    assert_eq!(outcome.code, Some(0), "on a disk: {}", outcome.console);
}
