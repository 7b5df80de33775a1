//! `check-image FILE...`: fails if an image breaks a rule of `unikernel_build::image_check`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut has_faults = false;
    for path in std::env::args().skip(1) {
        let faults = match std::fs::read(&path) {
            Ok(file) => unikernel_build::image_check::check(&file).iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        for fault in &faults {
            eprintln!("{path}: {fault}");
        }
        has_faults |= !faults.is_empty();
        if faults.is_empty() {
            println!("{path}: permissions are exact, kernel and app share no page");
        }
    }
    if has_faults { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
