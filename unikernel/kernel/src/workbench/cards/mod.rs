//! The network over a card: the real driver, a simulated card, and a host at the other end of the cable.

mod address_tests;
mod capture_tests;
mod frames;
mod lan;
mod lies_tests;
mod limits_tests;
mod observe_tests;
mod queues_tests;
mod traffic_tests;

use alloc::string::String;

use lan::Lan;
use unikernel_hal::sim::card::Card;

use super::app::Machine;
use super::files;

/// The machine's address, and its card's.
const OWN: [u8; 4] = [10, 0, 2, 15];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
/// What gives it the address.
const STATIC: &str = "ip=10.0.2.15/24 gw=10.0.2.2 slaac=off";

/// Boots a machine with a card and a host at its other end, and runs the app, which has the host.
#[track_caller]
fn run(machine: Machine, card: Card, app: impl FnOnce(Lan) + 'static) -> String {
    run_with(machine, move |lan| lan.plug_in(card), app)
}

/// The same with devices that `plug_in` plugs in.
#[track_caller]
fn run_with(machine: Machine, plug_in: impl FnOnce(&Lan), app: impl FnOnce(Lan) + 'static) -> String {
    let seed = machine.seed;
    let lan = Lan::new();
    let same = lan.clone();
    let outcome = machine.run_with(
        || plug_in(&lan),
        || {
            app(same);
            0
        },
    );
    assert_eq!(outcome.code, Some(0), "seed {seed}: {}", outcome.console);
    outcome.console
}

/// A machine with these words on its command line.
fn machine(words: &str) -> Machine {
    Machine { command_line: words.into(), ..Machine::default() }
}

/// A file that is a text.
fn text_of(path: &str) -> String {
    String::from_utf8(files::read_file(path)).expect("a text")
}

/// The value of a metric.
pub(super) fn metric(name: &str) -> u64 {
    let text = text_of("/proc/unikernel/metrics");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("unikernel_")?.split_once(' '));
    let (_, value) = lines.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("{name} in {text}"));
    value.parse().expect("a number")
}
