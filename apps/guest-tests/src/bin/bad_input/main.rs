//! Every system call of the dispatcher's table, with every argument replaced by what does not belong there:
//! zero, all ones, a kernel address, an unmapped page, the last bytes of a page, a huge number; and every
//! kind of descriptor where a call takes one. What it prints on Linux and booted must be the same, line by
//! line: the runner compares.
//!
//! - [`world`]: files, buffers and descriptors,
//!   made anew for each call; [`exceptions`]: what is left out, and why.

mod exceptions;
mod world;

use exceptions::{Skip, baseline, skip};
use guest_tests::call_table::{Call, Kind};
use guest_tests::{call_table, raw_syscall};
use world::{DESCRIPTORS, World};

/// What an argument is replaced with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bad {
    Zero,
    One,
    AllOnes,
    Kernel,
    NonCanonical,
    Unmapped,
    /// The last four bytes before an unmapped page.
    Boundary,
    Huge,
    MaxInt,
}

const BAD: [Bad; 9] = [
    Bad::Zero,
    Bad::One,
    Bad::AllOnes,
    Bad::Kernel,
    Bad::NonCanonical,
    Bad::Unmapped,
    Bad::Boundary,
    Bad::Huge,
    Bad::MaxInt,
];

/// Paths that are wrong in themselves, for arguments that are paths.
const BAD_PATHS: [&str; 7] = [
    "",
    "missing/x",
    "file/x",
    "loop",
    "directory",
    "a-dangling-link",
    "a-name-that-is-longer-than-a-name-can-be",
];

fn main() {
    let calls = call_table::calls();
    assert!(calls.len() > 150, "the dispatcher's table was not understood");
    let mut world = World::new();
    for call in &calls {
        if skip(call.name, None) == Skip::Whole {
            continue;
        }
        println!("| {}() {}", call.name, attempt(&mut world, call, |_| {}));
        for position in 0..call.args.len() {
            replace_argument(&mut world, call, position);
        }
        replace_descriptor(&mut world, call);
    }
    world.remove();
    println!("{} calls asked", calls.len());
}

/// One line for one argument.
fn replace_argument(world: &mut World, call: &Call, position: usize) {
    let (argument, kind) = &call.args[position];
    let mut line = format!("| {} {argument}:", call.name);
    for bad in BAD {
        // The standard streams are not the test's to change.
        let is_stream = *kind == Kind::Fd && (world.bad(bad) as u32) < 3;
        if is_stream || skip(call.name, Some((argument, bad))) == Skip::Value {
            continue;
        }
        let outcome = attempt(world, call, |(world, args)| args[position] = world.bad(bad));
        line.push_str(&format!(" {bad:?}={outcome}"));
    }
    if *kind == Kind::Str {
        for path in BAD_PATHS {
            let outcome = attempt(world, call, |(world, args)| args[position] = world.bad_path(path));
            line.push_str(&format!(" {path:.8}={outcome}"));
        }
    }
    println!("{line}");
}

/// One line for all kinds of descriptors.
fn replace_descriptor(world: &mut World, call: &Call) {
    let Some(position) = call.args.iter().position(|(_, kind)| *kind == Kind::Fd) else { return };
    let mut line = format!("| {} on:", call.name);
    for name in DESCRIPTORS {
        if exceptions::skips_descriptor(call.name, name) {
            continue;
        }
        let outcome = attempt(world, call, |(world, args)| args[position] = world.descriptor(name));
        line.push_str(&format!(" {name}={outcome}"));
    }
    println!("{line}");
}

/// Calls in a fresh world, with good arguments but for what `change` does to them.
fn attempt(world: &mut World, call: &Call, change: impl FnOnce((&mut World, &mut [u64; 6]))) -> String {
    world.renew();
    let mut args = [0; 6];
    let mut paths = 0;
    for (position, (argument, kind)) in call.args.iter().enumerate() {
        args[position] = match baseline(call.name, argument) {
            Some(value) => value,
            None if *argument == "timerid" && *kind == Kind::Number => world.timer(),
            None => world.good(*kind, position, &mut paths),
        };
    }
    change((world, &mut args));
    world.arm();
    let result = raw_syscall(call.number, args);
    world.disarm();
    world.give_back(call.name, result);
    if result < 0 && result > -4096 { result.to_string() } else { "ok".to_owned() }
}
