//! Bulk throughput of one connection, each way: our image and the same ELF under Linux, each with a card that
//! segments and with one that does not. The host's own stack is the other end, so a card that segments passes
//! 64 KiB at once between the two.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::linux;
use super::measure::{BOOT_TIME_OUT, System, machine_for, median};
use crate::bulk::{Bulk, mib_per_second};
use crate::machine::{Accelerator, Kind, Machine, Net};
use crate::namespace::{GUEST, TAP, guest_address};
use crate::vm::{Console, Vm};

/// What a card that does not segment is asked for.
pub(super) const NO_TSO: &str =
    "host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,host_ecn=off,guest_ecn=off";
/// Bytes that pass before any are counted: windows grow.
const WARM_UP: usize = 8 << 20;
/// Bytes that are timed, each way.
const BYTES: usize = 64 << 20;

/// What one connection carries each way, in MiB/s where nothing else is said.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Throughput {
    /// The guest sends.
    pub(crate) sends: f64,
    /// The guest receives.
    pub(crate) receives: f64,
}

/// Medians of one system with one card.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BulkResult {
    pub(crate) system: System,
    /// The card segments.
    pub(crate) has_tso: bool,
    #[serde(flatten)]
    pub(crate) throughput: Throughput,
}

/// Both systems with both cards, in turn, several rounds.
pub(super) fn measure(rounds: usize) -> Result<Vec<BulkResult>> {
    let cases = [System::Unikernel, System::Linux].map(|system| [(system, true), (system, false)]);
    let cases = cases.as_flattened();
    let mut samples: Vec<Vec<Throughput>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (&(system, has_tso), samples) in cases.iter().zip(&mut samples) {
            let mut machine = machine(system, "")?;
            machine.nic_properties = if has_tso { String::new() } else { NO_TSO.into() };
            samples.push(carry(machine).with_context(|| format!("{system}, segmenting card: {has_tso}"))?);
        }
    }
    let result = |(&(system, has_tso), samples): (&(System, bool), &Vec<Throughput>)| {
        let of = |figure: fn(&Throughput) -> f64| median(samples.iter().map(figure).collect());
        let throughput = Throughput { sends: of(|one| one.sends)?, receives: of(|one| one.receives)? };
        Some(BulkResult { system, has_tso, throughput })
    };
    Ok(cases.iter().zip(&samples).filter_map(result).collect())
}

/// The machine that serves, with further words for our kernel.
pub(super) fn machine(system: System, words: &str) -> Result<Machine> {
    let mut machine = machine_for(system, "micro", Kind::Q35)?;
    let arguments = format!("bulk {}", GUEST.1);
    machine.append = match system {
        System::Unikernel => format!("{} {words} -- {arguments}", machine.append),
        System::Linux => format!("{} {}", machine.append, linux::arguments(&arguments)),
    };
    Ok(machine)
}

/// Boots a machine, and connects to it.
fn boot(mut machine: Machine) -> Result<(Vm, Bulk)> {
    machine.net = Net::Tap { name: TAP.into(), queues: 1 };
    let vm = Vm::start(&machine, Console::Recorded)?;
    let mut connection = None;
    vm.wait_until(BOOT_TIME_OUT, || {
        connection = Bulk::connect(guest_address()).ok();
        connection.is_some()
    })?;
    Ok((vm, connection.context("it is there")?))
}

/// Carries bytes each way over one connection.
pub(super) fn carry(machine: Machine) -> Result<Throughput> {
    let (vm, mut connection) = boot(machine)?;
    let mut timed = || -> Result<Throughput> {
        let rate = |time: Duration| mib_per_second(BYTES, time);
        connection.give(WARM_UP)?;
        let sends = rate(connection.give(BYTES)?);
        connection.take(WARM_UP)?;
        Ok(Throughput { sends, receives: rate(connection.take(BYTES)?) })
    };
    timed().with_context(|| vm.console())
}

/// Instructions that our kernel takes for a KiB, each way; `words` are further ones for it. They are counted as for a
/// request ([`super::instructions`]).
pub(super) fn instructions_per_kib(words: &str) -> Result<Throughput> {
    let mut machine = machine(System::Unikernel, &format!("trace=time {words}"))?;
    machine.accelerator = Accelerator::Tcg;
    machine.extra.extend(["-icount", "shift=0,sleep=on"].map(str::to_owned));
    let (_vm, mut connection) = boot(machine)?;
    let mut cost = |carry: fn(&mut Bulk, usize) -> Result<Duration>| -> Result<f64> {
        carry(&mut connection, WARM_UP)?;
        let before = connection.metric("unikernel_kernel_nanoseconds_total")?;
        carry(&mut connection, BYTES)?;
        let spent = connection.metric("unikernel_kernel_nanoseconds_total")? - before;
        Ok(spent as f64 * 1024.0 / BYTES as f64)
    };
    Ok(Throughput { sends: cost(Bulk::give)?, receives: cost(Bulk::take)? })
}

/// Ours against Linux's, as ratios: ours at its best against Linux with a segmenting card or without.
pub(super) fn ratio(
    results: &[BulkResult],
    linux_has_tso: bool,
    figure: fn(&Throughput) -> f64,
) -> Option<f64> {
    let of = |system, has_tso| {
        let found = results.iter().find(|result| result.system == system && result.has_tso == has_tso);
        found.map(|result| figure(&result.throughput))
    };
    Some(of(System::Unikernel, true)? / of(System::Linux, linux_has_tso)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_our_best_against_either_of_linux() {
        let result = |system, has_tso, sends| BulkResult {
            system,
            has_tso,
            throughput: Throughput { sends, receives: 1.0 },
        };
        let (ours, linux) = (System::Unikernel, System::Linux);
        let results = [
            result(ours, true, 8.0),
            result(ours, false, 5.0),
            result(linux, true, 4.0),
            result(linux, false, 2.0),
        ];
        assert_eq!(ratio(&results, true, |one| one.sends), Some(2.0));
        assert_eq!(ratio(&results, false, |one| one.sends), Some(4.0));
        assert_eq!(ratio(&results[..3], false, |one| one.sends), None);
    }
}
