//! The licences of what is in an image: who is under which, and their texts, which most of them ask to be handed on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::graph::{Component, Graph};

/// Files that crates have for it, by the beginnings of their names.
const FILES: [&str; 6] = ["license", "licence", "copying", "notice", "unlicense", "copyright"];

fn in_image(graph: &Graph) -> impl Iterator<Item = &Component> {
    graph.components.values().filter(|component| component.is_in_image)
}

/// Each licence with what is under it.
pub(super) fn table(graph: &Graph) -> String {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for component in in_image(graph) {
        let license = component.license.as_deref().unwrap_or("(none is said)");
        groups.entry(license).or_default().push(format!("{} {}", component.name, component.version));
    }
    let mut text = String::new();
    for (license, mut names) in groups {
        names.sort();
        names.dedup();
        let _ = writeln!(text, "{license}\n    {}", names.join(", "));
    }
    text
}

/// All texts, each once, with the names of those who have it.
pub(super) fn texts(graph: &Graph) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for component in in_image(graph) {
        for path in component.folder.as_deref().map(files).transpose()?.unwrap_or_default() {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            texts.entry(text).or_default().push(format!("{} {}", component.name, component.version));
        }
    }
    let mut all: Vec<(String, String)> = texts
        .into_iter()
        .map(|(text, mut names)| {
            names.sort();
            names.dedup();
            (names.join(", "), text)
        })
        .collect();
    all.sort();
    let rule = "-".repeat(80);
    Ok(all.iter().fold(String::new(), |text, (names, license)| {
        text + &format!("\n{rule}\n{names}\n{rule}\n{license}\n")
    }))
}

/// The files of a crate that are about its licence.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        path.is_file() && FILES.iter().any(|beginning| name.starts_with(beginning))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_it).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_text_is_there_once() {
        let folder = std::env::temp_dir().join(format!("licenses-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("LICENSE-MIT"), "the text\n").unwrap();
        let component = |name: &str, is_in_image| Component {
            name: name.to_owned(),
            version: "1".to_owned(),
            license: Some("MIT".to_owned()),
            description: None,
            repository: None,
            source: None,
            sha256: None,
            is_in_image,
            is_crate: true,
            folder: Some(folder.clone()),
            dependencies: BTreeSet::new(),
        };
        let components = [("a", true), ("b", true), ("macro", false)];
        let components = components.map(|(name, is_in)| (name.to_owned(), component(name, is_in)));
        let graph = Graph { root: "a".into(), components: components.into() };
        assert_eq!(table(&graph), "MIT\n    a 1, b 1\n");
        let texts = texts(&graph).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(texts.matches("the text").count() == 1 && texts.contains("\na 1, b 1\n"), "{texts}");
    }
}
