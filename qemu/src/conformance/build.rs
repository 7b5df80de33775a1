//! Test programs: built by cargo as plain static programs, then linked once more with the kernel.
//!
//! In two steps, so that a change of the kernel costs a link of each and no compilation.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::source::{self, Source, cargo};
use super::suites::Suite;
use crate::project;

/// The unit tests' program.
pub(super) const UNIT_TESTS: &str = "lib";

/// A test program.
pub(super) struct Program {
    /// The name of the test target, or [`UNIT_TESTS`].
    pub(super) name: String,
    /// The one ELF for both.
    pub(super) image: PathBuf,
}

/// What came out of a build.
pub(super) struct Built {
    pub(super) programs: Vec<Program>,
    /// Programs that do not compile, with the compiler's first complaint.
    pub(super) broken: BTreeMap<String, String>,
}

/// A line of cargo's JSON.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
    message: Option<Diagnostic>,
    package_id: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
}

/// Compiles a suite and makes its images.
pub(super) fn build(suite: &Suite, source: &Source, kernel_profile: &str) -> Result<Built> {
    let (executables, broken) = compile(suite, source)?;
    let folder = source::work_dir()?.join("images").join(&suite.name);
    fs::create_dir_all(&folder)?;
    let programs: Vec<Program> =
        executables.keys().map(|name| Program { name: name.clone(), image: folder.join(name) }).collect();
    let links = programs.iter().map(|program| {
        let mut record = executables[&program.name].clone().into_os_string();
        record.push(".link");
        (PathBuf::from(record), program.image.clone())
    });
    link(&links.collect::<Vec<_>>(), kernel_profile)?;
    Ok(Built { programs, broken })
}

fn compile(suite: &Suite, source: &Source) -> Result<(BTreeMap<String, PathBuf>, BTreeMap<String, String>)> {
    let mut command = cargo();
    command.current_dir(&source.package).args([
        "test",
        "--no-run",
        "--no-fail-fast",
        "--message-format=json",
    ]);
    command.args(["--target", suite.target(), "--target-dir"]).arg(source::work_dir()?.join("build"));
    if !suite.default_features {
        command.arg("--no-default-features");
    }
    if !suite.features.is_empty() {
        command.args(["--features", &suite.features.join(",")]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    let (mut executables, mut broken) = (BTreeMap::new(), BTreeMap::new());
    let text = String::from_utf8_lossy(&output.stdout);
    for message in text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
        let is_ours =
            message.package_id.as_ref().is_some_and(|id| id.contains(&source.package.display().to_string()));
        let Some(target) = message.target.filter(|_| is_ours) else { continue };
        let is_kind = |wanted: &str| target.kind.iter().any(|kind| kind == wanted);
        let name = match () {
            () if is_kind("test") => target.name,
            // Examples and benchmarks are not tests.
            () if is_kind("example") || is_kind("bench") || is_kind("bin") => continue,
            () => UNIT_TESTS.to_owned(),
        };
        match (message.reason.as_str(), message.executable, message.message) {
            ("compiler-artifact", Some(executable), _) => {
                executables.insert(name, executable);
            }
            ("compiler-message", _, Some(diagnostic)) if diagnostic.level == "error" => {
                broken.entry(name).or_insert(diagnostic.message);
            }
            _ => {}
        }
    }
    executables.retain(|name: &String, _| suite.takes(name));
    broken.retain(|name, _| suite.takes(name) && !executables.contains_key(name));
    ensure!(!executables.is_empty(), "no test program of {} was built", suite.name);
    Ok((executables, broken))
}

/// Links the kernel in, by the build crate's program.
fn link(links: &[(PathBuf, PathBuf)], kernel_profile: &str) -> Result<()> {
    let tool = ["run", "--quiet", "--release", "-p", "unikernel-build", "--bin", "link-image", "--"];
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(project::root())
        .args(tool)
        .arg(source::work_dir()?.join("kernel"))
        .arg(kernel_profile)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run cargo")?;
    let mut input = child.stdin.take().context("the input is piped")?;
    for (record, image) in links {
        writeln!(input, "{} {}", record.display(), image.display())?;
    }
    drop(input);
    ensure!(child.wait()?.success(), "the images cannot be linked; the messages are above");
    Ok(())
}

/// True if the suite's files are worth an archive for the guest: all but what cargo made.
pub(super) fn belongs_to_suite(path: &Path) -> bool {
    !path.ends_with("target") && !path.ends_with("Cargo.toml.published")
}
