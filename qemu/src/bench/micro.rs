//! Threads and system calls: the app `micro`, booted on both systems in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Pair;
use super::measure::{System, machine_for, median};
use crate::machine::Kind;
use crate::vm::{Console, Vm};

/// One run takes a few seconds; Linux under an emulator, some more.
const TIME_OUT: Duration = Duration::from_secs(120);

/// Rounds at least: a shared host is slow for seconds at a time, longer than `micro` takes for a figure.
pub(super) const ROUNDS: usize = 5;

/// What `micro` printed, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Both systems on so many processors.
#[derive(Serialize)]
pub(crate) struct MicroResult {
    pub(crate) cpus: u32,
    #[serde(flatten)]
    pub(crate) figures: Pair<Figures>,
}

/// Runs `micro` once.
pub(super) fn run(system: System, cpus: u32) -> Result<Figures> {
    let mut machine = machine_for(system, "micro", Kind::Q35)?;
    machine.cpus = cpus;
    let vm = Vm::start(&machine, Console::Recorded)?;
    vm.wait_until(TIME_OUT, || vm.console().contains("micro done"))?;
    let figures = parse(&vm.console());
    ensure!(figures.contains_key("done"), "`micro` on {system} did not end: {}", vm.console());
    Ok(figures)
}

/// The figures among a console's lines.
pub(super) fn parse(console: &str) -> Figures {
    let figure = |line: &str| {
        let mut words = line.trim().strip_prefix("micro ")?.split(' ');
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    console.lines().filter_map(figure).collect()
}

/// The median of each figure.
pub(super) fn medians(rounds: &[Figures]) -> Option<Figures> {
    of_rounds(rounds, |_, figures| median(figures))
}

/// The best of each time, as `micro` itself takes the best of its rounds: what disturbs one only ever makes it slower.
/// The median of the others.
pub(super) fn best(rounds: &[Figures]) -> Option<Figures> {
    of_rounds(rounds, |name, figures| {
        if name.ends_with("_ns") { figures.into_iter().reduce(f64::min) } else { median(figures) }
    })
}

fn of_rounds(rounds: &[Figures], choose: impl Fn(&str, Vec<f64>) -> Option<f64>) -> Option<Figures> {
    let names = rounds.first()?.keys();
    let of =
        |name: &String| choose(name, rounds.iter().filter_map(|round| round.get(name).copied()).collect());
    Some(names.filter_map(|name| Some((name.clone(), of(name)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let figures = parse("[ 0.1] INFO x\nmicro null_syscall_ns 141.5\r\nmicro\nmicro done 1.0\n");
        assert_eq!(figures.get("null_syscall_ns"), Some(&141.5));
        assert_eq!(figures.len(), 2);
    }

    #[test]
    fn of_times_the_best_counts_and_of_others_the_median() {
        let round = |ns, ratio| Figures::from([("a_ns".into(), ns), ("ratio".into(), ratio)]);
        let rounds = [round(3.0, 1.0), round(2.0, 9.0), round(9.0, 2.0)];
        assert_eq!(best(&rounds), Some(round(2.0, 2.0)));
        assert_eq!(medians(&rounds), Some(round(3.0, 2.0)));
    }
}
