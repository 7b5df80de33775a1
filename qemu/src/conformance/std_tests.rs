//! The standard library's own tests: copied from the toolchain beside a package that compiles them
//! (`qemu/conformance/std`), against the very library that programs are linked with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::source;
use super::suites::Toolchain;
use crate::project;

/// The package, as it lies in this repository.
const PACKAGE: &str = "qemu/conformance/std";

/// Makes the package in a folder, unless it is there.
pub(super) fn copy(toolchain: &Toolchain, folder: &Path) -> Result<()> {
    if folder.join("Cargo.toml").exists() {
        return Ok(());
    }
    let library = library()?;
    for part in &toolchain.parts {
        copy_all(&library.join(part), &folder.join(part))?;
    }
    for test in toolchain.cut.keys() {
        let (file, name) = test.split_once(": ").with_context(|| format!("`{test}` is not `file: name`"))?;
        let path = folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, without(&text, name).with_context(|| format!("no test {name} in {file}"))?)?;
    }
    // The manifest last: it says that all is there.
    for name in ["lib.rs", "sync.rs", "unit.rs", "Cargo.toml"] {
        fs::copy(project::root().join(PACKAGE).join(name), folder.join(name))?;
    }
    Ok(())
}

/// Where the toolchain has the sources of `std`.
fn library() -> Result<PathBuf> {
    let library = source::rustlib()?.join("src/rust/library/std");
    if !library.exists() {
        bail!("the sources of std are missing: `rustup component add rust-src`");
    }
    Ok(library)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(from, to)?;
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The text without a function at its top level, and what is written above that.
fn without(text: &str, function: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let head = lines.iter().position(|line| line.starts_with(&format!("fn {function}(")))?;
    let is_above = |line: &&&str| line.starts_with("#[") || line.starts_with("//");
    let first = head - lines[..head].iter().rev().take_while(is_above).count();
    let end = head + lines[head..].iter().position(|&line| line == "}")?;
    Some(lines[..first].iter().chain(&lines[end + 1..]).flat_map(|line| [*line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_goes_with_its_attributes() {
        let text = "use a;\n\n#[test]\nfn one() {\n    if x {\n    }\n}\n\n#[test]\nfn two() {\n}\n";
        assert_eq!(without(text, "one").unwrap(), "use a;\n\n\n#[test]\nfn two() {\n}\n");
        assert_eq!(without(text, "three"), None);
    }
}
