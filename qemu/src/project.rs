//! Where things are in the working copy, and building them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// The target that every image is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
pub(crate) const GNU_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("qemu/ lies in the workspace").to_owned()
}

/// Cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.or_else(own_target_dir).unwrap_or_else(|| root().join("target"))
}

/// Where this program lies, if cargo has put it into a target folder: the settings of a user may name any.
fn own_target_dir() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let triple = program.ancestors().find(|folder| folder.ends_with(TARGET))?;
    triple.parent().map(Path::to_owned)
}

/// A folder for what the runner writes.
pub(crate) fn work_dir(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The names of the appliances.
pub(crate) fn apps() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("apps")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "guest-tests")
        .collect();
    names.sort();
    names
}

/// How an app is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// As it ships.
    Release,
    /// With a kernel that checks itself.
    Debug,
    /// With the GNU C library.
    Gnu,
}

/// The one ELF of an app or guest test.
pub(crate) fn image(name: &str) -> PathBuf {
    image_of(name, Profile::Release)
}

/// The same, of either profile.
pub(crate) fn image_of(name: &str, profile: Profile) -> PathBuf {
    let (target, folder) = match profile {
        Profile::Release => (TARGET, "release"),
        Profile::Debug => (TARGET, "debug"),
        Profile::Gnu => (GNU_TARGET, "release"),
    };
    target_dir().join(target).join(folder).join(name)
}

/// The cargo that runs this tool, without what it tells its own build.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_cargos = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_cargos(name)) {
        command.env_remove(name);
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Builds a package in `apps/`, all of it or some of its programs; the images lie where [`image_of`] says.
pub(crate) fn build(package: &str, programs: &[&str], profile: Profile) -> Result<()> {
    // By its folder: `-p http` could also mean the crate of that name, on which axum stands.
    let manifest = format!("apps/{package}/Cargo.toml");
    if !image_of(programs.first().unwrap_or(&package), profile).exists() {
        eprintln!("building {package} and a kernel for it, which takes minutes the first time");
    }
    let status = cargo()
        .current_dir(root())
        .args(["build", "--manifest-path", &manifest])
        // A person sees what takes so long; a log gets the errors only.
        .args((!std::io::stderr().is_terminal()).then_some("--quiet"))
        .args((profile != Profile::Debug).then_some("--release"))
        .args(["--target", if profile == Profile::Gnu { GNU_TARGET } else { TARGET }])
        // Where the images are looked for, whatever said so to the cargo that has built this program.
        .arg("--target-dir")
        .arg(target_dir())
        .args(programs.iter().flat_map(|program| ["--bin", program]))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("`cargo build --manifest-path {manifest}` ({profile:?}) failed; its messages are above");
    }
    Ok(())
}

/// The image of an app or a guest test for release, built when it is first asked for.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(name) {
        if apps().iter().any(|app| app == name) {
            build(name, &[], Profile::Release)?;
        } else {
            build("guest-tests", &[name], Profile::Release)?;
        }
        built.insert(name.to_owned());
    }
    Ok(image(name))
}

/// The known word that a mistyped one is close to, if any is.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::osa_distance(word, known), known));
    scored.min().filter(|(distance, known)| *distance <= 2.max(known.len() / 3)).map(|(_, known)| known)
}

/// Builds an app for release and answers its image.
pub(crate) fn build_app(name: &str) -> Result<PathBuf> {
    build_app_as(name, Profile::Release)
}

/// Asks, within a message about an unknown word, whether another one was meant; empty if none is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// Builds an app and answers its image.
pub(crate) fn build_app_as(name: &str, profile: Profile) -> Result<PathBuf> {
    let known = apps();
    if !known.iter().any(|app| app == name) {
        let hint = did_you_mean(name, known.iter().map(String::as_str));
        bail!("there is no app `{name}`{hint}: apps/ has {}", known.join(", "));
    }
    let path = match profile {
        Profile::Release => built(name)?,
        other => {
            build(name, &[], other)?;
            image_of(name, other)
        }
    };
    if !path.exists() {
        bail!("the build made no image at {}", path.display());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_typing_error_and_nothing_far() {
        assert_eq!(nearest("http-moi", ["hello", "http", "http-mio"]), Some("http-mio"));
        assert_eq!(nearest("helo", ["hello", "http"]), Some("hello"));
        assert_eq!(nearest("database", ["hello", "http"]), None);
    }

    #[test]
    fn apps_are_found_without_the_guest_tests() {
        let apps = apps();
        assert!(apps.contains(&"hello".to_owned()) && !apps.contains(&"guest-tests".to_owned()));
    }
}
