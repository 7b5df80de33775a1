//! `layers`: fails if a room of the kernel uses one of a layer above, if rooms use each other in a circle, or if `docs/architecture.md` or `docs/layers.svg` shows
//! other layers, or a crate of the workspace does not forbid `unsafe` code that should. `layers --draw` draws the picture anew.

#![forbid(unsafe_code)]

mod picture;
mod references;
mod unsafe_code;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let drawn = root.join("docs/layers.svg");
    if std::env::args().nth(1).as_deref() == Some("--draw") {
        fs::write(drawn, picture::picture()).expect("the picture can be written");
        return ExitCode::SUCCESS;
    }
    let found =
        references::references(&root.join("unikernel/kernel/src")).expect("the kernel's sources are there");
    let mut is_right = true;
    let upward = references::upward(&found);
    if !upward.is_empty() {
        eprintln!("these files of unikernel/kernel/src use a layer above their own (docs/architecture.md):");
        eprint!("{}", references::write(&upward));
        is_right = false;
    }
    if let Some(circle) = references::circle(&found) {
        eprintln!("these rooms of unikernel/kernel/src use each other in a circle: {}", circle.join(" -> "));
        is_right = false;
    }
    for room in references::homeless(&found) {
        eprintln!(
            "`{room}` belongs to no layer: give it one in unikernel/build/src/bin/layers/references.rs"
        );
        is_right = false;
    }
    for source in unsafe_code::check(&root).expect("the sources of all crates are there") {
        eprintln!("{source}: expected `#![forbid(unsafe_code)]`, or no `unsafe` in an app (CONTRIBUTING.md)");
        is_right = false;
    }
    let page = fs::read_to_string(root.join("docs/architecture.md")).expect("the page is there");
    if !page.contains(&references::table()) {
        eprintln!(
            "docs/architecture.md shows other layers than unikernel/build/src/bin/layers/references.rs:\n{}",
            references::table()
        );
        is_right = false;
    }
    for room in references::LAYERS.iter().flat_map(|layer| layer.rooms) {
        if !page.contains(&format!("\n| `{room}/` | ")) {
            eprintln!("docs/architecture.md does not say what belongs into `{room}/`");
            is_right = false;
        }
    }
    if !fs::read_to_string(drawn).is_ok_and(|drawn| drawn == picture::picture()) {
        eprintln!("docs/layers.svg shows other layers: run `make doc`");
        is_right = false;
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
