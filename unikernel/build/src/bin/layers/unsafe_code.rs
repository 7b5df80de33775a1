//! Which crates may have `unsafe` code, and whether the others forbid it.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The members of the workspace that may, or folders in their `src/`, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("unikernel", "the stubs of system calls in ring 3"),
    ("unikernel/hal", "the machine"),
    ("unikernel/module", "the border between modules and the kernel"),
    ("unikernel/fuzz/src/bin", "libFuzzer's entry is a C function"),
    ("apps/guest-tests", "programs that do what the kernel has to survive"),
    ("apps/micro", "times system calls without a library in between"),
];
const ATTRIBUTE: &str = "#![forbid(unsafe_code)]";

/// What is wrong, a line each: roots of crates that do not forbid it, and examples that use it.
pub(crate) fn check(root: &Path) -> io::Result<Vec<String>> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut wrong = Vec::new();
    for member in members(&manifest) {
        for source in &sources(&root.join(member).join("src"))? {
            let place = source.strip_prefix(root).unwrap_or(source);
            // A member inside another's folder is one of its own.
            if ALLOWED.iter().any(|&(allowed, _)| {
                allowed == member || place.starts_with(allowed) && allowed.contains("/src/")
            }) {
                continue;
            }
            let text = fs::read_to_string(source)?;
            // The apps are what a user of the kernel would write: they need not say it.
            let is_right = if member.starts_with("apps/") {
                !text.lines().any(uses_unsafe)
            } else {
                !is_root(source) || text.lines().any(|line| line == ATTRIBUTE)
            };
            if !is_right {
                wrong.push(place.display().to_string());
            }
        }
    }
    Ok(wrong)
}

/// The folders in `members = [...]`.
fn members(manifest: &str) -> Vec<&str> {
    let list = manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']'));
    list.map_or("", |(list, _)| list).split('"').skip(1).step_by(2).collect()
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// True for the file that a library or a program begins with.
fn is_root(source: &Path) -> bool {
    let is_named = |name: &str| source.file_name().is_some_and(|own| own == name);
    let folder = source.parent().unwrap_or(source);
    let is_in = |name: &str, folder: &Path| folder.file_name().is_some_and(|own| own == name);
    match folder.parent() {
        // `src/lib.rs`, `src/main.rs`
        _ if is_in("src", folder) => is_named("lib.rs") || is_named("main.rs"),
        // `src/bin/name.rs`
        _ if is_in("bin", folder) => true,
        // `src/bin/name/main.rs`
        Some(above) if is_in("bin", above) => is_named("main.rs"),
        _ => false,
    }
}

/// True if a line of code has the word, and not in a comment or behind `forbid`.
fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
        .any(|word| word == "unsafe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_what_the_list_has() {
        assert_eq!(
            members("[workspace]\nmembers = [\n    \"a\",\n    \"b/c\",\n]\nother = [\"d\"]\n"),
            ["a", "b/c"]
        );
    }

    #[test]
    fn roots_are_where_cargo_looks() {
        let root = |path: &str| is_root(Path::new(path));
        assert!(root("x/src/lib.rs") && root("x/src/main.rs") && root("x/src/bin/a.rs"));
        assert!(root("x/src/bin/a/main.rs"));
        assert!(!root("x/src/a/main.rs") && !root("x/src/bin/a/b.rs") && !root("x/src/a.rs"));
    }

    #[test]
    fn comments_and_other_words_are_not_code() {
        assert!(uses_unsafe("    unsafe { f() }") && uses_unsafe("unsafe impl Send for A {}"));
        assert!(!uses_unsafe("// unsafe") && !uses_unsafe("#![forbid(unsafe_code)]"));
    }
}
