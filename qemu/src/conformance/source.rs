//! The suites' sources: the published `.crate` file, checked and unpacked into a workspace of its own, or, for a
//! crate that is published without its tests, a commit of its repository.
//!
//! The sources stay as they are. The manifest of a published crate loses what concerns the workspace it was
//! published from, and dev-dependencies on the crate itself are led to the unpacked one, as they were there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use toml::{Table, Value};

use super::std_tests;
use super::suites::{CLibrary, Repository, Suite};
use crate::project::{self, cargo};

/// What has a meaning only at the root of a workspace.
const ROOT_TABLES: [&str; 4] = ["workspace", "profile", "patch", "replace"];
/// The profile in cargo's environment: quick enough under emulation, with the checks of a debug build, and
/// panics that unwind to the harness.
pub(super) const PROFILE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_DEV_DEBUG", "false"),
    ("CARGO_PROFILE_DEV_INCREMENTAL", "false"),
];

/// Where everything of this tool lies: sources, programs, results.
pub(super) fn work_dir() -> Result<PathBuf> {
    project::work_dir("conformance")
}

/// The toolchain's folder of libraries, sources and tools.
pub(super) fn rustlib() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc does not know its folder");
    Ok(Path::new(String::from_utf8(output.stdout)?.trim()).join("lib/rustlib"))
}

/// An unpacked suite.
pub(super) struct Source {
    /// The crate: the working folder of its tests.
    pub(super) package: PathBuf,
}

/// Gets a suite, unless it is there already.
pub(super) fn prepare(suite: &Suite) -> Result<Source> {
    let workspace = work_dir()?.join("suites").join(&suite.name);
    fs::create_dir_all(&workspace)?;
    write_config(&workspace)?;
    let folder = workspace.join(suite.folder());
    match (&suite.repository, &suite.sha256, &suite.toolchain) {
        (_, _, Some(toolchain)) => {
            std_tests::copy(toolchain, &folder)?;
            write_workspace(suite, &workspace)?;
            Ok(Source { package: folder })
        }
        (Some(repository), _, _) => {
            check_out(repository, &folder)?;
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            if suite.c.is_none() && !manifest.contains("[workspace]") {
                write_workspace(suite, &workspace)?;
            }
            // Without the slash that joining nothing leaves.
            Ok(Source { package: folder.join(&repository.folder).components().collect() })
        }
        (None, Some(sum), None) => {
            unpack(suite, sum, &workspace, &folder)?;
            Ok(Source { package: folder })
        }
        (None, None, None) => {
            bail!("neither `sha256`, `repository` nor `toolchain` says where the sources are")
        }
    }
}

/// The commit, by git, which is led elsewhere by `url.*.insteadOf` where there is no way to the internet.
fn check_out(repository: &Repository, folder: &Path) -> Result<()> {
    let git = || {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder);
        command
    };
    if folder.join(".git").exists() && run(git().args(["checkout", "--quiet", &repository.commit])).is_ok() {
        return Ok(());
    }
    run(Command::new("git").args(["init", "--quiet"]).arg(folder))?;
    run(git().args(["fetch", "--quiet", "--depth=1", &repository.url, &repository.commit]))?;
    run(git().args(["checkout", "--quiet", "--detach", &repository.commit]))
}

/// The published crate, by cargo from the registry.
fn unpack(suite: &Suite, sum: &str, workspace: &Path, package: &Path) -> Result<()> {
    if !package.join("Cargo.toml").exists() {
        let archive = archive(suite)?;
        check_sum(&archive, sum)?;
        run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(workspace))?;
    }
    adapt_manifest(suite, package)?;
    write_workspace(suite, workspace)
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

/// Cargo's configuration, for whatever is below this folder.
fn write_config(workspace: &Path) -> Result<()> {
    let config = format!("{}\n{}", linking(CLibrary::Musl), linking(CLibrary::Gnu));
    fs::create_dir_all(workspace.join(".cargo"))?;
    write_if_changed(&workspace.join(".cargo/config.toml"), &config)
}

fn write_workspace(suite: &Suite, workspace: &Path) -> Result<()> {
    let (name, folder) = (&suite.name, suite.folder());
    let manifest = format!(
        "[workspace]\nresolver = \"2\"\nmembers = [\"{folder}\"]\n\n[patch.crates-io]\n{name} = {{ path = \"{folder}\" }}\n",
    );
    write_if_changed(&workspace.join("Cargo.toml"), &manifest)?;
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
    let flags = ["-Crelocation-model=static", flag, "-Cforce-frame-pointers=yes"];
    format!("[target.{target}]\nlinker = {linker:?}\nrustflags = {flags:?}\n")
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

/// Runs a command that must succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
