//! `conformance`: the test suites of published crates, on Linux first, then booted.
//!
//! - [`suites`]: which, from `qemu/conformance/suites.toml`; [`source`]: their sources, from the registry;
//! - [`build`]: their test programs, with the kernel linked in; [`place`]: Linux, or a guest;
//! - [`runner`]: one program from its first test to its last; [`libtest`]: what the harness says;
//! - [`results`]: outcomes and what follows; [`report`]: `docs/conformance.md`.

mod build;
mod libtest;
mod place;
mod report;
mod results;
mod runner;
mod source;
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
use suites::Suite;

/// Programs at once.
const WORKERS: usize = 2;

/// Runs the chosen suites; answers the process's exit code.
pub(crate) fn run(options: &ConformanceOptions) -> Result<u8> {
    let mut failed = 0;
    for suite in suites::load(&options.suites)? {
        let results = run_suite(&suite, options).with_context(|| format!("suite {}", suite.name))?;
        failed += report::Sums::of(&suite, &results).failed;
        println!("\n{}", report::table(&[(suite, results)]));
    }
    let all = suites::load(&[])?.into_iter();
    let all: Vec<(Suite, Results)> =
        all.map(|suite| Results::load(&suite).map(|results| (suite, results))).collect::<Result<_>>()?;
    println!("{}", report::table(&all));
    if options.test.is_none() {
        let path = project::root().join("docs/conformance.md");
        fs::write(&path, report::page(&all)).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(u8::from(failed > 0))
}

fn run_suite(suite: &Suite, options: &ConformanceOptions) -> Result<Results> {
    let source = source::prepare(suite)?;
    let profile = if options.is_checked { "kernel-checked" } else { "kernel" };
    let built = build::build(suite, &source, profile)?;
    let earlier = Results::load(suite)?;
    let run = SuiteRun {
        suite,
        options,
        limits: Limits {
            test: Duration::from_secs(suite.seconds),
            threads: suite.threads.unwrap_or(options.cpus),
        },
        linux: Place::linux(&source),
        guest: Place::guest(suite, &source, options)?,
        earlier: &earlier,
        results: Mutex::default(),
    };
    run.run_all(&built.programs)?;
    let mut results = run.results.into_inner().unwrap_or_default();
    results.version.clone_from(&suite.version);
    results.cpus = options.cpus;
    results.broken = built.broken;
    if options.test.is_some() || options.keeps_results {
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
    options: &'a ConformanceOptions,
    limits: Limits,
    linux: Place,
    guest: Place,
    earlier: &'a Results,
    results: Mutex<Results>,
}

impl SuiteRun<'_> {
    /// Runs the programs on a few workers.
    fn run_all(&self, programs: &[Program]) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.run_program(program).with_context(|| format!("program {}", program.name))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })
    }

    fn run_program(&self, program: &Program) -> Result<()> {
        let started = Instant::now();
        match runner::list(program, &self.linux, self.limits)? {
            Some(all) => self.run_tests(program, &all)?,
            None => self.run_whole(program)?,
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

    /// Runs a program with another harness, which is one test.
    fn run_whole(&self, program: &Program) -> Result<()> {
        if !self.is_chosen(&program.name) {
            return Ok(());
        }
        if self.suite.excuse(&program.name).is_some() {
            self.enter(&program.name, Entry { linux: Outcome::Ignored, guest: None, first_failure: None });
            return Ok(());
        }
        let linux = runner::run_whole(program, &self.linux, self.limits)?;
        let passes = linux.outcome == Outcome::Passed;
        let guest = passes.then(|| runner::run_whole(program, &self.guest, self.limits)).transpose()?;
        self.enter(&program.name, Entry::new(linux, guest));
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
