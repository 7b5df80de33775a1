//! The data: which suites there are, how they are built, and which tests cannot apply to a machine without
//! processes, whatever the outcome. All of it is in `qemu/conformance/suites.toml`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::build::UNIT_TESTS;
use super::redis::RedisTests;
use crate::project;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    suite: Vec<Suite>,
}

/// One crate and its tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) version: String,
    /// Of the `.crate` file: the sources are the registry's.
    pub(super) sha256: Option<String>,
    /// Of a crate that is published without its tests: the sources are its authors'.
    pub(super) repository: Option<Repository>,
    /// Of the standard library's own tests: the sources are the toolchain's.
    pub(super) toolchain: Option<Toolchain>,
    /// Beside the default ones.
    #[serde(default)]
    pub(super) features: Vec<String>,
    #[serde(default = "yes")]
    pub(super) default_features: bool,
    /// Whether the unit tests in `src` belong to the suite.
    #[serde(default = "yes")]
    pub(super) unit_tests: bool,
    /// Programs that are not run, with the reason.
    #[serde(default)]
    pub(super) left_out: BTreeMap<String, String>,
    /// Whether the dependencies are those of the authors' lock file, where there is one.
    #[serde(default = "yes")]
    pub(super) keeps_lock: bool,
    /// Dependencies for tests that the registry's manifest lacks or has wrong: (name, requirement).
    #[serde(default)]
    pub(super) dev_dependencies: BTreeMap<String, toml::Value>,
    /// Which C library the programs are linked with.
    #[serde(default)]
    pub(super) c_library: CLibrary,
    /// How long one test may take, on Linux and booted.
    #[serde(default = "default_seconds")]
    pub(super) seconds: u64,
    #[serde(default = "default_memory")]
    pub(super) memory_mib: u64,
    /// At once in one process. The harness's own default is the number of processors.
    pub(super) threads: Option<u32>,
    /// For a binary with a harness of its own: the arguments that choose one of its tests each.
    #[serde(default)]
    pub(super) filters: Vec<String>,
    /// Whether the programs run as nobody on Linux, where they would set its clock or take its processors otherwise.
    #[serde(default)]
    pub(super) as_nobody: bool,
    /// A suite of C programs, not of Rust ones.
    pub(super) c: Option<CSources>,
    /// Redis' own suite, of a server by its clients.
    pub(super) redis: Option<RedisTests>,
    #[serde(default)]
    pub(super) excuse: Vec<Excuse>,
}

/// C programs: each source file is one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CSources {
    /// The programs' files, where `*` stands for any text.
    pub(super) programs: Vec<String>,
    /// Files that each of them is compiled with.
    #[serde(default)]
    pub(super) common: Vec<String>,
    /// Folders of headers.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// For the compiler and the linker.
    pub(super) flags: Vec<String>,
    /// Tests that cannot apply, by what they call.
    #[serde(default)]
    pub(super) excuse: Vec<CallExcuse>,
}

/// What a program that cannot apply calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallExcuse {
    /// Functions that the source calls.
    pub(super) calls: Vec<String>,
    pub(super) reason: String,
}

/// A commit of a git repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    pub(super) url: String,
    pub(super) commit: String,
    /// Where in it the package is.
    #[serde(default)]
    pub(super) folder: String,
}

/// Tests of the standard library, from the toolchain's component `rust-src`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Toolchain {
    /// What of `library/std` is taken.
    pub(super) parts: Vec<String>,
    /// Test functions that are cut out, as `file: name`, with the reason.
    pub(super) cut: BTreeMap<String, String>,
}

/// The C libraries that a static program may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CLibrary {
    #[default]
    Musl,
    Gnu,
}

/// Tests that cannot apply.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Excuse {
    /// `program::test`, where `*` stands for any text.
    pub(super) tests: Vec<String>,
    pub(super) reason: String,
}

fn yes() -> bool {
    true
}

fn default_seconds() -> u64 {
    60
}

fn default_memory() -> u64 {
    512
}

/// The suites of these names, or all.
pub(super) fn load(names: &[String]) -> Result<Vec<Suite>> {
    let path = project::root().join("qemu/conformance/suites.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let mut suites = manifest.suite;
    for name in names {
        if !suites.iter().any(|suite| suite.name == *name) {
            let known: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
            bail!("no suite `{name}`; there are {}", known.join(", "));
        }
    }
    suites.retain(|suite| names.is_empty() || names.contains(&suite.name));
    ensure!(!suites.is_empty(), "{} names no suite", path.display());
    Ok(suites)
}

impl Suite {
    /// Folder name of the unpacked crate.
    pub(super) fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// The target that the programs are compiled for.
    pub(super) fn target(&self) -> &'static str {
        match self.c_library {
            CLibrary::Musl => project::TARGET,
            CLibrary::Gnu => project::GNU_TARGET,
        }
    }

    /// True if a program belongs to the suite.
    pub(super) fn takes(&self, program: &str) -> bool {
        !self.left_out.contains_key(program) && (program != UNIT_TESTS || self.unit_tests)
    }

    /// Why a test cannot apply, if the data says so.
    pub(super) fn excuse(&self, test: &str) -> Option<&str> {
        let applies = |excuse: &&Excuse| excuse.tests.iter().any(|pattern| matches(pattern, test));
        self.excuse.iter().find(applies).map(|excuse| excuse.reason.as_str())
    }
}

/// True if `text` is as the pattern says, in which `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let mut tails = rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]);
            tails.any(|tail| matches(after, tail))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_any_text() {
        assert!(matches("process::*", "process::kill"));
        assert!(matches("*::fork", "a::b::fork"));
        assert!(matches("a*c*e", "abcde") && matches("a*", "a"));
        assert!(!matches("a*c", "abcd") && !matches("a", "ab"));
    }

    #[test]
    fn list_is_well_formed() {
        for suite in load(&[]).unwrap() {
            let hashes = [suite.sha256.map(|sum| (sum, 64)), suite.repository.map(|at| (at.commit, 40))];
            let hashes: Vec<_> = hashes.into_iter().flatten().collect();
            assert!(hashes.iter().all(|(hash, digits)| hash.len() == *digits), "{}", suite.name);
            assert_eq!(hashes.len() + usize::from(suite.toolchain.is_some()), 1, "{}", suite.name);
            assert!(suite.excuse.iter().all(|excuse| !excuse.tests.is_empty()), "{}", suite.name);
        }
    }
}
