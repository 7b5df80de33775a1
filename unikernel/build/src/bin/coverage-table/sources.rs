//! Which lines of a crate are tests: modules behind `#[cfg(test)]`, in files of their own or at a file's end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a crate has of them.
pub(crate) struct TestCode {
    /// Files and folders that are tests.
    places: BTreeSet<PathBuf>,
}

/// The line that says that the next item is for tests (or for `loom`, which runs under another cfg).
fn is_mark(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("#[cfg(") && (line.contains("test") || line.contains("loom")) && !line.contains("not(")
}

impl TestCode {
    /// Looks through a crate's sources.
    pub(crate) fn of(sources: &Path) -> Self {
        let mut places = BTreeSet::new();
        let mut todo = vec![sources.to_path_buf()];
        while let Some(folder) = todo.pop() {
            for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    todo.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    places.extend(modules_for_tests(&path));
                }
            }
        }
        Self { places }
    }

    /// The first line of a file that is a test, or a number that no line has; none if all of it is.
    pub(crate) fn first_line(&self, file: &Path) -> Option<usize> {
        if file.ancestors().any(|place| self.places.contains(&place.with_extension(""))) {
            return None;
        }
        let text = fs::read_to_string(file).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        let is_begin =
            |pair: &[&str]| is_mark(pair[0]) && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        Some(lines.windows(2).position(is_begin).map_or(usize::MAX, |index| index + 1))
    }
}

/// The places, without their extension, of modules that a file declares for tests.
fn modules_for_tests(file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_root =
        ["lib", "main", "mod"].iter().any(|name| file.file_stem().is_some_and(|stem| stem == *name));
    let folder = if is_root { file.parent().unwrap_or(file).to_path_buf() } else { file.with_extension("") };
    let lines: Vec<&str> = text.lines().collect();
    let named = lines.windows(2).filter(|pair| is_mark(pair[0]));
    let names = named
        .filter_map(|pair| pair[1].trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_code() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let code = TestCode::of(&sources);
        let file = |name: &str| code.first_line(&sources.join(name));
        assert_eq!(file("pack/tests.rs"), None);
        assert_eq!(file("lib.rs"), Some(usize::MAX));
        let own = file("bin/coverage-table/sources.rs").expect("not all of it is tests");
        let text = fs::read_to_string(sources.join("bin/coverage-table/sources.rs")).expect("it is there");
        assert_eq!(text.lines().nth(own), Some("mod tests {"));
    }
}
