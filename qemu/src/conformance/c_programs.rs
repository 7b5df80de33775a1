//! Suites of C programs: each source file is one test, compiled with the suite's common files, linked
//! statically with the GNU C library, and passed if it answers 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};

use super::build::record_of;
use super::share_out;
use super::source::{self, Source};
use super::suites::{CSources, CallExcuse, Suite, matches};
use crate::project;

/// As rustc is told for the other suites: the kernel is linked at a fixed place, and walks frames.
const FLAGS: [&str; 5] = ["-w", "-static", "-no-pie", "-fno-pie", "-fno-omit-frame-pointer"];

/// The tests of a suite by name, with their sources.
pub(super) fn tests(suite: &CSources, source: &Source) -> Result<BTreeMap<String, PathBuf>> {
    let tests = files(&source.package)?.into_iter().filter_map(|path| {
        let name = path.strip_prefix(&source.package).ok()?.to_str()?.to_owned();
        let is_test = suite.programs.iter().any(|pattern| matches(pattern, &name));
        Some((name.strip_suffix(".c").filter(|_| is_test)?.to_owned(), path))
    });
    Ok(tests.collect())
}

/// Why a test cannot apply, if its source says so.
pub(super) fn excuse<'a>(suite: &'a CSources, source: &Source, test: &str) -> Option<&'a str> {
    let text = fs::read(source.package.join(format!("{test}.c"))).ok()?;
    let text = String::from_utf8_lossy(&text);
    let calls = |words: &&CallExcuse| words.calls.iter().any(|call| has_call(&text, call));
    suite.excuse.iter().find(calls).map(|words| words.reason.as_str())
}

/// True if a text has a call of this function, or at least the look of one.
fn has_call(text: &str, function: &str) -> bool {
    let is_in_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(function).any(|(at, _)| {
        let after = text[at + function.len()..].trim_start();
        !text[..at].ends_with(is_in_name) && after.starts_with('(')
    })
}

/// Compiles the wanted tests that are not there yet: executables with the record of their link, and the complaints
/// about those that do not compile.
pub(super) fn compile(
    suite: &Suite,
    sources: &CSources,
    source: &Source,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<(BTreeMap<String, PathBuf>, BTreeMap<String, String>)> {
    let folder = source::work_dir()?.join("c-programs").join(suite.folder());
    let tests = tests(sources, source)?.into_iter().filter(|(name, _)| is_wanted(name));
    let tests: Vec<(String, PathBuf)> = tests.collect();
    let common: Vec<PathBuf> = sources.common.iter().map(|name| source.package.join(name)).collect();
    let broken = Mutex::new(BTreeMap::new());
    share_out(&tests, |(name, path)| {
        if let Some(complaint) = compile_one(sources, source, path, &common, &folder.join(name))? {
            broken.lock().expect("no worker panics with the list").insert(name.clone(), complaint);
        }
        Ok(())
    })?;
    let broken = broken.into_inner().unwrap_or_default();
    let names = tests.into_iter().map(|(name, _)| name).filter(|name| !broken.contains_key(name));
    let executables: BTreeMap<_, _> = names.map(|name| (name.clone(), folder.join(name))).collect();
    Ok((executables, broken))
}

/// Compiles one test; answers the compiler's first complaint if it does not compile.
fn compile_one(
    sources: &CSources,
    suite: &Source,
    path: &Path,
    common: &[PathBuf],
    executable: &Path,
) -> Result<Option<String>> {
    if executable.exists() && record_of(executable).exists() {
        return Ok(None);
    }
    let folder = executable.parent().context("an executable is in a folder")?;
    fs::create_dir_all(folder)?;
    // Objects first: the record of the link keeps what ends in `.o`.
    let objects = folder.join(format!(
        "{}.objects",
        executable.file_name().context("an executable has a name")?.to_string_lossy()
    ));
    fs::create_dir_all(&objects)?;
    let mut compiler = Command::new("cc");
    compiler.current_dir(&objects).arg("-c").args(FLAGS).args(&sources.flags);
    compiler.args(sources.include.iter().flat_map(|include| ["-I".into(), suite.package.join(include)]));
    let compiled = compiler.arg(path).args(common).output().context("cannot run cc")?;
    let complaint = |output: &[u8]| {
        let text = String::from_utf8_lossy(output).into_owned();
        text.lines().find(|line| line.contains("error") || line.contains("undefined")).map(str::to_owned)
    };
    if !compiled.status.success() {
        return Ok(Some(complaint(&compiled.stderr).unwrap_or_else(|| "it does not compile".into())));
    }
    let mut linker = Command::new(project::root().join("qemu/conformance/cc"));
    // The linker that rustc takes, too: it leaves the addresses free where the kernel goes.
    let tools = source::rustlib()?.join(project::GNU_TARGET).join("bin/gcc-ld");
    linker.arg(format!("-B{}", tools.display())).arg("-fuse-ld=lld");
    linker.arg("-o").arg(executable).args(files(&objects)?).args(FLAGS).args(&sources.flags);
    let linked = linker.output().context("cannot run the linker")?;
    fs::remove_dir_all(&objects)?;
    if !linked.status.success() {
        return Ok(Some(complaint(&linked.stderr).unwrap_or_else(|| "it does not link".into())));
    }
    Ok(None)
}

/// All files below a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut left } else { &mut found };
            list.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_a_whole_name_with_arguments() {
        assert!(has_call("pid = fork();", "fork") && has_call("if (fork ()) {", "fork"));
        assert!(!has_call("pthread_atfork(a, b, c); int fork;", "fork"));
    }
}
