//! `new`: a package with a server in it, as `cargo new` would make it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::project::cargo;
use crate::unfinished::{NewText, write_all};

const MAIN: &str = include_str!("template/main.rs");
/// What the server stands on; a newer compatible version is taken where there is one.
const DEPENDENCIES: &str = "axum = \"0.8\"\ntokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\", \"net\", \"signal\"] }\n";

/// Makes the package in the folder `path`.
pub(crate) fn create(path: &Path) -> Result<u8> {
    if path.exists() {
        bail!("{} is there already: choose another name", path.display());
    }
    // cargo checks the name, and knows about version control and an enclosing workspace.
    let status = cargo().args(["new", "--quiet", "--bin"]).arg(path).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo made no package; its message is above");
    let manifest = path.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let text = with_dependencies(&text).with_context(|| format!("{}", manifest.display()))?;
    let files = [(path.join("src/main.rs"), MAIN), (manifest, &text)];
    write_all(files.iter().map(|(path, text)| NewText { path, text, mode: None }))?;
    println!("made {}: an HTTP server on axum. Boot it with", path.display());
    println!("    cd {} && cargo unikernel run", path.display());
    Ok(0)
}

/// cargo's new manifest ends with its empty table of dependencies.
fn with_dependencies(manifest: &str) -> Result<String> {
    const TABLE: &str = "[dependencies]\n";
    let at = manifest.find(TABLE).context("cargo wrote no table of dependencies")? + TABLE.len();
    Ok(format!("{}{DEPENDENCIES}{}", &manifest[..at], &manifest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_go_into_their_table() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n";
        let parsed: toml::Table = toml::from_str(&with_dependencies(manifest).unwrap()).unwrap();
        let dependencies = parsed["dependencies"].as_table().unwrap();
        assert_eq!(dependencies.keys().collect::<Vec<_>>(), ["axum", "tokio"]);
        assert!(with_dependencies("[package]\n").is_err());
    }
}
