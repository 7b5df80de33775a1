//! One guest, measured: load, boot time, memory, idling.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::network::{TAP, guest_address};
use super::{linux, wrk};
use crate::machine::{Kind, Machine, Net};
use crate::run::initrd_file;
use crate::vm::{Console, Vm};
use crate::{http, project};

/// Clock ticks a second in `/proc/PID/stat` (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
const BOOT_TIME_OUT: Duration = Duration::from_secs(60);
/// Memory sizes to try, in MiB.
const MEMORY_STEPS: [u64; 18] = [4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 80, 96, 128];

/// Which system serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
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
    pub(crate) latency_us: [u64; 5],
    pub(crate) errors: u64,
    /// Host processor time for a request: all of QEMU's.
    pub(crate) host_us_per_request: f64,
}

impl Load {
    /// Latency at 99 %.
    pub(crate) fn p99_us(&self) -> u64 {
        self.latency_us[3]
    }

    /// The round with the median throughput; errors are summed, since none may hide.
    pub(crate) fn median(mut rounds: Vec<Self>) -> Self {
        let errors = rounds.iter().map(|round| round.errors).sum();
        rounds.sort_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
        let middle = rounds.swap_remove(rounds.len() / 2);
        Self { errors, ..middle }
    }
}

/// The median of some numbers.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A booted guest that answers.
pub(super) struct Guest {
    vm: Vm,
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
        let mut machine = match system {
            System::Unikernel => our_machine(app, kind)?,
            System::Linux => {
                let mut machine = Machine::new(kind, &linux::kernel()?);
                machine.initrd = Some(linux::initramfs(app)?);
                machine.append = linux::command_line();
                machine
            }
        };
        machine.memory_mib = memory_mib;
        machine.net = Net::Tap(TAP.into());
        let vm = Vm::start(&machine, Console::Recorded)?;
        let boot_time = vm
            .wait_until(patience, || http::answers(guest_address()))
            .with_context(|| format!("{app} on {system}, {kind}, {memory_mib} MiB"))?;
        Ok(Self { vm, boot_time })
    }

    /// Loads the guest and counts.
    pub(super) fn load(&self, connections: u32, seconds: u64) -> Result<Load> {
        let before = self.host_seconds()?;
        let report = wrk::run(guest_address(), connections, seconds)?;
        let spent = self.host_seconds()? - before;
        ensure!(report.requests > 0, "no request was answered; console:\n{}", self.vm.console());
        Ok(Load {
            requests_per_second: report.requests as f64 * 1e6 / report.duration_us as f64,
            latency_us: report.latency_us,
            errors: report.errors,
            host_us_per_request: spent * 1e6 / report.requests as f64,
        })
    }

    /// Processor time that QEMU has used (proc(5), `/proc/PID/stat`).
    fn host_seconds(&self) -> Result<f64> {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.vm.pid())).context("QEMU is gone")?;
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = fields
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Ok(ticks / TICKS_PER_SECOND)
    }
}

fn our_machine(app: &str, kind: Kind) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::image(app));
    machine.append = "ip=10.0.2.15/24 log=warn".into();
    let files = project::root().join("apps").join(app).join("initrd");
    if files.is_dir() {
        machine.initrd = Some(initrd_file(&files, app)?);
    }
    Ok(machine)
}

/// The least memory, in MiB, with which a guest boots and serves 256 connections without an error.
pub(super) fn smallest_memory(system: System) -> Result<u64> {
    let patience = Duration::from_secs(if system == System::Linux { 15 } else { 4 });
    for memory_mib in MEMORY_STEPS {
        let attempt = || -> Result<bool> {
            let guest = Guest::boot_within(system, "http", Kind::Q35, memory_mib, patience)?;
            Ok(guest.load(256, 1)?.errors == 0)
        };
        if attempt().unwrap_or(false) {
            return Ok(memory_mib);
        }
    }
    anyhow::bail!("{system} did not even run in {} MiB", MEMORY_STEPS[MEMORY_STEPS.len() - 1])
}

/// 1,000 connections opened at once; answers requests served and socket errors.
pub(super) fn burst() -> Result<(u64, u64)> {
    let guest = Guest::boot(System::Unikernel, "http", Kind::Q35, 256)?;
    let report = wrk::run(guest_address(), 1000, 3)?;
    drop(guest);
    Ok((report.requests, report.errors))
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
    let run = |count: usize| {
        (0..count)
            .filter(|_| !http::get(guest_address(), "/").is_ok_and(|answer| answer.status == 200))
            .count()
    };
    let early_failures = run(WARM_UP);
    let free_before = free_memory()?;
    let started = Instant::now();
    let failures = early_failures + run(CONNECTIONS);
    let per_second = CONNECTIONS as f64 / started.elapsed().as_secs_f64();
    let memory_change = free_memory()? - free_before;
    Ok(Sequential { connections: CONNECTIONS, failures, per_second, memory_change })
}

/// The guest's own word on its free memory.
fn free_memory() -> Result<i64> {
    let metrics = http::get(guest_address(), "/metrics")?.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("unikernel_memory_free_bytes "));
    line.and_then(|value| value.parse().ok()).context("/metrics does not tell the free memory")
}

/// Percent of a host core that a guest takes while nobody talks to it.
pub(super) fn idle_percent(system: System) -> Result<f64> {
    const SETTLE: Duration = Duration::from_secs(2);
    const WATCH: Duration = Duration::from_secs(5);
    let guest = Guest::boot(system, "http", Kind::Q35, 256)?;
    thread::sleep(SETTLE);
    let before = guest.host_seconds()?;
    thread::sleep(WATCH);
    Ok((guest.host_seconds()? - before) / WATCH.as_secs_f64() * 100.0)
}
