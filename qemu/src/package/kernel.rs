//! The kernel, compiled once for each version and profile, for all packages of this user.

use std::path::PathBuf;

use anyhow::{Context, Result};
use unikernel_build::{Kernel, Output};

/// The kernel for programs of a cargo profile, compiled now if it was not before.
pub(super) fn kernel(program_profile: &str) -> Result<Kernel> {
    let profile = profile(program_profile);
    let folder = cache()?;
    if !folder.join(format!("{profile}.o")).exists() {
        eprintln!("   Compiling the kernel, once for all packages (into {})", folder.display());
    }
    Ok(Kernel::compile(&folder.join("target"), &folder, profile, Output::Shown)?)
}

/// A debug build gets a kernel that checks itself: locks, arithmetic, assertions.
fn profile(program_profile: &str) -> &'static str {
    match program_profile {
        "dev" | "test" => "kernel-checked",
        _ => "kernel",
    }
}

/// Where the kernel of this version is kept. A working copy of the sources has one of its own.
fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".cache")));
    let base = base.context("where to keep the kernel? Set XDG_CACHE_HOME or HOME")?;
    Ok(base.join("unikernel").join(name(env!("CARGO_PKG_VERSION"), env!("CARGO_MANIFEST_DIR"))))
}

/// The version, and the folder of the sources with everything else than letters and digits replaced.
fn name(version: &str, sources: &str) -> String {
    let plain = |character: char| if character.is_alphanumeric() { character } else { '-' };
    let sources: String = sources.trim_end_matches("/qemu").chars().map(plain).collect();
    let tail: Vec<char> = sources.chars().rev().take(80).collect();
    format!("{version}{}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_named_by_version_and_sources() {
        assert_eq!(name("0.1.0", "/home/me/uni kernel/qemu"), "0.1.0-home-me-uni-kernel");
        assert!(name("0.1.0", &"/long".repeat(100)).len() < 100);
    }

    #[test]
    fn debug_builds_get_the_kernel_that_checks_itself() {
        assert_eq!(profile("dev"), "kernel-checked");
        assert_eq!(profile("release"), "kernel");
        assert_eq!(profile("my-own"), "kernel");
    }
}
