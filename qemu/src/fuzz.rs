//! `fuzz`: attacks for as long as one likes, each from a seed. `disk` and `card` boot guests whose device lies ([`liar_tests`]).
//! `calls` makes random system calls on two cores of a kernel that checks itself. Its guest is `fuzz_calls`
//! of the guest tests; each round of it is one seed. A guest that shows no new round, ends otherwise than it should or
//! leaves a damaged disk is a fault, told with its seed; then it goes on behind that seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::{FuzzOptions, Subject};
use crate::disk_tests::DiskPlan;
use crate::liar_tests;
use crate::machine::{Kind, Machine};
use crate::project::{self, Profile};
use crate::vm::{self, Console, Vm};

const PROGRAM: &str = "fuzz_calls";
/// Rounds with one disk and one boot, and calls of a thread in each.
const ROUNDS: u64 = 200;
const CALLS: u64 = 1000;
/// A round takes seconds, on a busy host tens of them. The guest itself tells of a call that does not end.
const LONGEST_ROUND: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const LAST_LINES: usize = 30;
/// Guests with a device that lies, between two lines that say how far it is.
const TOLD_SEEDS: u64 = 10;

/// Fuzzes for as long as asked; answers the process's exit code.
pub(crate) fn run(options: &FuzzOptions) -> Result<u8> {
    let until = Duration::from_secs(options.seconds);
    match options.subject {
        Subject::Calls => {
            project::build("guest-tests", &[PROGRAM], Profile::Debug)?;
            calls(options.seed, Instant::now() + until)
        }
        Subject::Disk => lies("disk", options.seed, Instant::now() + until, liar_tests::disk_lies),
        Subject::Card => {
            project::build_app(liar_tests::SERVER)?;
            let answers = Arc::default();
            let card_lies = |seed| liar_tests::card_lies(seed, &answers);
            let code = lies("card", options.seed, Instant::now() + until, card_lies);
            println!("{} answers to clients", answers.load(Ordering::Relaxed));
            code
        }
    }
}

/// Boots guests with a device that lies, one a seed.
fn lies(device: &str, first: u64, deadline: Instant, lie: impl Fn(u64) -> Result<()>) -> Result<u8> {
    let mut faults = 0;
    for seed in (first..).take_while(|_| Instant::now() < deadline) {
        if let Err(error) = lie(seed) {
            faults += 1;
            println!("FAULT in seed {seed}: {error:#}");
            println!("once more: cargo run --release -p qemu -- fuzz {device} --seed {seed} --seconds 1");
        }
        if (seed - first) % TOLD_SEEDS == TOLD_SEEDS - 1 {
            println!("seeds {first} to {seed}, {faults} faults");
        }
    }
    Ok(u8::from(faults > 0))
}

/// Random system calls.
fn calls(mut seed: u64, deadline: Instant) -> Result<u8> {
    let mut faults = 0;
    while Instant::now() < deadline {
        let (last, outcome) = session(seed, ROUNDS, deadline, "")?;
        if let Err(error) = outcome {
            faults += 1;
            println!("FAULT in seed {last}: {error:#}");
            again(last)?;
            println!("once more: make fuzz FUZZ_SEED={last} FUZZ_SECONDS=60");
        }
        println!("seeds {seed} to {last}, {faults} faults");
        seed = last + 1;
    }
    Ok(u8::from(faults > 0))
}

/// The seed of a fault once more, with every call traced. Threads do not meet in the same way each time: it may pass.
fn again(seed: u64) -> Result<()> {
    let deadline = Instant::now() + LONGEST_ROUND;
    match session(seed, 1, deadline, "trace=syscalls")?.1 {
        Ok(()) => println!("with trace=syscalls it passes"),
        Err(error) => println!("its last calls: {error:#}"),
    }
    Ok(())
}

/// Boots a guest that begins with a seed, and watches it until its end or the deadline. Answers the last seed that it began.
fn session(seed: u64, rounds: u64, deadline: Instant, append: &str) -> Result<(u64, Result<()>)> {
    let plan = DiskPlan::of_size("64M");
    let disk = plan.make(PROGRAM)?;
    let mut machine = Machine::new(Kind::Q35, &project::image_of(PROGRAM, Profile::Debug));
    (machine.cpus, machine.memory_mib, machine.append) = (2, 512, append.to_owned());
    plan.attach(&mut machine, &disk, 1);
    machine.append = format!("{} -- {seed} {rounds} {CALLS}", machine.append);
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    let outcome = watch(&mut guest, deadline);
    let console = guest.console();
    let last = last_seed(&console).unwrap_or(seed);
    let judged = outcome.and_then(|is_over| if is_over { plan.judge(&disk) } else { Ok(()) });
    if judged.is_ok() {
        return Ok((last, Ok(())));
    }
    let path = project::work_dir("fuzz")?.join(format!("seed-{last}{append}.log"));
    vm::save_console(&path, &console)?;
    let lines = vm::last_lines(&console, LAST_LINES);
    Ok((last, judged.with_context(|| format!("{lines}\nall of it in {}", path.display()))))
}

/// True if the guest has come to its end, false if the time is over.
fn watch(guest: &mut Vm, deadline: Instant) -> Result<bool> {
    let (mut newest, mut since) = (None, Instant::now());
    while Instant::now() < deadline {
        if guest.try_wait()?.is_some() {
            let ending = guest.wait(None)?.context("it has ended")?;
            ensure!(!ending.console.contains("KERNEL PANIC"), "the kernel panicked");
            ensure!(ending.code == Some(0), "it ended with {:?}", ending.code);
            return Ok(true);
        }
        let seed = last_seed(&guest.console());
        if seed != newest {
            (newest, since) = (seed, Instant::now());
        }
        if since.elapsed() > LONGEST_ROUND {
            bail!("no new round for {} s", LONGEST_ROUND.as_secs());
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(false)
}

/// The seed that a console shows last.
fn last_seed(console: &str) -> Option<u64> {
    console.lines().rev().find_map(|line| line.strip_prefix("seed ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_seed_is_the_newest_round() {
        assert_eq!(last_seed("seed 1\r\nseed 2\nseed x\n[1.0] ERROR seed 9\n"), Some(2));
        assert_eq!(last_seed("the app"), None);
    }
}
