//! Makes docs/coverage.md of what `llvm-cov export -format=lcov` has counted (`make coverage`): `coverage-table FILE CRATE ...`.

#![forbid(unsafe_code)]

mod sources;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sources::TestCode;

/// Files named for each crate: those with the most lines that no test runs.
const NAMED_FILES: usize = 3;

/// Lines with code, and those that some test has run.
#[derive(Clone, Copy, Default)]
struct Lines {
    all: usize,
    run: usize,
}

impl Lines {
    fn percent(self) -> f64 {
        100.0 * self.run as f64 / self.all.max(1) as f64
    }

    fn missed(self) -> usize {
        self.all - self.run
    }
}

fn main() -> ExitCode {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there");
    let path = std::env::args().nth(1).unwrap_or_default();
    let Ok(counts) = std::fs::read_to_string(&path) else {
        eprintln!("coverage-table: `{path}` cannot be read: `make coverage` makes it");
        return ExitCode::FAILURE;
    };
    let homes: Vec<String> = std::env::args().skip(2).map(|name| home_of(&name)).collect();
    let mut crates = by_crate(&root, &counts);
    crates.retain(|home, _| homes.contains(home));
    let page = page(&crates);
    let place = root.join("docs/coverage.md");
    if let Err(error) = std::fs::write(&place, page) {
        eprintln!("coverage-table: {}: {error}", place.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The folder of a crate.
fn home_of(name: &str) -> String {
    name.strip_prefix("unikernel-").map_or_else(|| name.to_string(), |name| format!("unikernel/{name}"))
}

/// The lines of each file, by crate; without those of tests.
fn by_crate(root: &Path, counts: &str) -> BTreeMap<String, BTreeMap<PathBuf, Lines>> {
    let mut crates: BTreeMap<String, BTreeMap<PathBuf, Lines>> = BTreeMap::new();
    let mut tests: BTreeMap<PathBuf, TestCode> = BTreeMap::new();
    for record in counts.split("end_of_record") {
        let Some(file) = record.lines().find_map(|line| line.strip_prefix("SF:")) else { continue };
        let Ok(file) = Path::new(file).strip_prefix(root) else { continue };
        let Some((home, _)) = file.to_str().and_then(|file| file.split_once("/src/")) else { continue };
        let code = tests.entry(home.into()).or_insert_with(|| TestCode::of(&root.join(home).join("src")));
        let Some(end) = code.first_line(&root.join(file)) else { continue };
        let counted = record.lines().filter_map(|line| line.strip_prefix("DA:")?.split_once(','));
        let mut lines = Lines::default();
        for (number, count) in counted {
            if number.parse().is_ok_and(|number: usize| number < end) {
                lines.all += 1;
                lines.run += usize::from(count != "0");
            }
        }
        crates.entry(home.to_string()).or_default().insert(file.into(), lines);
    }
    crates
}

fn page(crates: &BTreeMap<String, BTreeMap<PathBuf, Lines>>) -> String {
    let mut page = String::from(
        "# Coverage\n\n\
         Lines of code that the tests on the host run, the fuzzers' corpus included, by folder; lines of tests do not count. Made by `make coverage`, which is\n\
         not part of `make test`: the figures are those of the last time that somebody ran it, for the crates that the Makefile names.\n\n\
         | folder | lines | run | % | most lines that no test runs |\n|---|--:|--:|--:|---|\n",
    );
    let mut total = Lines::default();
    for (home, files) in crates {
        let sum = |field: fn(&Lines) -> usize| files.values().map(field).sum();
        let lines = Lines { all: sum(|lines| lines.all), run: sum(|lines| lines.run) };
        (total.all, total.run) = (total.all + lines.all, total.run + lines.run);
        let mut worst: Vec<(&PathBuf, &Lines)> =
            files.iter().filter(|(_, lines)| lines.missed() > 0).collect();
        worst.sort_by_key(|(_, lines)| std::cmp::Reverse(lines.missed()));
        let worst: Vec<String> = worst
            .iter()
            .take(NAMED_FILES)
            .map(|(file, lines)| {
                let name = file.strip_prefix(Path::new(home).join("src")).unwrap_or(file).display();
                format!("`{name}` ({})", lines.missed())
            })
            .collect();
        row(&mut page, &format!("`{home}`"), lines, &worst.join(", "));
    }
    row(&mut page, "all", total, "");
    page
}

fn row(page: &mut String, name: &str, lines: Lines, worst: &str) {
    let percent = lines.percent();
    writeln!(page, "| {name} | {} | {} | {percent:.1} | {worst} |", lines.all, lines.run)
        .expect("a string takes all");
}
