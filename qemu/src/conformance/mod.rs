//! `conformance`: the test suites of published crates, on Linux first, then booted.
//!
//! - [`suites`]: which, from `qemu/conformance/suites.toml`; [`source`]: their sources, from the registry or a
//!   repository; [`std_tests`]: those of the standard library;
//! - [`build`]: their test programs, with the kernel linked in; [`c_programs`]: those in C;
//! - [`redis`]: a suite of another kind, of a server by its clients, with [`redis_output`];
//! - [`place`]: Linux, or a guest;
//! - [`runner`]: one program from its first test to its last; [`libtest`]: what the harness says;
//! - [`results`]: outcomes and what follows; [`report`]: `docs/conformance.md`.

mod build;
mod c_programs;
mod libtest;
mod place;
mod redis;
mod redis_output;
mod report;
mod results;
mod runner;
mod source;
mod std_tests;
mod suites;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::ConformanceOptions;
use crate::project;
use build::Program;
use place::Place;
use results::{Entry, Outcome, Results, Verdict};
use runner::{Limits, Tried};
use source::Source;
use suites::Suite;

/// Programs that run, or are compiled, at once.
const WORKERS: usize = 2;
/// Programs that are linked before the first of them runs.
const PROGRAMS_AT_ONCE: usize = 64;

/// Runs the chosen suites; answers the process's exit code.
pub(crate) fn run(options: &ConformanceOptions) -> Result<u8> {
    let path = project::root().join("docs/conformance.md");
    let earlier = fs::read_to_string(&path).unwrap_or_default();
    let mut failed = 0;
    for suite in suites::load(&options.suites)? {
        let results = run_suite(&suite, options).with_context(|| format!("suite {}", suite.name))?;
        failed += report::Sums::of(&suite, &results).failed + results.broken.len();
        println!("\n{}", report::table(&[(suite, results)], ""));
    }
    let all = suites::load(&[])?.into_iter();
    let all: Vec<(Suite, Results)> =
        all.map(|suite| Results::load(&suite).map(|results| (suite, results))).collect::<Result<_>>()?;
    println!("{}", report::table(&all, &earlier));
    if options.test.is_none() {
        fs::write(&path, report::page(&all, &earlier))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(u8::from(failed > 0))
}

/// Does the work for each item, a few at once.
fn share_out<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let take = || items.get(next.fetch_add(1, Ordering::Relaxed));
    let turns = || std::iter::from_fn(take).try_for_each(&work);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(turns)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

fn run_suite(suite: &Suite, options: &ConformanceOptions) -> Result<Results> {
    let earlier = Results::load(suite)?;
    if let Some(redis) = &suite.redis {
        let results = redis::run(suite, redis, options, &earlier)?;
        return keep(suite, options, results, earlier);
    }
    eprintln!("{}: getting its sources", suite.name);
    let source = source::prepare(suite)?;
    let profile = if options.is_checked { "kernel-checked" } else { "kernel" };
    let run = SuiteRun {
        suite,
        source: &source,
        options,
        limits: Limits {
            test: Duration::from_secs(suite.seconds),
            threads: suite.threads.unwrap_or(options.cpus),
        },
        linux: Place::linux(suite, &source),
        guest: Place::guest(suite, &source, options)?,
        earlier: &earlier,
        results: Mutex::default(),
    };
    run.excuse_c_programs()?;
    let is_wanted = |test: &str| run.is_chosen(test) && run.excuse(test).is_none();
    eprintln!("{}: compiling its tests, which takes minutes the first time", suite.name);
    let built = build::build(suite, &source, &is_wanted)?;
    let chosen: Vec<&Program> = built.programs.iter().collect();
    for (index, programs) in chosen.chunks(PROGRAMS_AT_ONCE).enumerate() {
        let (first, all) = (index * PROGRAMS_AT_ONCE, chosen.len());
        eprintln!("{}: programs {} to {} of {all}", suite.name, first + 1, first + programs.len());
        build::link(programs, profile)?;
        run.run_all(programs)?;
        // A suite of two thousand programs would fill the disk; a few are worth a second look.
        if chosen.len() > PROGRAMS_AT_ONCE {
            programs.iter().try_for_each(|program| fs::remove_file(&program.image))?;
        }
    }
    let mut results = run.results.into_inner().unwrap_or_default();
    results.version.clone_from(&suite.version);
    results.cpus = options.cpus;
    results.broken = built.broken;
    keep(suite, options, results, earlier)
}

/// Saves results, with those of earlier runs if not all tests were asked for.
fn keep(
    suite: &Suite,
    options: &ConformanceOptions,
    mut results: Results,
    earlier: Results,
) -> Result<Results> {
    if options.test.is_some() || options.keeps_results {
        for (program, complaint) in earlier.broken {
            if !results.has_tests_of(&program) {
                results.broken.entry(program).or_insert(complaint);
            }
        }
        for (test, entry) in earlier.tests {
            results.tests.entry(test).or_insert(entry);
        }
    }
    results.save(suite)?;
    Ok(results)
}

/// A suite on its way.
struct SuiteRun<'a> {
    suite: &'a Suite,
    source: &'a Source,
    options: &'a ConformanceOptions,
    limits: Limits,
    linux: Place,
    guest: Place,
    earlier: &'a Results,
    results: Mutex<Results>,
}

impl SuiteRun<'_> {
    /// Runs the programs on a few workers.
    fn run_all(&self, programs: &[&Program]) -> Result<()> {
        share_out(programs, |program| {
            self.run_program(program).with_context(|| format!("program {}", program.name))
        })
    }

    /// Enters the C programs that cannot apply, which are not even compiled.
    fn excuse_c_programs(&self) -> Result<()> {
        let Some(sources) = &self.suite.c else { return Ok(()) };
        for (test, _) in c_programs::tests(sources, self.source)? {
            if let Some(reason) = self.excuse(&test).filter(|_| self.is_chosen(&test)) {
                let linux = Outcome::Excused(reason.to_owned());
                self.enter(&test, Entry { linux, guest: None, first_failure: None });
            }
        }
        Ok(())
    }

    /// Why a test cannot apply, by its name or by its source.
    fn excuse(&self, test: &str) -> Option<&str> {
        let by_source = || c_programs::excuse(self.suite.c.as_ref()?, self.source, test);
        self.suite.excuse(test).or_else(by_source)
    }

    fn run_program(&self, program: &Program) -> Result<()> {
        let started = Instant::now();
        if self.suite.c.is_some() {
            return self.run_whole(program, None);
        }
        if !self.suite.filters.is_empty() {
            for filter in &self.suite.filters {
                self.run_whole(program, Some(filter))?;
            }
        } else if let Some(all) = runner::list(program, &self.linux, self.limits)? {
            self.run_tests(program, &all)?;
        } else {
            self.run_whole(program, None)?;
        }
        println!("{}/{}: {:.1} s", self.suite.name, program.name, started.elapsed().as_secs_f32());
        Ok(())
    }

    /// True if the options ask for the test.
    fn is_chosen(&self, test: &str) -> bool {
        let had_passed = || {
            let entry = self.earlier.tests.get(test);
            entry.is_some_and(|entry| !matches!(entry.verdict(self.suite, test), Verdict::Failed(_)))
        };
        self.options.test.as_ref().is_none_or(|text| test.contains(text.as_str()))
            && !(self.options.keeps_results && had_passed())
    }

    fn run_tests(&self, program: &Program, all: &[String]) -> Result<()> {
        let key = |name: &str| format!("{}::{name}", program.name);
        let chosen: BTreeSet<String> =
            all.iter().filter(|name| self.is_chosen(&key(name))).cloned().collect();
        let (excused, applicable): (BTreeSet<String>, BTreeSet<String>) =
            chosen.into_iter().partition(|name| self.suite.excuse(&key(name)).is_some());
        for name in excused {
            self.enter(&key(&name), Entry { linux: Outcome::Ignored, guest: None, first_failure: None });
        }
        let linux = runner::run(program, &self.linux, all, &applicable, self.limits)?;
        let passes = |name: &String| linux.get(name).is_some_and(|tried| tried.outcome == Outcome::Passed);
        let booted = applicable.into_iter().filter(passes).collect();
        let mut guest = runner::run(program, &self.guest, all, &booted, self.limits)?;
        for (name, tried) in linux {
            let entry = Entry::new(tried, guest.remove(&name));
            self.enter(&key(&name), entry);
        }
        Ok(())
    }

    /// Runs a program with another harness: it is one test, or its argument chooses one.
    fn run_whole(&self, program: &Program, filter: Option<&str>) -> Result<()> {
        let name = filter.map_or_else(|| program.name.clone(), |test| format!("{}::{test}", program.name));
        if !self.is_chosen(&name) {
            return Ok(());
        }
        if let Some(reason) = self.excuse(&name) {
            let linux = Outcome::Excused(reason.to_owned());
            self.enter(&name, Entry { linux, guest: None, first_failure: None });
            return Ok(());
        }
        let arguments: Vec<String> = filter.into_iter().map(str::to_owned).collect();
        let attempt = |place| runner::run_whole(program, place, &arguments, self.limits);
        let linux = attempt(&self.linux)?;
        let passes = linux.outcome == Outcome::Passed;
        let guest = passes.then(|| attempt(&self.guest)).transpose()?;
        self.enter(&name, Entry::new(linux, guest));
        Ok(())
    }

    /// Takes a result, and prints it if somebody may have to do something.
    fn enter(&self, test: &str, entry: Entry) {
        if let Verdict::Failed(reason) = entry.verdict(self.suite, test) {
            println!("FAILED  {}/{test}: {reason}", self.suite.name);
        }
        self.results.lock().expect("no worker panics with the results").tests.insert(test.to_owned(), entry);
    }
}

impl Entry {
    fn new(linux: Tried, guest: Option<Tried>) -> Self {
        let (guest, first_failure) = guest.map(|tried| (tried.outcome, tried.first_failure)).unzip();
        Self { linux: linux.outcome, guest, first_failure: first_failure.flatten() }
    }
}
