//! `bench`: the same ELF in our image and as the init of a minimal Linux guest, in the same QEMU, in
//! turn, several rounds; the result is a ratio.
//!
//! - [`network`]: a namespace with a tap device, in which everything runs;
//! - [`linux`]: the Linux guest; [`wrk`]: the load; [`measure`]: one guest, measured;
//! - [`report`]: tables, marks and JSON; [`svg`]: pictures.

mod linux;
mod measure;
mod network;
mod report;
mod svg;
mod wrk;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::BenchOptions;
use crate::machine::Kind;
use crate::project;
use measure::{Guest, Load, System};

/// All that one run of the benchmark found.
#[derive(Serialize)]
pub(crate) struct Results {
    /// Each app, each number of connections, both systems.
    pub(crate) loads: Vec<LoadResult>,
    pub(crate) boots: Vec<BootResult>,
    /// Smallest memory to boot and serve 256 connections, in MiB, by system.
    pub(crate) memory: Vec<(System, u64)>,
    /// A burst of 1,000 connections at once: requests served and socket errors.
    pub(crate) burst: Option<(u64, u64)>,
    pub(crate) sequential: Option<measure::Sequential>,
    /// Percent of a host core that an idle guest takes.
    pub(crate) idle_percent: Vec<(System, f64)>,
}

/// Medians over the rounds.
#[derive(Serialize)]
pub(crate) struct LoadResult {
    pub(crate) app: String,
    pub(crate) connections: u32,
    pub(crate) ours: Load,
    pub(crate) linux: Load,
}

/// Time from the start of QEMU to the first response.
#[derive(Serialize)]
pub(crate) struct BootResult {
    pub(crate) machine: String,
    pub(crate) ours_ms: f64,
    pub(crate) linux_ms: f64,
}

/// The two systems, in the order in which they take turns.
const SYSTEMS: [System; 2] = [System::Unikernel, System::Linux];

/// Runs the benchmark; answers the process's exit code.
pub(crate) fn run(options: &BenchOptions) -> Result<u8> {
    if !network::is_inside() {
        for app in options.apps.iter().chain([&"http".to_owned()]) {
            project::build_app(app)?;
        }
        linux::prepare()?;
        network::enter()?;
    }
    network::set_up()?;
    let is_wanted = |name: &str| !options.skip.iter().any(|skipped| skipped == name);
    let mut results = Results {
        loads: loads(options)?,
        boots: Vec::new(),
        memory: Vec::new(),
        burst: None,
        sequential: None,
        idle_percent: Vec::new(),
    };
    if is_wanted("boot") {
        results.boots = boots(options.rounds)?;
    }
    if is_wanted("memory") {
        for system in SYSTEMS {
            results.memory.push((system, measure::smallest_memory(system)?));
        }
    }
    if is_wanted("burst") {
        results.burst = Some(measure::burst()?);
    }
    if is_wanted("sequential") {
        results.sequential = Some(measure::sequential()?);
    }
    if is_wanted("idle") {
        for system in SYSTEMS {
            results.idle_percent.push((system, measure::idle_percent(system)?));
        }
    }
    report::write(&results).context("cannot write the report")
}

fn loads(options: &BenchOptions) -> Result<Vec<LoadResult>> {
    let mut results = Vec::new();
    for app in &options.apps {
        // rounds x connections, for each system.
        let mut rounds: [Vec<Vec<Load>>; 2] = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            for (system, rounds) in SYSTEMS.iter().zip(&mut rounds) {
                eprintln!("{app}: round {} of {}, {system}", round + 1, options.rounds);
                let guest = Guest::boot(*system, app, Kind::Q35, 256)?;
                let run = |&connections: &u32| guest.load(connections, options.seconds);
                rounds.push(options.connections.iter().map(run).collect::<Result<_>>()?);
            }
        }
        for (index, &connections) in options.connections.iter().enumerate() {
            let median = |rounds: &[Vec<Load>]| {
                Load::median(rounds.iter().map(|round| round[index].clone()).collect())
            };
            let [ours, linux] = rounds.each_ref().map(|rounds| median(rounds));
            results.push(LoadResult { app: app.clone(), connections, ours, linux });
        }
    }
    Ok(results)
}

fn boots(rounds: usize) -> Result<Vec<BootResult>> {
    let mut results = Vec::new();
    for kind in [Kind::Microvm, Kind::Q35] {
        let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..rounds.max(3) {
            for (system, times) in SYSTEMS.iter().zip(&mut times) {
                times.push(Guest::boot(*system, "http", kind, 256)?.boot_time.as_secs_f64() * 1000.0);
            }
        }
        let [ours_ms, linux_ms] = times.map(measure::median);
        results.push(BootResult { machine: kind.to_string(), ours_ms, linux_ms });
    }
    Ok(results)
}
