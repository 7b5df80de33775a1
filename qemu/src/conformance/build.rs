//! Test programs: built by cargo as plain static programs, then linked once more with the kernel.
//!
//! In two steps, so that a change of the kernel costs a link of each and no compilation.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::c_programs;
use super::source::{self, Source};
use super::suites::Suite;
use crate::messages::Message;
use crate::project::{self, cargo};

/// The unit tests' program.
pub(super) const UNIT_TESTS: &str = "lib";

/// A test program.
pub(super) struct Program {
    /// The name of the test target, or [`UNIT_TESTS`].
    pub(super) name: String,
    /// How it was linked without the kernel.
    record: PathBuf,
    /// The one ELF for both.
    pub(super) image: PathBuf,
}

/// What came out of a build.
pub(super) struct Built {
    pub(super) programs: Vec<Program>,
    /// Programs that do not compile, with the compiler's first complaint.
    pub(super) broken: BTreeMap<String, String>,
}

/// Where `qemu/conformance/lld` records the link of an executable.
pub(super) fn record_of(executable: &Path) -> PathBuf {
    let mut record = executable.to_owned().into_os_string();
    record.push(".link");
    record.into()
}

/// Compiles a suite; of one in C, where each test is a program, those that are wanted.
pub(super) fn build(suite: &Suite, source: &Source, is_wanted: &dyn Fn(&str) -> bool) -> Result<Built> {
    let (executables, broken) = match &suite.c {
        Some(sources) => c_programs::compile(suite, sources, source, is_wanted)?,
        None => compile(suite, source)?,
    };
    ensure!(suite.c.is_some() || !executables.is_empty(), "no test program of {} was built", suite.name);
    let folder = source::work_dir()?.join("images").join(&suite.name);
    let program = |(name, executable): (String, PathBuf)| Program {
        image: folder.join(&name),
        name,
        record: record_of(&executable),
    };
    Ok(Built { programs: executables.into_iter().map(program).collect(), broken })
}

fn compile(suite: &Suite, source: &Source) -> Result<(BTreeMap<String, PathBuf>, BTreeMap<String, String>)> {
    let mut command = cargo();
    let is_binary = !suite.filters.is_empty();
    let verb: &[&str] = if is_binary { &["build"] } else { &["test", "--no-run", "--no-fail-fast"] };
    command.current_dir(&source.package).args(verb).arg("--message-format=json").envs(source::PROFILE);
    if suite.toolchain.is_some() {
        // The standard library's tests are of unstable parts, too.
        command.env("RUSTC_BOOTSTRAP", "1");
    }
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
    for message in text.lines().filter_map(Message::parse) {
        let is_ours =
            message.package_id.as_ref().is_some_and(|id| id.contains(&source.package.display().to_string()));
        let Some(target) = message.target.filter(|_| is_ours) else { continue };
        let name = match () {
            () if target.is("test") => target.name,
            () if target.is("bin") && is_binary => target.name,
            // Examples and benchmarks are not tests.
            () if target.is("example") || target.is("bench") || target.is("bin") => continue,
            () => UNIT_TESTS.to_owned(),
        };
        match (message.reason.as_str(), message.executable, message.message) {
            ("compiler-artifact", Some(executable), _) => {
                let executable = if is_binary { as_linked(&executable)? } else { executable };
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
    Ok((executables, broken))
}

/// A binary where it was linked, beside the record of that: cargo names another link to it, without the hash.
fn as_linked(binary: &Path) -> Result<PathBuf> {
    let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino());
    let wanted = inode(binary)?;
    let folder = binary.parent().context("a binary is in a folder")?.join("deps");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if inode(&path)? == wanted {
            return Ok(path);
        }
    }
    bail!("{} was linked nowhere", binary.display())
}

/// Links the kernel in, by the build crate's program: makes the images.
pub(super) fn link(programs: &[&Program], kernel_profile: &str) -> Result<()> {
    let tool = ["run", "--quiet", "--release", "-p", "unikernel-build", "--bin", "link-image", "--"];
    let mut child = cargo()
        .current_dir(project::root())
        .args(tool)
        .arg(source::work_dir()?.join("kernel"))
        .arg(kernel_profile)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run cargo")?;
    let mut input = child.stdin.take().context("the input is piped")?;
    for program in programs {
        fs::create_dir_all(program.image.parent().context("an image is in a folder")?)?;
        writeln!(input, "{} {}", program.record.display(), program.image.display())?;
    }
    drop(input);
    ensure!(child.wait()?.success(), "the images cannot be linked; the messages are above");
    Ok(())
}

/// True if the suite's files are worth an archive for the guest: all but what git, cargo and C compilers need.
pub(super) fn belongs_to_suite(path: &Path) -> bool {
    let is_for_c = path.extension().is_some_and(|extension| extension == "c" || extension == "h");
    !is_for_c && !["target", "Cargo.toml.published", ".git"].iter().any(|name| path.ends_with(name))
}
