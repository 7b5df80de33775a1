//! One program in one place, from its first test to its last, however often it has to be started.
//!
//! The tests run together, as under `cargo test`. When the program dies or a test takes too long, the rest is
//! run in another start, so that one test does not cost the others their outcome. What has failed is run
//! once more, alone: another test's noise or a busy host is not the test's failure. Both attempts are reported.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::build::Program;
use super::libtest::{self, Event, shorten};
use super::place::Place;
use super::results::Outcome;
use crate::process::Process;
use crate::vm::last_lines;

/// How often a console is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What one program may take in all; what is left then has failed.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(1200);
/// Lines that tell of a crash, in the order of how much they say.
const CRASH_MARKS: [&str; 4] = ["KERNEL PANIC", "panicked at", "killed by", "the app exited with code"];

/// How a program's tests are run.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// For one test.
    pub(super) test: Duration,
    /// Tests at once.
    pub(super) threads: u32,
}

/// An outcome, and what the first attempt said if it took a second.
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    pub(super) first_failure: Option<String>,
}

impl Tried {
    fn new(first: Outcome, second: Option<Outcome>) -> Self {
        match (first, second) {
            (Outcome::Failed(reason), Some(outcome)) => Self { outcome, first_failure: Some(reason) },
            (outcome, _) => Self { outcome, first_failure: None },
        }
    }
}

/// The tests of a program; `None` if it has another harness, and is one test by itself.
pub(super) fn list(program: &Program, place: &Place, limits: Limits) -> Result<Option<Vec<String>>> {
    let arguments = ["--list", "--format", "terse"].map(str::to_owned);
    let mut process = place.start(program, &arguments)?;
    let is_good = wait(&mut process, limits.test)?;
    Ok(libtest::names(&process.output()).filter(|_| is_good))
}

/// Waits for the end; true if it was a good one.
fn wait(process: &mut Process, time_out: Duration) -> Result<bool> {
    let deadline = Instant::now() + time_out;
    loop {
        if let Some(status) = process.try_wait()? {
            process.drain();
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Runs a program that is one test.
pub(super) fn run_whole(
    program: &Program,
    place: &Place,
    arguments: &[String],
    limits: Limits,
) -> Result<Tried> {
    let attempt = || -> Result<Outcome> {
        let mut process = place.start(program, arguments)?;
        // A guest that is not told otherwise ends QEMU with twice the exit code plus one.
        let is_guest = matches!(place, Place::Guest { .. });
        let is_good = wait(&mut process, limits.test)?;
        let is_good = is_good || is_guest && process.output().contains("the app exited with code 0");
        let is_over = process.try_wait()?.is_some();
        Ok(match (is_good, is_over) {
            (true, _) => Outcome::Passed,
            (false, true) => Outcome::Failed(last_words(&process)),
            (false, false) => Outcome::Failed(no_end(limits)),
        })
    };
    let first = attempt()?;
    let second = if first == Outcome::Passed { None } else { Some(attempt()?) };
    Ok(Tried::new(first, second))
}

/// Runs these tests of a program.
pub(super) fn run(
    program: &Program,
    place: &Place,
    all: &[String],
    chosen: &BTreeSet<String>,
    limits: Limits,
) -> Result<BTreeMap<String, Tried>> {
    let deadline = Instant::now() + PROGRAM_PATIENCE;
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut left = chosen.clone();
    while !left.is_empty() && Instant::now() < deadline {
        let arguments = arguments(all, &left, place.argument_bytes(), limits.threads);
        let session = Session::run(place.start(program, &arguments)?, limits)?;
        let found: BTreeMap<_, _> =
            session.outcomes.into_iter().filter(|(name, _)| left.contains(name)).collect();
        if found.is_empty() {
            // Not one test got so far: it is the program.
            outcomes
                .extend(left.iter().map(|name| (name.clone(), Outcome::Failed(session.last_words.clone()))));
            break;
        }
        left.retain(|name| !found.contains_key(name));
        outcomes.extend(found);
    }
    let mut tried = BTreeMap::new();
    for name in chosen {
        let first =
            outcomes.remove(name).unwrap_or_else(|| Outcome::Failed("not run: the time was over".into()));
        let again = matches!(first, Outcome::Failed(_)) && Instant::now() < deadline;
        let second = if again { run_alone(program, place, name, limits)? } else { None };
        tried.insert(name.clone(), Tried::new(first, second));
    }
    Ok(tried)
}

fn run_alone(program: &Program, place: &Place, name: &str, limits: Limits) -> Result<Option<Outcome>> {
    let arguments = harness_arguments(1).chain(["--exact".to_owned(), name.to_owned()]);
    let mut session = Session::run(place.start(program, &arguments.collect::<Vec<_>>())?, limits)?;
    Ok(session.outcomes.remove(name))
}

fn harness_arguments(threads: u32) -> impl Iterator<Item = String> {
    ["-Zunstable-options".to_owned(), "--format=json".to_owned(), format!("--test-threads={threads}")]
        .into_iter()
}

/// The arguments for those that are left, or, if the names take too much room, for the first of them.
fn arguments(all: &[String], left: &BTreeSet<String>, room: usize, threads: u32) -> Vec<String> {
    let mut arguments: Vec<String> = harness_arguments(threads).collect();
    if left.len() == all.len() {
        return arguments;
    }
    arguments.push("--exact".to_owned());
    let mut used: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    let skipped: Vec<&String> = all.iter().filter(|name| !left.contains(*name)).collect();
    let skip_bytes: usize = skipped.iter().map(|name| "--skip ".len() + name.len() + 1).sum();
    if used + skip_bytes <= room {
        arguments.extend(skipped.into_iter().flat_map(|name| ["--skip".to_owned(), name.clone()]));
        return arguments;
    }
    for name in left {
        used += name.len() + 1;
        if used > room {
            break;
        }
        arguments.push(name.clone());
    }
    arguments
}

/// What one start of a program brought.
struct Session {
    outcomes: BTreeMap<String, Outcome>,
    last_words: String,
}

impl Session {
    /// Follows a program until it is over, dead, or one test has taken too long.
    fn run(mut process: Process, limits: Limits) -> Result<Self> {
        let mut watch =
            Watch { read: 0, running: BTreeMap::new(), outcomes: BTreeMap::new(), moved: Instant::now() };
        let mut is_over = false;
        while !is_over && process.try_wait()?.is_none() {
            thread::sleep(LOOK_INTERVAL);
            is_over = watch.look(&process.output());
            let hung = watch.hung(limits.test);
            if !hung.is_empty() || watch.running.is_empty() && watch.moved.elapsed() > limits.test {
                watch.outcomes.extend(hung.into_iter().map(|name| (name, Outcome::Failed(no_end(limits)))));
                return Ok(Self { outcomes: watch.outcomes, last_words: no_end(limits) });
            }
        }
        process.drain();
        watch.look(&process.output());
        let last_words = last_words(&process);
        let died = watch.running.into_keys().map(|name| (name, Outcome::Failed(last_words.clone())));
        watch.outcomes.extend(died);
        Ok(Self { outcomes: watch.outcomes, last_words })
    }
}

/// A console being read.
struct Watch {
    read: usize,
    /// With the time of the start.
    running: BTreeMap<String, Instant>,
    outcomes: BTreeMap<String, Outcome>,
    /// The last time that a test began or ended.
    moved: Instant,
}

impl Watch {
    /// Reads what is new; true if the harness says that it is over.
    fn look(&mut self, console: &str) -> bool {
        let Some(new) = console.get(self.read..) else { return false };
        let complete = new.rfind('\n').map_or(0, |at| at + 1);
        self.read += complete;
        let mut is_over = false;
        for event in new[..complete].lines().filter_map(libtest::event) {
            self.moved = Instant::now();
            match event {
                Event::Started(name) => {
                    self.running.insert(name, Instant::now());
                }
                Event::Finished(name, outcome) => {
                    self.running.remove(&name);
                    self.outcomes.insert(name, outcome);
                }
                Event::Over => is_over = true,
            }
        }
        is_over
    }

    fn hung(&self, patience: Duration) -> Vec<String> {
        let too_long = self.running.iter().filter(|(_, since)| since.elapsed() > patience);
        too_long.map(|(name, _)| name.clone()).collect()
    }
}

fn no_end(limits: Limits) -> String {
    format!("not over after {} s", limits.test.as_secs())
}

/// The line that tells best why a process has ended.
fn last_words(process: &Process) -> String {
    let text = format!("{}\n{}", process.output(), process.errors());
    let told = CRASH_MARKS.iter().find_map(|mark| text.lines().rfind(|line| line.contains(mark)));
    shorten(&told.map_or_else(|| last_lines(&text, 2), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn arguments_name_or_skip_as_room_allows() {
        let all = names(&["a", "b", "c"]);
        let left: BTreeSet<String> = names(&["b", "c"]).into_iter().collect();
        assert_eq!(arguments(&all, &all.iter().cloned().collect(), 1000, 2).len(), 3);
        assert_eq!(arguments(&all, &left, 1000, 2)[3..], names(&["--exact", "--skip", "a"]));
        let room = arguments(&all, &left, 0, 2).join(" ").len() + "b".len() + 2;
        assert_eq!(arguments(&all, &left, room, 2)[3..], names(&["--exact", "b"]));
    }

    #[test]
    fn half_a_line_is_read_later() {
        let mut watch =
            Watch { read: 0, running: BTreeMap::new(), outcomes: BTreeMap::new(), moved: Instant::now() };
        let line = "{ \"type\": \"test\", \"event\": \"started\", \"name\": \"t\" }\n";
        watch.look(&line[..20]);
        assert!(watch.running.is_empty());
        watch.look(line);
        assert!(watch.running.contains_key("t"));
    }
}
