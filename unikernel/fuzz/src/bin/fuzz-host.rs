//! libFuzzer over one target of the table, named by the variable `FUZZ_TARGET`; `run.sh` builds and runs it. `list` names all
//! targets and the lengths of their inputs.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use unikernel_fuzz::{TARGETS, Target, find};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

// Where the counters are that libFuzzer looks at. The linker knows; the names are the instrumentation's own, so that a declaration of them
// here would be renamed.
core::arch::global_asm!(
    ".section .data.rel.ro.counters, \"aw\"",
    ".global fuzz_counters",
    "fuzz_counters: .quad __start___sancov_cntrs, __stop___sancov_cntrs",
    ".text",
);

unsafe extern "C" {
    safe static fuzz_counters: [usize; 2];
}

/// What runs on simulated machines counts, too: a machine is a child.
fn mirror_counters() {
    let [start, end] = fuzz_counters;
    let counters = core::ptr::with_exposed_provenance_mut(start);
    // SAFETY: counters, which are bytes of any value and approximate; libFuzzer looks at them between two inputs.
    unsafe { unikernel_hal::sim::machine::mirror(counters, end - start) };
}

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
        mirror_counters();
        TARGET.get_or_init(chosen);
    },
    |data: &[u8]| {
        (TARGET.get_or_init(chosen).run)(data);
    }
);
