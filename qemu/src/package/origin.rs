//! Where our own crates come from for a package that depends on them: from where this tool came.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use toml_edit::{InlineTable, Value};

/// A source of crates, as a dependency names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A working copy.
    Path(PathBuf),
    /// A repository, and the state that the tool was built of.
    Git { url: String, revision: Option<String> },
    /// A registry.
    Version(&'static str),
}

impl Origin {
    /// A folder that the user named.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("--path {}", folder.display()))?;
        ensure!(
            is_working_copy(&folder),
            "--path {}: there is no unikernel/build in it, as in a clone of the unikernel's repository",
            folder.display()
        );
        Ok(Self::Path(folder))
    }

    /// Where this tool came from.
    pub(crate) fn of_this_tool() -> Result<Self> {
        let root = crate::project::root();
        if !is_working_copy(&root) {
            return Ok(Self::Version(env!("CARGO_PKG_VERSION")));
        }
        // `cargo install --git` builds in such a folder, and the next installation may remove it.
        if !root.to_string_lossy().contains("/git/checkouts/") {
            return Ok(Self::Path(root));
        }
        let lists = installation_lists().into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
        lists
            .filter_map(|list| installed_from(&list))
            .next()
            .context("where is the repository that this tool was built from? Name it with --git URL")
    }

    /// The dependency on the crate that lies in `folder` of a working copy.
    pub(super) fn dependency(&self, folder: &str) -> InlineTable {
        let mut table = InlineTable::new();
        let mut set = |name: &str, value: &str| _ = table.insert(name, Value::from(value));
        match self {
            Self::Path(root) => set("path", &root.join(folder).to_string_lossy()),
            Self::Git { url, revision } => {
                set("git", url);
                if let Some(revision) = revision {
                    set("rev", revision);
                }
            }
            Self::Version(version) => set("version", version),
        }
        table
    }
}

/// Where cargo may have written about the installation: in the folder that it installed into (`--root`), or in its own.
fn installation_lists() -> Vec<PathBuf> {
    const LIST: &str = ".crates2.json";
    let program = std::env::current_exe().ok();
    let root = program.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    root.into_iter().chain(home).map(|folder| folder.join(LIST)).collect()
}

fn is_working_copy(root: &Path) -> bool {
    root.join("unikernel/build/Cargo.toml").is_file()
}

/// What cargo wrote about the installation of this tool: a key `qemu 0.1.0 (git+URL?branch=NAME#REVISION)`.
fn installed_from(list: &str) -> Option<Origin> {
    let list: serde_json::Value = serde_json::from_str(list).ok()?;
    let prefix = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), " (git+");
    let key = list["installs"].as_object()?.keys().find(|key| key.starts_with(prefix))?;
    let source = key.strip_prefix(prefix)?.strip_suffix(')')?;
    let (place, revision) = source.split_once('#')?;
    let url = place.split('?').next().unwrap_or(place);
    Some(Origin::Git { url: url.to_owned(), revision: Some(revision.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_from_a_repository_are_known_again() {
        let list = r#"{"installs":{"other 1.0.0 (registry+https://x)":{},
            "qemu 0.1.0 (git+https://example.org/uni.git?branch=main#0123abc)":{}}}"#;
        let url = "https://example.org/uni.git".to_owned();
        let origin = installed_from(list).unwrap();
        assert_eq!(origin, Origin::Git { url, revision: Some("0123abc".into()) });
        let text = origin.dependency("unikernel/build").to_string();
        assert_eq!(text, "{ git = \"https://example.org/uni.git\", rev = \"0123abc\" }");
        assert_eq!(installed_from(r#"{"installs":{}}"#), None);
    }
}
