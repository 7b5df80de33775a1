//! `layers`: fails if a room of the kernel uses one of a layer above, or if `docs/architecture.md` shows other layers.
//! References that point up and are older than this check stand in `unikernel/kernel/upward.txt`, which only gets shorter:
//! `layers --write` leaves out of it what is gone, and adds nothing.

mod references;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use references::{self as layers, References};

const HEAD: &str = "\
# References to a layer above (docs/architecture.md, \"Layers\") from before there was a check. `make lint` takes
# no new one, and wants those gone from here that are gone from the sources: `make doc` does that.
";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found =
        layers::references(&root.join("unikernel/kernel/src")).expect("the kernel's sources are there");
    let list_path = root.join("unikernel/kernel/upward.txt");
    let known = layers::read(&fs::read_to_string(&list_path).unwrap_or_default());
    let upward = layers::upward(&found);
    let (new, gone) = (layers::without(&upward, &known), layers::without(&known, &upward));
    if std::env::args().any(|argument| argument == "--write") {
        let left = layers::without(&known, &gone);
        fs::write(&list_path, format!("{HEAD}{}", layers::write(&left))).expect("the list is writable");
        return ExitCode::SUCCESS;
    }
    let mut is_right = true;
    let mut complain = |references: &References, what: &str| {
        if !references.is_empty() {
            eprint!("{what}:\n{}", layers::write(references));
            is_right = false;
        }
    };
    complain(&new, "these files of unikernel/kernel/src use a layer above their own (docs/architecture.md)");
    complain(&gone, "unikernel/kernel/upward.txt names what is gone: run `make doc`");
    for room in layers::homeless(&found) {
        eprintln!("`{room}` belongs to no layer: give it one in unikernel/build/src/layers.rs");
        is_right = false;
    }
    let page = fs::read_to_string(root.join("docs/architecture.md")).expect("the page is there");
    if !page.contains(&layers::table()) {
        eprintln!(
            "docs/architecture.md shows other layers than unikernel/build/src/layers.rs:\n{}",
            layers::table()
        );
        is_right = false;
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
