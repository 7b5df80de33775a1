//! The kernel, compiled once for each version and profile, for all packages of this user.

use anyhow::Result;
use unikernel_build::{Kernel, Output, cache_dir, kernel_profile, kernel_target_dir};

/// The kernel for programs of a cargo profile, compiled now if it was not before.
pub(super) fn kernel(program_profile: &str) -> Result<Kernel> {
    let profile = kernel_profile(program_profile);
    let folder = kernel_target_dir()?;
    if !Kernel::is_compiled(&folder, profile) {
        eprintln!("   Compiling the kernel, once for all packages (into {})", folder.display());
    }
    Ok(Kernel::compile(&folder, &cache_dir()?, profile, Output::Shown)?)
}
