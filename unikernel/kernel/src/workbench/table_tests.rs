//! Every system call of the table is made by a test of the workbench.

use alloc::string::String;
use alloc::vec::Vec;
use std::fs;
use std::path::Path;

/// The sources below a folder, without white space.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("the sources are there").flatten() {
        if entry.path().is_dir() {
            sources(&entry.path(), all);
        } else {
            let text = fs::read_to_string(entry.path()).expect("it is text");
            all.extend(text.chars().filter(|character| !character.is_whitespace()));
        }
    }
}

#[test]
fn every_call_is_made_by_a_test() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = String::new();
    sources(&source.join("workbench"), &mut all);
    let is_made = |name: &str| {
        let by_number = std::format!("__NR_{name}");
        let mut places = all.match_indices(&by_number);
        places.any(|(at, _)| {
            !all[at + by_number.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        }) || all.contains(&std::format!("sys!({name},"))
            || all.contains(&std::format!("sys!({name})"))
    };
    let table = fs::read_to_string(source.join("syscall/table.rs")).expect("the table is there");
    let entries = table.lines().filter_map(|line| line.trim().strip_prefix("__NR_")?.split_once(": "));
    let names: Vec<_> = entries.map(|(name, _)| name).collect();
    assert!(names.len() > 200, "the table was not understood");
    let missing: Vec<_> = names.into_iter().filter(|name| !is_made(name)).collect();
    assert!(missing.is_empty(), "calls that no test makes: {missing:?}");
}
