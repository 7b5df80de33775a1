//! What the machine does beside running the app: its configuration at boot, its clock, its log, its end.

mod config_tests;
mod stop_tests;
mod syslog_tests;
mod time_tests;

use super::app::Machine;

fn machine(command_line: &str) -> Machine {
    Machine { command_line: command_line.into(), ..Machine::default() }
}
