//! An app whose system calls are the input's, on a simulated machine: threads, descriptors that earlier calls have left, memory that is
//! there or not, flags that there are or not. The kernel must not panic, must not hang, and must be as it was when all is closed again.
//!
//! The input is a header (cores, threads, what decides who runs) and calls, each for the next thread in turn. [`table`]: the calls and
//! what they take; [`arguments`]: how bytes become arguments; [`ring`]: entries of an `io_uring`.
//!
//! This file is compiled twice: here, for libFuzzer, and in the kernel's tests, which replay the kept corpus.

mod arguments;
mod ring;
mod table;

use std::boxed::Box;
use std::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;
use unikernel_hal::sim::machine::{Machine, Outcome};

use self::arguments::{Argument, Memory};
use self::ring::Ring;
use self::table::CALLS;
use super::input::Input;

/// Threads at most, with the first.
const MOST_THREADS: usize = 3;
/// Calls at most: later bytes are not looked at.
const MOST_CALLS: usize = 48;
/// A machine that takes more steps hangs.
const MOST_STEPS: u64 = 1_500_000;
/// When an app whose calls wait for ever is ended.
const PATIENCE_S: u64 = 60;
/// Memory that may be missing at the end, in KiB: caches, and lists that keep what they have.
const SLACK_KIB: u64 = 3 << 10;

/// The exit code for memory that is missing.
const LEAK: i32 = 77;

/// What a thread does.
enum Step {
    /// A system call.
    Call(u32, [Argument; 6]),
    /// An entry for the thread's ring, with its data behind it.
    Entry([u8; 64]),
    /// Some time passes.
    Compute(u64),
}

struct Program {
    machine: Machine,
    threads: Vec<Vec<Step>>,
}

fn parse(data: &[u8]) -> Program {
    let mut input = Input::new(data);
    let (shape, seed) = (input.byte(), input.byte());
    let threads = 1 + usize::from(shape >> 1) % MOST_THREADS;
    let machine = Machine {
        seed: seed.into(),
        cores: 1 + usize::from(shape & 1),
        ram_bytes: 32 << 20,
        most_steps: MOST_STEPS,
        ..Machine::default()
    };
    let mut program = Program { machine, threads: (0..threads).map(|_| Vec::new()).collect() };
    for number in 0..MOST_CALLS {
        if input.is_over() {
            break;
        }
        program.threads[number % threads].push(step(&mut input));
    }
    program
}

fn step(input: &mut Input<'_>) -> Step {
    let choice = usize::from(input.byte());
    match CALLS.get(choice) {
        Some(call) => {
            let mut all = [const { Argument::Plain(0) }; 6];
            for (argument, kind) in all.iter_mut().zip(call.arguments) {
                *argument = kind.read(input);
            }
            Step::Call(call.number, all)
        }
        None if choice % 8 == 0 => Step::Compute(u64::from(input.byte()) << 12),
        None => Step::Entry(ring::entry(input)),
    }
}

/// Makes a system call.
fn call(number: u32, arguments: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    app::system_call(number.into(), all)
}

fn run_thread(steps: Vec<Step>, memory: Memory) {
    let mut ring: Option<Ring> = None;
    for step in steps {
        match step {
            Step::Call(number, arguments) => {
                let values: Vec<u64> = arguments.iter().map(|argument| memory.place(argument)).collect();
                call(number, &values);
            }
            Step::Entry(bytes) => {
                if ring.is_none() {
                    ring = Ring::new(memory);
                }
                if let Some(ring) = &ring {
                    ring.submit(&bytes);
                }
            }
            Step::Compute(ns) => app::compute_ns(ns),
        }
    }
}

/// Starts a thread; answers where its id becomes 0 at its end.
fn spawn(job: Box<dyn FnOnce()>) -> Option<u64> {
    const STACK_BYTES: u64 = 8 << 10;
    let stack = arguments::map(STACK_BYTES)?;
    let top = stack + STACK_BYTES - 64;
    app::set_job(top, job);
    let flags = linux::CLONE_VM
        | linux::CLONE_FS
        | linux::CLONE_FILES
        | linux::CLONE_SIGHAND
        | linux::CLONE_THREAD
        | linux::CLONE_SYSVSEM
        | linux::CLONE_PARENT_SETTID
        | linux::CLONE_CHILD_CLEARTID;
    (call(linux::__NR_clone, &[flags.into(), top, stack, stack, 0]) > 0).then_some(stack)
}

fn end(code: u64) -> ! {
    call(linux::__NR_exit_group, &[code]);
    unreachable!("exit_group does not return")
}

/// Free memory, in KiB, from sysinfo(2).
fn free_kib(memory: Memory) -> u64 {
    const FREE_AT: usize = 40;
    call(linux::__NR_sysinfo, &[memory.scratch()]);
    let mut bytes = [0; 8];
    app::read(memory.scratch() + FREE_AT as u64, &mut bytes);
    u64::from_le_bytes(bytes) >> 10
}

/// Waits until the thread is gone whose id is there.
fn join(word: u64) {
    let mut bytes = [0; 4];
    loop {
        app::read(word, &mut bytes);
        let value = u32::from_le_bytes(bytes);
        if value == 0 {
            return;
        }
        call(linux::__NR_futex, &[word, linux::FUTEX_WAIT.into(), value.into(), 0]);
    }
}

fn sleep(memory: Memory, ns: u64) -> bool {
    const NS: u64 = 1_000_000_000;
    let time = memory.own_time();
    app::write(time, &[ns / NS, ns % NS].map(u64::to_le_bytes).concat());
    call(linux::__NR_nanosleep, &[time, 0]) == 0
}

fn app_main(threads: Vec<Vec<Step>>) -> i32 {
    let memory = Memory::new();
    // Who waits for ever is ended.
    spawn(Box::new(move || {
        sleep(memory, PATIENCE_S * 1_000_000_000);
        end(0);
    }));
    let before = free_kib(memory);
    let mut threads = threads.into_iter();
    let first = threads.next().unwrap_or_default();
    let others: Vec<u64> =
        threads.filter_map(|steps| spawn(Box::new(move || run_thread(steps, memory)))).collect();
    run_thread(first, memory);
    others.into_iter().for_each(join);
    call(linux::__NR_close_range, &[3, u64::from(u32::MAX), 0]);
    memory.clear();
    // What ends by itself: closed connections, rings, what is written back.
    sleep(memory, 10_000_000);
    let after = free_kib(memory);
    if after + SLACK_KIB < before { LEAK } else { 0 }
}

/// Runs the machine; answers what came of it.
pub(crate) fn outcome(data: &[u8]) -> Outcome {
    let Program { machine, threads } = parse(data);
    machine.run(move || app_main(threads))
}

/// Runs one input.
pub(crate) fn run(data: &[u8]) {
    let outcome = outcome(data);
    // The app may end itself, or be ended by a signal; then nobody has looked at the memory.
    assert!(outcome.code.is_some(), "the machine has failed");
    assert!(outcome.code != Some(LEAK), "memory is missing; the console:\n{}", outcome.console);
}
