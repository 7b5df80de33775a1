//! Outcomes, what follows from them, and the file that keeps a suite's from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::source;
use super::suites::Suite;

/// How one test ended in one place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Passed,
    /// By its authors.
    Ignored,
    /// Not run: it cannot apply, for this reason.
    Excused(String),
    /// With what the output says.
    Failed(String),
}

/// One test.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) linux: Outcome,
    /// `None` if there was no reason to boot it.
    pub(super) guest: Option<Outcome>,
    /// What the guest's first attempt said, if it took a second.
    #[serde(default)]
    pub(super) first_failure: Option<String>,
}

/// What a test says about the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Passed,
    Failed(String),
    NotApplicable(String),
}

/// A suite's results, by `program::test`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    /// Of the suite.
    pub(super) version: String,
    pub(super) cpus: u32,
    pub(super) tests: BTreeMap<String, Entry>,
    /// Programs that do not compile, or do not come to their end on Linux.
    pub(super) broken: BTreeMap<String, String>,
}

impl Results {
    /// What earlier runs found, if it was the same version.
    pub(super) fn load(suite: &Suite) -> Result<Self> {
        let text = fs::read_to_string(path(suite)?).unwrap_or_default();
        let results: Self = serde_json::from_str(&text).unwrap_or_default();
        Ok(if results.version == suite.version { results } else { Self::default() })
    }

    /// True if there are results of a program's tests, or of the program as one test.
    pub(super) fn has_tests_of(&self, program: &str) -> bool {
        let is_of_it = |test: &String| {
            test.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.tests.keys().any(is_of_it)
    }

    /// Keeps them for later runs and the report.
    pub(super) fn save(&self, suite: &Suite) -> Result<()> {
        let path = path(suite)?;
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn path(suite: &Suite) -> Result<PathBuf> {
    let folder = source::work_dir()?.join("results");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}.json", suite.name)))
}

impl Entry {
    /// What follows. The data's word comes first: an excuse is the same on every host.
    pub(super) fn verdict(&self, suite: &Suite, test: &str) -> Verdict {
        if let Some(reason) = suite.excuse(test) {
            return Verdict::NotApplicable(reason.to_owned());
        }
        match (&self.linux, &self.guest) {
            (Outcome::Excused(reason), _) => Verdict::NotApplicable(reason.clone()),
            (Outcome::Ignored, _) => Verdict::NotApplicable("ignored by its authors".into()),
            (Outcome::Failed(_), _) => Verdict::NotApplicable("fails on Linux too".into()),
            (Outcome::Passed, Some(Outcome::Passed)) => Verdict::Passed,
            (Outcome::Passed, Some(Outcome::Failed(reason))) => Verdict::Failed(reason.clone()),
            (Outcome::Passed, Some(Outcome::Ignored | Outcome::Excused(_))) => {
                Verdict::Failed("ignored when booted".into())
            }
            (Outcome::Passed, None) => Verdict::Failed("not run".into()),
        }
    }
}
