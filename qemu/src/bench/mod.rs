//! `bench`: the same ELF in our image and as the init of a minimal Linux guest, in the same QEMU, in
//! turn, several rounds; the result is a ratio.
//!
//! - [`network`]: a namespace with a tap device, in which everything runs;
//! - [`linux`]: the Linux guest; [`wrk`]: the load; [`host`]: processor time;
//! - [`measure`]: one guest, measured; [`crowd`], [`endurance`], [`hostile`]: many clients, and bad ones; [`loss`]: a bad network;
//! - [`bulk`], [`offloads`]: one connection at full speed, and what the card does for it;
//! - [`micro`]: threads and system calls; [`storage`]: disks, and `kv` against Redis;
//! - [`places`]: the same app on every kind of machine; [`own`]: a server of the user's;
//! - [`marks`]: what is to be reached; [`report`]: tables and JSON; [`svg`]: pictures.

mod bulk;
mod crowd;
mod endurance;
mod host;
mod hostile;
mod instructions;
mod linux;
mod loss;
mod marks;
mod measure;
mod micro;
mod offloads;
mod own;
mod places;
mod report;
mod storage;
mod svg;
pub(crate) mod wrk;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::BenchOptions;
use crate::machine::Kind;
use crate::namespace::{self, Queues};
use crate::project;
use bulk::BulkResult;
use crowd::Crowd;
use endurance::{Lasting, StormResult};
use hostile::Trial;
use instructions::Instructions;
pub(crate) use linux::is_there as has_linux;
use loss::Loss;
use measure::{Burst, Case, Guest, Load, Sequential, System, USUAL_MEMORY_MIB};
use micro::{Figures, MicroResult};
use offloads::{OffloadResult, QueueResult};
pub(crate) use own::{INSIDE, Plan, run as run_own, run_inside as run_own_inside};
use places::Place;

/// All that one run of the benchmark found.
#[derive(Serialize)]
pub(crate) struct Results {
    /// What was asked for, for the reader of the JSON.
    pub(crate) options: BenchOptions,
    /// Words on the Linux guest's command line.
    pub(crate) linux_command_line: String,
    /// Each app, each number of connections, both systems.
    pub(crate) loads: Vec<LoadResult>,
    pub(crate) boots: Vec<BootResult>,
    /// The same app on every kind of machine.
    pub(crate) places: Vec<Place>,
    /// Smallest memory to boot and serve 256 connections, in MiB.
    pub(crate) memory_mib: Pair<u64>,
    pub(crate) bursts: Vec<Burst>,
    pub(crate) sequential: Option<Sequential>,
    /// 10,000 connections begun at once.
    pub(crate) storms: Vec<StormResult>,
    /// 200,000 one after another, each ended by the server.
    pub(crate) lasting: Option<Lasting>,
    /// Busy connections among idle ones.
    pub(crate) crowds: Vec<Crowd>,
    /// Good clients among hostile ones.
    pub(crate) trials: Vec<Trial>,
    /// Bulk sends while frames get lost.
    pub(crate) losses: Vec<Loss>,
    /// One connection at full speed.
    pub(crate) bulk: Vec<BulkResult>,
    /// What the card's offloads bring.
    pub(crate) offloads: Vec<OffloadResult>,
    /// What a pair of queues for each processor brings.
    pub(crate) queues: Vec<QueueResult>,
    /// What a request costs in the kernel.
    pub(crate) instructions: Option<Instructions>,
    /// The same beside 10,000 idle connections.
    pub(crate) crowded_instructions: Option<Instructions>,
    /// The same with a policy of system calls.
    pub(crate) confined_instructions: Option<Instructions>,
    /// The same while events are recorded.
    pub(crate) recorded_instructions: Option<Instructions>,
    /// Percent of a host core that an idle guest takes.
    pub(crate) idle_percent: Pair<f64>,
    /// Threads and system calls, on one and two processors.
    pub(crate) micro: Vec<MicroResult>,
    /// Files on a disk, and `kv` against Redis.
    pub(crate) storage: Pair<Figures>,
    /// Measurements that failed, and why: none of them may be taken for a success.
    pub(crate) failures: Vec<String>,
}

/// A figure of both systems, where it could be measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pair<T> {
    pub(crate) ours: Option<T>,
    pub(crate) linux: Option<T>,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Self { ours: None, linux: None }
    }
}

impl<T> Pair<T> {
    /// Asks for the figure of each system, ours first.
    fn of(mut figure: impl FnMut(System) -> Option<T>) -> Self {
        Self { ours: figure(System::Unikernel), linux: figure(System::Linux) }
    }

    /// The figure of one.
    fn of_mut(&mut self, system: System) -> &mut Option<T> {
        match system {
            System::Unikernel => &mut self.ours,
            System::Linux => &mut self.linux,
        }
    }

    /// Both figures, if both were measured.
    pub(crate) fn both(&self) -> Option<(&T, &T)> {
        self.ours.as_ref().zip(self.linux.as_ref())
    }
}

/// Medians over the rounds.
#[derive(Serialize)]
pub(crate) struct LoadResult {
    pub(crate) app: String,
    pub(crate) connections: u32,
    #[serde(flatten)]
    pub(crate) load: Pair<Load>,
}

/// Milliseconds from the start of QEMU to the first response.
#[derive(Serialize)]
pub(crate) struct BootResult {
    pub(crate) machine: String,
    #[serde(flatten)]
    pub(crate) ms: Pair<f64>,
}

/// Apps that parts use whatever apps are named.
fn needed(options: &BenchOptions) -> Vec<&'static str> {
    let is_wanted = |part: &str| options.wants(part);
    let has_storage = storage::PARTS.iter().any(|part| is_wanted(part));
    let all = [
        ("http", true),
        ("http-threads", is_wanted("offloads")),
        ("axum-rest", is_wanted("offloads")),
        ("micro", has_storage || ["bulk", "micro", "offloads"].into_iter().any(is_wanted)),
        ("kv", has_storage),
    ];
    all.into_iter().filter(|(_, is_needed)| *is_needed).map(|(app, _)| app).collect()
}

/// Runs the benchmark; answers the process's exit code.
pub(crate) fn run(options: &BenchOptions) -> Result<u8> {
    if !namespace::is_inside() {
        for app in options.apps.iter().map(String::as_str).chain(needed(options)) {
            project::build_app(Case::parse(app)?.app)?;
        }
        linux::prepare()?;
        namespace::enter()?;
    }
    namespace::set_up(Queues::One)?;
    let results = Bench { options, failures: Failures::default() }.run();
    report::write(&results).context("cannot write the report")
}

/// Measurements that failed, and why.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    /// The value, or a note of the failure: the rest of the benchmark goes on.
    fn noted<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        outcome
            .map_err(|error| {
                eprintln!("FAILED  {what}: {error:#}");
                self.0.push(format!("{what}: {error:#}"));
            })
            .ok()
    }
}

/// What is asked of a server, how often.
struct Series<'a> {
    app: &'a str,
    connections: &'a [u32],
    rounds: usize,
    seconds: u64,
}

/// Medians of loads, and the times of all boots in milliseconds.
struct Served {
    loads: Vec<LoadResult>,
    boots: Pair<Vec<f64>>,
}

impl Series<'_> {
    /// In each round both systems boot afresh, in turn, and take all numbers of connections.
    fn in_turns(&self, failures: &mut Failures, boot: impl Fn(System) -> Result<Guest>) -> Served {
        let Self { app, connections, rounds, seconds } = *self;
        let mut samples: Vec<Pair<Vec<Load>>> = connections.iter().map(|_| Pair::default()).collect();
        let mut boots = Pair::<Vec<f64>>::default();
        for round in 1..=rounds {
            for system in [System::Unikernel, System::Linux] {
                eprintln!("{app}: round {round} of {rounds}, {system}");
                let guest = failures.noted(&format!("{app} on {system}"), boot(system));
                let Some(guest) = guest else { continue };
                boots.of_mut(system).get_or_insert_default().push(guest.boot_time.as_secs_f64() * 1000.0);
                for (&connections, samples) in connections.iter().zip(&mut samples) {
                    let load = guest.load(connections, seconds);
                    let what = format!("{app} on {system}, {connections} connections");
                    let load = failures.noted(&what, load);
                    samples.of_mut(system).get_or_insert_default().extend(load);
                }
            }
        }
        let medians = samples.iter().map(|samples| Pair {
            ours: samples.ours.as_deref().and_then(Load::median),
            linux: samples.linux.as_deref().and_then(Load::median),
        });
        let named = connections.iter().zip(medians);
        let app = app.split(':').next().unwrap_or(app);
        let loads = named.map(|(&connections, load)| LoadResult { app: app.to_owned(), connections, load });
        Served { loads: loads.collect(), boots }
    }
}

/// The benchmark at work.
struct Bench<'a> {
    options: &'a BenchOptions,
    failures: Failures,
}

impl Bench<'_> {
    fn run(mut self) -> Results {
        let loads = self.loads();
        let boots = if self.is_wanted("boot") { self.boots() } else { Vec::new() };
        let rounds = self.options.rounds;
        let places = self.list_if_wanted("machines", || places::measure(rounds));
        let memory_mib = self.pair_if_wanted("memory", measure::smallest_memory);
        let bursts =
            if self.is_wanted("burst") { self.of_each_app("burst", measure::burst) } else { Vec::new() };
        let sequential = self.one_if_wanted("sequential", measure::sequential);
        let storms =
            if self.is_wanted("storm") { self.of_each_app("storm", endurance::storm) } else { Vec::new() };
        let lasting = self.one_if_wanted("lasting", endurance::lasting);
        let seconds = self.options.seconds;
        let crowds = self.list_if_wanted("crowd", || crowd::measure(seconds));
        let trials = self.list_if_wanted("hostile", hostile::trials);
        let losses = self.list_if_wanted("loss", || loss::measure(rounds, seconds));
        let bulk = self.list_if_wanted("bulk", || bulk::measure(rounds));
        let offloads = self.list_if_wanted("offloads", || offloads::measure(seconds));
        let queues = self.list_if_wanted("offloads", || offloads::queues(seconds));
        let instructions = self.one_if_wanted("instructions", || instructions::per_request(0, ""));
        let crowded_instructions =
            self.one_if_wanted("instructions", || instructions::per_request(instructions::IDLE, ""));
        let confined_instructions =
            self.one_if_wanted("instructions", || instructions::per_request(0, instructions::POLICY));
        let recorded_instructions =
            self.one_if_wanted("instructions", || instructions::per_request(0, instructions::RECORDING));
        let idle_percent = self.pair_if_wanted("idle", measure::idle_percent);
        let micro = if self.is_wanted("micro") { self.micro() } else { Vec::new() };
        let storage = self.storage();
        Results {
            options: self.options.clone(),
            linux_command_line: linux::command_line(),
            loads,
            boots,
            places,
            memory_mib,
            bursts,
            sequential,
            storms,
            lasting,
            crowds,
            trials,
            losses,
            bulk,
            offloads,
            queues,
            instructions,
            crowded_instructions,
            confined_instructions,
            recorded_instructions,
            idle_percent,
            micro,
            storage,
            failures: self.failures.0,
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.options.wants(name)
    }

    fn noted<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        self.failures.noted(what, outcome)
    }

    fn pair_if_wanted<T>(&mut self, name: &str, figure: impl Fn(System) -> Result<T>) -> Pair<T> {
        if !self.is_wanted(name) {
            return Pair::default();
        }
        Pair::of(|system| {
            eprintln!("{name}, {system}");
            self.noted(&format!("{name}, {system}"), figure(system))
        })
    }

    fn list_if_wanted<T>(&mut self, name: &str, list: impl FnOnce() -> Result<Vec<T>>) -> Vec<T> {
        if !self.is_wanted(name) {
            return Vec::new();
        }
        eprintln!("{name}");
        let outcome = list();
        self.noted(name, outcome).unwrap_or_default()
    }

    fn one_if_wanted<T>(&mut self, name: &str, figure: impl FnOnce() -> Result<T>) -> Option<T> {
        if !self.is_wanted(name) {
            return None;
        }
        eprintln!("{name}");
        let outcome = figure();
        self.noted(name, outcome)
    }

    fn loads(&mut self) -> Vec<LoadResult> {
        let apps = &self.options.apps;
        apps.iter().flat_map(|app| self.loads_of(app)).collect()
    }

    /// The loads of one app.
    fn loads_of(&mut self, app: &str) -> Vec<LoadResult> {
        let options = self.options;
        let only = Case::parse(app).ok().and_then(|case| case.connections);
        let connections = only.map_or_else(|| options.connections.clone(), |only| vec![only]);
        let BenchOptions { rounds, seconds, .. } = *options;
        let series = Series { app, connections: &connections, rounds, seconds };
        let boot = |system| Guest::boot(system, app, Kind::Q35, USUAL_MEMORY_MIB);
        series.in_turns(&mut self.failures, boot).loads
    }

    fn boots(&mut self) -> Vec<BootResult> {
        [Kind::Microvm, Kind::Q35].into_iter().map(|kind| self.boots_on(kind)).collect()
    }

    fn boots_on(&mut self, kind: Kind) -> BootResult {
        let (mut ours, mut linux) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds.max(3) {
            for (system, times) in [(System::Unikernel, &mut ours), (System::Linux, &mut linux)] {
                let guest = Guest::boot(system, "http", kind, USUAL_MEMORY_MIB);
                let guest = self.noted(&format!("boot of {system} on {kind}"), guest);
                times.extend(guest.map(|guest| guest.boot_time.as_secs_f64() * 1000.0));
            }
        }
        let ms = Pair { ours: measure::median(ours), linux: measure::median(linux) };
        BootResult { machine: kind.to_string(), ms }
    }

    fn micro(&mut self) -> Vec<MicroResult> {
        [1, 2].into_iter().map(|cpus| self.micro_on(cpus)).collect()
    }

    fn micro_on(&mut self, cpus: u32) -> MicroResult {
        let (mut ours, mut linux) = (Vec::new(), Vec::new());
        let rounds = self.options.rounds.max(micro::ROUNDS);
        for round in 1..=rounds {
            for (system, figures) in [(System::Unikernel, &mut ours), (System::Linux, &mut linux)] {
                eprintln!("micro on {cpus}: round {round} of {rounds}, {system}");
                figures.extend(self.noted(&format!("micro on {system}, {cpus}"), micro::run(system, cpus)));
            }
        }
        let figures = Pair { ours: micro::best(&ours), linux: micro::best(&linux) };
        MicroResult { cpus, figures }
    }

    /// In each round both systems boot afresh, with a disk of their own.
    fn storage(&mut self) -> Pair<Figures> {
        let skip = &self.options.skip;
        let (mut ours, mut linux) = (Vec::new(), Vec::new());
        for round in 1..=self.options.rounds {
            for (system, figures) in [(System::Unikernel, &mut ours), (System::Linux, &mut linux)] {
                eprintln!("storage: round {round} of {}, {system}", self.options.rounds);
                figures.extend(self.noted(&format!("storage on {system}"), storage::run(system, skip)));
            }
        }
        Pair { ours: micro::medians(&ours), linux: micro::medians(&linux) }
    }

    fn of_each_app<T>(&mut self, name: &str, figure: impl Fn(&str) -> Result<T>) -> Vec<T> {
        eprintln!("{name}");
        self.options
            .plain_apps()
            .filter_map(|app| self.noted(&format!("{name} on {app}"), figure(app)))
            .collect()
    }
}
