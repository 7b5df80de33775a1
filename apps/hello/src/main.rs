//! The smallest appliance: an ordinary `std` program. It greets, shows what it was given, and ends
//! with the exit code it was asked for: `hello [--exit CODE] [anything else]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("Hello from {}!", if is_process() { "a Linux process" } else { "ring 3 of an appliance" });
    let mut code = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--exit" {
            let Some(wanted) = arguments.next().and_then(|code| code.parse().ok()) else {
                eprintln!("hello: --exit needs a code from 0 to 255");
                return ExitCode::from(2);
            };
            code = wanted;
        } else {
            println!("argument: {argument}");
        }
    }
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("HELLO")) {
        println!("environment: {name}={value}");
    }
    ExitCode::from(code)
}

/// On Linux, somebody else was there first; in an appliance the program is process 1 and the kernel
/// names itself.
fn is_process() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| !release.contains("unikernel"))
}
