//! `check-image FILE...`: fails if an image breaks a rule of `unikernel_build::image_check`, or a function of its kernel takes
//! too much of a stack (`unikernel_build::frames`).

#![forbid(unsafe_code)]

use std::process::ExitCode;

use unikernel_build::{frames, image_check};

fn main() -> ExitCode {
    let mut has_faults = false;
    for path in std::env::args().skip(1) {
        let faults = match std::fs::read(&path) {
            Ok(file) => faults_of(&file),
            Err(error) => vec![error.to_string()],
        };
        for fault in &faults {
            eprintln!("{path}: {fault}");
        }
        has_faults |= !faults.is_empty();
        if faults.is_empty() {
            println!("{path}: permissions are exact, kernel and app share no page, frames are small");
        }
    }
    if has_faults { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn faults_of(file: &[u8]) -> Vec<String> {
    let mut faults: Vec<String> = image_check::check(file).iter().map(ToString::to_string).collect();
    match frames::check(file) {
        Ok(large) => faults.extend(large.iter().map(ToString::to_string)),
        Err(why) => faults.push(why),
    }
    faults
}
