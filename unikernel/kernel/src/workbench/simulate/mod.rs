//! `make simulate`: apps that check themselves, on machines of which a seed decides everything. A seed that fails fails again.

mod absent;
mod cable;
mod chat;
mod directories;
mod disk;
mod lan_churn;
mod lan_echo;
mod lan_store;
mod names;
mod net;
mod pair;
mod pressure;
mod records;
mod rings;
mod threads;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_hal::sim::engine::Random;
use unikernel_hal::sim::faults::Faults;

use super::app::{Machine, Outcome};

/// Something that apps do on machines of a seed; an error says what went wrong.
struct Scenario {
    name: &'static str,
    run: fn(u64) -> Result<(), String>,
}

/// A seed runs the one of its number.
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a lock of threads", run: threads::lock },
    Scenario { name: "waits that move to another futex", run: threads::requeue },
    Scenario { name: "a chat through pipes", run: threads::pipes },
    Scenario { name: "signals during calls", run: threads::signals },
    Scenario { name: "an echo server", run: net::echo },
    Scenario { name: "a log and a power cut", run: disk::log },
    Scenario { name: "buffers whose pages are on a disk", run: disk::absent_buffers },
    Scenario { name: "writes that fail", run: disk::failed_write },
    Scenario { name: "a file larger than what memory is left", run: pressure::pressure },
    Scenario { name: "a chat through a queue", run: chat::chat },
    Scenario { name: "users of rings", run: rings::mixed },
    Scenario { name: "completions without room", run: rings::overflow },
    Scenario { name: "an echo over a bad cable", run: lan_echo::echo },
    Scenario { name: "connections that end in every way", run: lan_churn::churn },
    Scenario { name: "a store on a disk whose power goes", run: lan_store::store },
    Scenario { name: "names that threads fight for", run: names::fight },
    Scenario { name: "directories that threads move", run: directories::churn },
    Scenario { name: "records beside each other", run: records::beside_each_other },
    Scenario { name: "bytes from and to pages on a disk", run: absent::streams },
];

/// Seeds that fail before a thread gives up.
const MOST_FAILED: usize = 8;

/// Steps that all machines took.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// A machine as a seed would have it.
fn machine(seed: u64) -> Machine {
    let mut random = Random::new(seed);
    Machine {
        seed,
        cores: 1 + random.below(4) as usize,
        switch_one_in: [2, 3, 5, 8, 20][random.below(5) as usize],
        faults: faults(&mut random),
        most_steps: 4_000_000,
        ..Machine::default()
    }
}

/// What goes wrong with it; nothing with every fourth.
fn faults(random: &mut Random) -> Faults {
    let seed = random.next_u64();
    if random.one_in(4) {
        return Faults::default();
    }
    let mut choose = |choices: [u32; 4]| choices[random.below(4) as usize];
    Faults {
        seed,
        refuse_one_in: choose([0, 5, 20, 100]),
        stall_one_in: choose([0, 50, 300, 2_000]),
        stall_ns: u64::from(choose([0, 1, 5, 50])) * 1_000_000,
        stop_one_in: choose([0, 0, 3_000, 10_000]),
        stop_ns: 20_000_000_000,
        clock_jump_ns: u64::from(choose([0, 1, 60, 86_400])) * 1_000_000_000,
    }
}

/// Checks that the app has come to its end and found nothing wrong.
fn judge(outcome: &Outcome) -> Result<(), String> {
    STEPS.fetch_add(outcome.steps, Ordering::Relaxed);
    match outcome.code {
        Some(0) => Ok(()),
        Some(code) => Err(format!("exit code {code}; the console:\n{}", outcome.console)),
        None => Err(String::from("the machine has failed, as it says above")),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `SIMULATE_SEEDS` seeds from `SIMULATE_FIRST` on, on two threads of the host; of the scenarios whose names have `SIMULATE_ONLY` in them,
/// if that is set.
#[test]
fn seeds_find_nothing() {
    let (first, count) = (setting("SIMULATE_FIRST", 0), setting("SIMULATE_SEEDS", 500));
    let only = std::env::var("SIMULATE_ONLY").unwrap_or_default();
    let is_meant = |scenario: &Scenario| scenario.name.contains(&only);
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    assert!(SCENARIOS.iter().any(is_meant), "no scenario is called `{only}`; there are: {names:?}");
    let next = AtomicU64::new(first);
    let start = std::time::Instant::now();
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failed.len() >= MOST_FAILED {
                return failed;
            }
            let scenario = &SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
            if !is_meant(scenario) {
                continue;
            }
            if let Err(problem) = (scenario.run)(seed) {
                std::eprintln!("seed {seed} ({}) fails: {problem}", scenario.name);
                std::eprintln!("once more: make simulate SEEDS=1 FIRST={seed}");
                failed.push(seed);
            }
        }
    };
    let failed = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut failed = work();
        failed.extend(other.join().expect("a thread that runs seeds"));
        failed
    });
    let (steps, seconds) = (STEPS.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    std::eprintln!("{count} seeds from {first} on: {steps} steps in {seconds:.1} s");
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}
