//! libFuzzer over one target of the table, named by the variable `FUZZ_TARGET`; `run.sh` builds and runs it. `list` names all
//! targets and the lengths of their inputs.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use unikernel_fuzz::{TARGETS, Target, find};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if let Some(target) = find(&name) {
        return target;
    }
    TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.max_bytes));
    std::process::exit(i32::from(name != "list"))
}

fuzz_target!(
    init: {
        TARGET.get_or_init(chosen);
    },
    |data: &[u8]| {
        (TARGET.get_or_init(chosen).run)(data);
    }
);
