//! The suites' sources: the published `.crate` file, checked and unpacked into a workspace of its own.
//!
//! The sources stay as they are. The manifest loses what concerns the workspace it was published from, and
//! dev-dependencies on the crate itself are led to the unpacked one, as they were there.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use toml::{Table, Value};

use super::suites::{CLibrary, Suite};
use crate::project;

/// What has a meaning only at the root of a workspace.
const ROOT_TABLES: [&str; 4] = ["workspace", "profile", "patch", "replace"];
/// Quick enough under emulation, with the checks of a debug build, and panics that unwind to the harness.
const PROFILE: &str = "[profile.dev]\nopt-level = 1\ndebug = false\nincremental = false\n";

/// Where everything of this tool lies: sources, programs, results.
pub(super) fn work_dir() -> Result<PathBuf> {
    project::work_dir("conformance")
}

/// An unpacked suite.
pub(super) struct Source {
    /// The crate: the working folder of its tests.
    pub(super) package: PathBuf,
}

/// Gets a suite from the registry, by cargo, unless it is there already.
pub(super) fn prepare(suite: &Suite) -> Result<Source> {
    let workspace = work_dir()?.join("suites").join(&suite.name);
    let package = workspace.join(suite.folder());
    if !package.join("Cargo.toml").exists() {
        fs::create_dir_all(&workspace)?;
        let archive = archive(suite)?;
        check_sum(&archive, &suite.sha256)?;
        run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&workspace))?;
    }
    adapt_manifest(suite, &package)?;
    write_workspace(suite, &workspace)?;
    Ok(Source { package })
}

/// The `.crate` file in cargo's cache, fetched by a manifest that depends on it.
fn archive(suite: &Suite) -> Result<PathBuf> {
    let folder = work_dir()?.join("fetch").join(&suite.name);
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\n{} = \"={}\"\n",
        suite.name, suite.version
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    run(cargo().arg("fetch").current_dir(&folder))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let caches = home.context("no CARGO_HOME and no HOME")?.join("registry/cache");
    let file = format!("{}.crate", suite.folder());
    let caches = fs::read_dir(&caches).with_context(|| format!("cannot read {}", caches.display()))?;
    let mut files = caches.flatten().map(|cache| cache.path().join(&file));
    files.find(|path| path.exists()).with_context(|| format!("cargo fetched no {file}"))
}

fn check_sum(archive: &Path, expected: &str) -> Result<()> {
    let output = Command::new("sha256sum").arg(archive).output().context("cannot run sha256sum")?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(told.starts_with(expected), "{} has another checksum: {told}", archive.display());
    Ok(())
}

/// Writes the manifest anew from the published one, which stays beside it.
fn adapt_manifest(suite: &Suite, package: &Path) -> Result<()> {
    let (path, published) = (package.join("Cargo.toml"), package.join("Cargo.toml.published"));
    if !published.exists() {
        fs::rename(&path, &published)?;
    }
    let mut manifest: Table = fs::read_to_string(&published)?.parse()?;
    manifest.retain(|name, _| !ROOT_TABLES.contains(&name));
    if !suite.dev_dependencies.is_empty() {
        let table = manifest.entry("dev-dependencies").or_insert_with(|| Table::new().into());
        let table = table.as_table_mut().context("dev-dependencies is a table")?;
        table.extend(suite.dev_dependencies.clone());
    }
    write_if_changed(&path, &toml::to_string(&manifest)?)
}

fn write_workspace(suite: &Suite, workspace: &Path) -> Result<()> {
    let (name, folder) = (&suite.name, suite.folder());
    let manifest = format!(
        "[workspace]\nresolver = \"2\"\nmembers = [\"{folder}\"]\n\n[patch.crates-io]\n{name} = {{ path = \"{folder}\" }}\n\n{PROFILE}",
    );
    write_if_changed(&workspace.join("Cargo.toml"), &manifest)?;
    let config = format!("{}\n{}", linking(CLibrary::Musl), linking(CLibrary::Gnu));
    fs::create_dir_all(workspace.join(".cargo"))?;
    write_if_changed(&workspace.join(".cargo/config.toml"), &config)?;
    // The authors' own choice of dependencies.
    let (theirs, ours) = (workspace.join(&folder).join("Cargo.lock"), workspace.join("Cargo.lock"));
    if suite.keeps_lock && theirs.exists() && !ours.exists() {
        fs::write(ours, lock_without(&suite.name, &fs::read_to_string(theirs)?)?)?;
    }
    Ok(())
}

/// How programs with a C library are linked: as `.cargo/config.toml` says, and recorded.
fn linking(library: CLibrary) -> String {
    let (target, linker, flag) = match library {
        CLibrary::Musl => (project::TARGET, "lld", "-Clink-self-contained=yes"),
        CLibrary::Gnu => (project::GNU_TARGET, "cc", "-Ctarget-feature=+crt-static"),
    };
    let linker = project::root().join("qemu/conformance").join(linker);
    format!(
        "[target.{target}]\nlinker = {linker:?}\n\
         rustflags = [\"-Crelocation-model=static\", \"{flag}\", \"-Cforce-frame-pointers=yes\"]\n"
    )
}

/// The lock file without the registry's edition of the crate, which would keep cargo from the one here.
fn lock_without(name: &str, text: &str) -> Result<String> {
    let mut lock: Table = text.parse()?;
    if let Some(packages) = lock.get_mut("package").and_then(Value::as_array_mut) {
        packages.retain(|package| package.get("name").and_then(Value::as_str) != Some(name));
    }
    Ok(toml::to_string(&lock)?)
}

/// Cargo looks at modification times.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The cargo that runs this tool, without what it tells its own build.
pub(super) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_cargos = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_cargos(name)) {
        command.env_remove(name);
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
