//! Where the sources of the kernel are, in each form that a user may depend on them; where what is made of them is
//! kept; which kernel goes with which program.
//!
//! In a working copy, or a checkout of cargo's (`git =`), the crates lie around this one, in their workspace. From a
//! registry, or a vendor folder, each lies by itself, named by its package.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Failure, cargo};

/// This crate's folder.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// Modules that become a part of the kernel, with commas between: its features.
pub(crate) const MODULES: &str = "UNIKERNEL_MODULES";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder of the workspace's crates, unless each crate lies by itself.
pub(crate) fn workspace() -> Option<&'static Path> {
    Path::new(HERE).parent().filter(|folder| folder.join("kernel/Cargo.toml").is_file())
}

/// A cargo that builds the kernel, but for profile, target and folder.
#[cfg(feature = "image")]
pub(crate) fn build_kernel() -> Result<Command, Failure> {
    let mut cargo = cargo();
    match workspace() {
        // From there, so that the settings are the workspace's own and not those of whoever builds a program.
        Some(workspace) => cargo.current_dir(workspace).arg("build"),
        None => cargo.args(["build", "--manifest-path"]).arg(package_of_kernel()?),
    };
    cargo.args(["-p", "unikernel-kernel"]);
    let modules = modules();
    if !modules.is_empty() {
        cargo.arg("--features").arg(modules.join(","));
    }
    Ok(cargo)
}

/// The modules that become a part of the kernel, sorted. A kernel with others is another kernel, and is kept beside it.
pub(crate) fn modules() -> Vec<String> {
    let named = env::var(MODULES).unwrap_or_default();
    let words = named.split([',', ' ']).filter(|word| !word.is_empty());
    let mut modules: Vec<String> = words.map(str::to_owned).collect();
    modules.sort();
    modules.dedup();
    modules
}

/// What tells files of a kernel with modules from those of others: empty, or `-nvme-watchdog`.
#[cfg(feature = "image")]
pub fn modules_suffix() -> String {
    modules().iter().map(|module| format!("-{module}")).collect()
}

/// The manifest by which cargo tells what the kernel is made of.
#[cfg(feature = "image")]
pub fn kernel_manifest() -> Result<PathBuf, Failure> {
    workspace().map_or_else(package_of_kernel, |workspace| Ok(workspace.join("kernel/Cargo.toml")))
}

/// A package that depends on the kernel, for cargo to fetch it from where this crate came from.
#[cfg(feature = "image")]
fn package_of_kernel() -> Result<PathBuf, Failure> {
    let manifest = include_str!("kernel-package.toml").replace("VERSION", VERSION);
    let path = cache_dir()?.join("package/Cargo.toml");
    let write = |path: &Path| {
        if std::fs::read_to_string(path).is_ok_and(|text| text == manifest) {
            return Ok(());
        }
        std::fs::create_dir_all(path.with_file_name("src"))?;
        std::fs::write(path.with_file_name("src").join("lib.rs"), "")?;
        std::fs::write(path, &manifest)
    };
    write(&path).map_err(|error| Failure::of_file(&path, &error))?;
    Ok(path)
}

/// A cargo that builds programs of this crate.
pub(crate) fn build_tools() -> Command {
    let mut cargo = cargo();
    match workspace() {
        Some(workspace) => cargo.current_dir(workspace).arg("build"),
        None => cargo.args(["build", "--manifest-path"]).arg(Path::new(HERE).join("Cargo.toml")),
    };
    cargo.args(["-p", "unikernel-build", "--features", "image"]);
    cargo
}

/// Where the kernel of this version is kept for all packages of this user. A working copy has a place of its own.
pub fn cache_dir() -> Result<PathBuf, Failure> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".cache")));
    let base = base.ok_or_else(|| Failure::new("where to keep the kernel? Set XDG_CACHE_HOME or HOME"))?;
    Ok(base.join("unikernel").join(name(VERSION, HERE)))
}

/// Where the kernel is compiled for packages elsewhere: where the builds of a working copy have compiled it, if this is one, or else in the
/// cache.
pub fn kernel_target_dir() -> Result<PathBuf, Failure> {
    let own = workspace().and_then(Path::parent).map(|copy| copy.join("target/kernel"));
    // Where another user has built, nothing can be added.
    let owner = |path: &Path| std::fs::metadata(path).map(|file| file.uid()).ok();
    let is_ours =
        |folder: &PathBuf| owner(folder).is_some() && owner(folder) == owner(Path::new("/proc/self"));
    match own.filter(is_ours) {
        Some(folder) => Ok(folder),
        None => Ok(cache_dir()?.join("target")),
    }
}

/// The version, and the folder of the sources with everything else than letters and digits replaced.
fn name(version: &str, here: &str) -> String {
    let plain = |character: char| if character.is_alphanumeric() { character } else { '-' };
    let sources: String = here.trim_end_matches("/unikernel/build").chars().map(plain).collect();
    let tail: Vec<char> = sources.chars().rev().take(80).collect();
    format!("{version}{}", tail.into_iter().rev().collect::<String>())
}

/// The kernel's profile for a profile of a program: debug builds get a kernel that checks itself (locks, arithmetic,
/// assertions).
pub fn kernel_profile(program_profile: &str) -> &'static str {
    match program_profile {
        // What cargo calls it, and the word that it has for build scripts.
        "dev" | "test" | "debug" => "kernel-checked",
        _ => "kernel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_named_by_version_and_sources() {
        assert_eq!(name("0.1.0", "/home/me/uni kernel/unikernel/build"), "0.1.0-home-me-uni-kernel");
        assert!(name("0.1.0", &"/long".repeat(100)).len() < 100);
    }

    #[test]
    fn debug_builds_get_the_kernel_that_checks_itself() {
        assert_eq!(kernel_profile("dev"), "kernel-checked");
        assert_eq!(kernel_profile("debug"), "kernel-checked");
        assert_eq!(kernel_profile("release"), "kernel");
        assert_eq!(kernel_profile("my-own"), "kernel");
    }
}
