//! `link-program ARGS`: links a program with the kernel, with the arguments that a C compiler gave `ld`. The build
//! script of a package calls it (`src/shim.rs`).

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match unikernel_build::link_program(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("unikernel: {failure}");
            ExitCode::FAILURE
        }
    }
}
