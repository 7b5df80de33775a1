//! One guest, measured: load, boot time, memory, idling.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::host::Usage;
use super::linux;
use super::wrk::{self, Errors, P50, P99, P999, PERCENTILES};
use crate::machine::{Kind, Machine, Net};
use crate::namespace::{TAP, guest_address};
use crate::run::app_files;
use crate::vm::{Console, Vm};
use crate::{http, project};

pub(super) const BOOT_TIME_OUT: Duration = Duration::from_secs(60);
/// Memory for everything but the search for the least.
pub(super) const USUAL_MEMORY_MIB: u64 = 256;

/// Which system serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// Our image.
    Unikernel,
    /// The same ELF under Linux.
    Linux,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unikernel => "unikernel",
            Self::Linux => "linux",
        })
    }
}

/// What a load found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) requests_per_second: f64,
    /// At [`wrk::PERCENTILES`].
    pub(crate) latency_us: [u64; PERCENTILES.len()],
    pub(crate) errors: Errors,
    /// Host processor time for a request: all of QEMU's.
    pub(crate) host_us_per_request: f64,
    /// Share of a host core that other programs took meanwhile.
    pub(crate) strangers: f64,
}

impl Load {
    /// Latency at 50 %.
    pub(crate) fn p50_us(&self) -> u64 {
        self.latency_us[P50]
    }

    /// Latency at 99.9 %, against that at 50 %.
    pub(crate) fn tail(&self) -> f64 {
        self.latency_us[P999] as f64 / self.p50_us().max(1) as f64
    }

    /// Latency at 99.9 %.
    pub(crate) fn p999_us(&self) -> u64 {
        self.latency_us[P999]
    }

    /// Latency at 99 %.
    pub(crate) fn p99_us(&self) -> u64 {
        self.latency_us[P99]
    }

    /// The median of each figure over the rounds; errors are summed, since none may hide. `None`
    /// without a round.
    pub(crate) fn median(rounds: &[Self]) -> Option<Self> {
        let errors = rounds.iter().fold(Errors::default(), |sum, round| sum.plus(round.errors));
        let of = |figure: &dyn Fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        let mut latency_us = [0; PERCENTILES.len()];
        for (index, latency) in latency_us.iter_mut().enumerate() {
            *latency = of(&|round| round.latency_us[index] as f64)? as u64;
        }
        Some(Self {
            requests_per_second: of(&|round| round.requests_per_second)?,
            latency_us,
            errors,
            host_us_per_request: of(&|round| round.host_us_per_request)?,
            strangers: of(&|round| round.strangers)?,
        })
    }
}

/// The median of some numbers (the mean of the middle two of an even count).
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 })
}

/// What is asked for, and where.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: String,
}

impl Target {
    /// The start page of this repository's apps.
    fn usual() -> Self {
        Self { address: guest_address(), path: "/".into() }
    }
}

/// A booted guest that answers.
pub(super) struct Guest {
    vm: Vm,
    target: Target,
    /// From the start of QEMU to the first response.
    pub(super) boot_time: Duration,
}

impl Guest {
    pub(super) fn boot(system: System, app: &str, kind: Kind, memory_mib: u64) -> Result<Self> {
        Self::boot_within(system, app, kind, memory_mib, BOOT_TIME_OUT)
    }

    fn boot_within(
        system: System,
        app: &str,
        kind: Kind,
        memory_mib: u64,
        patience: Duration,
    ) -> Result<Self> {
        let Case { app, cpus, .. } = Case::parse(app)?;
        let mut machine = machine_for(system, app, kind)?;
        machine.memory_mib = memory_mib;
        machine.cpus = cpus;
        Self::start(machine, patience).with_context(|| format!("{app} on {system}, {kind}, {memory_mib} MiB"))
    }

    /// Boots a machine on the tap device, with one pair of queues if it does not say, and waits for an answer.
    pub(super) fn start(machine: Machine, patience: Duration) -> Result<Self> {
        Self::start_for(Target::usual(), machine, patience)
    }

    /// The same for another server.
    pub(super) fn start_for(target: Target, mut machine: Machine, patience: Duration) -> Result<Self> {
        if machine.net == Net::None {
            machine.net = Net::Tap { name: TAP.into(), queues: 1 };
        }
        let vm = Vm::start(&machine, Console::Recorded)?;
        let boot_time = vm.wait_until(patience, || http::answers_on(target.address, &target.path))?;
        Ok(Self { vm, target, boot_time })
    }

    /// Loads the guest and counts.
    pub(super) fn load(&self, connections: u32, seconds: u64) -> Result<Load> {
        let (before, started) = (Usage::now(self.vm.pid())?, Instant::now());
        let Target { address, path } = &self.target;
        let report = wrk::run_on(*address, path, connections, seconds)?;
        let (after, elapsed) = (Usage::now(self.vm.pid())?, started.elapsed());
        ensure!(report.requests > 0, "no request was answered; console:\n{}", self.vm.console());
        Ok(Load {
            requests_per_second: report.requests as f64 * 1e6 / report.duration_us as f64,
            latency_us: report.latency_us,
            errors: report.errors,
            host_us_per_request: (after.guest - before.guest) * 1e6 / report.requests as f64,
            strangers: after.strangers_since(&before) / elapsed.as_secs_f64(),
        })
    }
}

/// An app of the options, `NAME[@PROCESSORS][:CONNECTIONS]`.
pub(super) struct Case<'a> {
    pub(super) app: &'a str,
    pub(super) cpus: u32,
    /// The only number of connections to measure; else all.
    pub(super) connections: Option<u32>,
}

impl<'a> Case<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let number = |number: &str| number.parse::<u32>().with_context(|| format!("`{number}` in `{text}`"));
        let (rest, connections) = match text.split_once(':') {
            Some((rest, connections)) => (rest, Some(number(connections)?)),
            None => (text, None),
        };
        let (app, cpus) = match rest.split_once('@') {
            Some((app, cpus)) => (app, number(cpus)?),
            None => (rest, 1),
        };
        Ok(Self { app, cpus, connections })
    }
}

/// A machine with one app on one of the systems.
pub(super) fn machine_for(system: System, app: &str, kind: Kind) -> Result<Machine> {
    match system {
        System::Unikernel => our_machine(app, kind),
        System::Linux => linux_machine(app, kind),
    }
}

fn our_machine(app: &str, kind: Kind) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::image(app));
    machine.append = "ip=10.0.2.15/24 log=warn".into();
    machine.initrd = app_files(app, app)?;
    Ok(machine)
}

fn linux_machine(app: &str, kind: Kind) -> Result<Machine> {
    let mut machine = Machine::new(kind, &linux::kernel()?);
    machine.initrd = Some(linux::initramfs(app)?);
    machine.append = linux::command_line();
    Ok(machine)
}

/// The least memory, in MiB, with which a guest boots and serves 256 connections without an error.
pub(super) fn smallest_memory(system: System) -> Result<u64> {
    let (most, patience) = match system {
        System::Unikernel => (64, Duration::from_secs(8)),
        System::Linux => (192, Duration::from_secs(15)),
    };
    let serves = |memory_mib: u64| -> Result<()> {
        let guest = Guest::boot_within(system, "http", Kind::Q35, memory_mib, patience)?;
        let errors = guest.load(256, 3)?.errors;
        ensure!(errors.total() == 0, "{errors:?} with {memory_mib} MiB");
        Ok(())
    };
    serves(most).context("not even the most memory sufficed")?;
    Ok(smallest(1, most, |memory_mib| serves(memory_mib).is_ok()))
}

/// The smallest number for which `suffices` is true; it is for `enough` and all between.
fn smallest(mut least: u64, mut enough: u64, suffices: impl Fn(u64) -> bool) -> u64 {
    while least < enough {
        let middle = least.midpoint(enough);
        if suffices(middle) { enough = middle } else { least = middle + 1 }
    }
    enough
}

/// 1,000 connections opened at once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Burst {
    pub(crate) app: String,
    pub(crate) requests: u64,
    pub(crate) errors: Errors,
}

/// Opens 1,000 connections at once and has requests on all of them.
pub(super) fn burst(app: &str) -> Result<Burst> {
    let _guest = Guest::boot(System::Unikernel, app, Kind::Q35, USUAL_MEMORY_MIB)?;
    let report = wrk::run(guest_address(), 1000, 3)?;
    Ok(Burst { app: app.to_owned(), requests: report.requests, errors: report.errors })
}

/// Connections one after another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sequential {
    pub(crate) connections: usize,
    pub(crate) failures: usize,
    pub(crate) per_second: f64,
    /// Change of the guest's free memory in bytes, after the first connections; negative is loss.
    pub(crate) memory_change: i64,
}

/// 20,000 times connect, request, close.
pub(super) fn sequential() -> Result<Sequential> {
    const CONNECTIONS: usize = 20_000;
    const WARM_UP: usize = 2_000;
    let _guest = Guest::boot(System::Unikernel, "http", Kind::Q35, 64)?;
    let failures_in = |count: usize| {
        let is_served = || http::get(guest_address(), "/").is_ok_and(|answer| answer.status == 200);
        (0..count).filter(|_| !is_served()).count()
    };
    let early_failures = failures_in(WARM_UP);
    let free_before = http::settled_free_memory(guest_address())?;
    let started = Instant::now();
    let failures = early_failures + failures_in(CONNECTIONS);
    let per_second = CONNECTIONS as f64 / started.elapsed().as_secs_f64();
    let memory_change = http::settled_free_memory(guest_address())? - free_before;
    Ok(Sequential { connections: CONNECTIONS, failures, per_second, memory_change })
}

/// Percent of a host core that a guest takes while nobody talks to it.
pub(super) fn idle_percent(system: System) -> Result<f64> {
    const SETTLE: Duration = Duration::from_secs(3);
    const WATCH: Duration = Duration::from_secs(10);
    let guest = Guest::boot(system, "http", Kind::Q35, USUAL_MEMORY_MIB)?;
    thread::sleep(SETTLE);
    let before = Usage::now(guest.vm.pid())?;
    thread::sleep(WATCH);
    let after = Usage::now(guest.vm.pid())?;
    Ok((after.guest - before.guest) / WATCH.as_secs_f64() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_has_processors_and_connections() {
        let case = Case::parse("axum-rest@2:64").unwrap();
        assert_eq!((case.app, case.cpus, case.connections), ("axum-rest", 2, Some(64)));
        let case = Case::parse("http").unwrap();
        assert_eq!((case.app, case.cpus, case.connections), ("http", 1, None));
        assert!(Case::parse("http@many").is_err());
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn smallest_finds_the_edge() {
        for edge in 1..=64 {
            assert_eq!(smallest(1, 64, |tried| tried >= edge), edge);
        }
    }
}
