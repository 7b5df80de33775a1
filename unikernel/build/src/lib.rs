//! The host side of the build: compiles the kernel, makes it one relocatable object whose names cannot clash
//! with the app's ([`Kernel`]), and has it linked in under `image.ld`. An app's build script does so by
//! [`link_image`]; `cargo unikernel` does it for packages that have no such script.
//!
//! The two halves must not share code, statics, the allocator or the panic handler: each has its
//! own `core`, and after `objcopy` only the kernel's entry is visible to the linker.
//!
//! The feature `image` (on by default) makes images in this process. A build script needs none of it: without the
//! feature this crate has no dependencies, and compiles in a moment.

#![forbid(unsafe_code)]

#[cfg(feature = "image")]
pub mod frames;
#[cfg(feature = "image")]
pub mod image_check;
#[cfg(feature = "image")]
mod kernel;
#[cfg(feature = "image")]
mod module;
#[cfg(feature = "image")]
pub mod pack;
#[cfg(feature = "image")]
mod program;
#[cfg(feature = "image")]
mod relax;
#[cfg(feature = "image")]
mod relocations;
#[cfg(feature = "image")]
mod segments;
#[cfg(feature = "image")]
mod settings;
mod shim;
mod sources;
#[cfg(feature = "image")]
mod symbols;
#[cfg(feature = "image")]
mod toolchain;
mod tools;
#[cfg(feature = "image")]
mod wrapped;

use std::path::{Path, PathBuf};
use std::{env, fs};

#[cfg(feature = "image")]
pub use kernel::Kernel;
#[cfg(feature = "image")]
pub use module::build_module;
#[cfg(feature = "image")]
pub use program::link_program;
#[cfg(feature = "image")]
pub use segments::{memory_end, raise};
pub use sources::{cache_dir, kernel_profile, kernel_target_dir};
#[cfg(feature = "image")]
pub use sources::{kernel_manifest, modules_suffix};
#[cfg(feature = "image")]
pub use symbols::{embed, functions, symbol_address};
#[cfg(feature = "image")]
pub use toolchain::{c_library, has_objcopy, has_target, linker, split_debug};
pub use tools::{Failure, Output};
#[cfg(feature = "image")]
pub use wrapped::{embed_if_asked, image_arguments, run_linker};

/// Set by `cargo unikernel`, which links the kernel in itself.
pub const LINKED_OUTSIDE: &str = "UNIKERNEL_LINKED_OUTSIDE";

/// Has the programs of the package linked with the kernel, as images.
///
/// # Panics
///
/// If that cannot be, with what to do about it; cargo shows the message.
pub fn link_image() {
    if shim::is_linker() {
        panic!("{}", shim::link());
    }
    #[cfg(feature = "image")]
    if wrapped::embed_if_asked() {
        return;
    }
    println!("cargo:rerun-if-env-changed={LINKED_OUTSIDE}");
    if env::var_os(LINKED_OUTSIDE).is_some() {
        return;
    }
    watch();
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    #[cfg(feature = "image")]
    if wrapped::is_set_up() {
        return wrapped::link_image(&out_dir);
    }
    link_by_compiler(&out_dir);
}

/// With whatever C compiler links.
fn link_by_compiler(out_dir: &Path) {
    watch_settings();
    let variable = |name: &str| env::var(name).ok();
    let profile = env::var("PROFILE").unwrap_or_default();
    if !shim::is_static(variable) {
        // Elsewhere it is a program as ever. Who ships one may have meant an image.
        if profile == "release" {
            println!(
                "cargo:warning=no kernel is linked in, for this is no static program: `--target \
                 x86_64-unknown-linux-musl` makes one, or `cargo unikernel build`"
            );
        }
        return;
    }
    if let Some(problem) = shim::problem(variable) {
        panic!("{problem}");
    }
    let arguments = shim::arguments(out_dir, kernel_profile(&profile)).expect("OUT_DIR can be written");
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Looks at the linker again when the user's settings change.
fn watch_settings() {
    let target = env::var("TARGET").unwrap_or_default().to_uppercase().replace('-', "_");
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_{target}_LINKER");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let files = package.ancestors().map(|folder| folder.join(".cargo/config.toml"));
    for file in files.filter(|file| file.is_file()) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
}

/// Rebuilds when the kernel, a crate below it, their dependencies, or the layout changes. What comes from a registry
/// never does. The build script itself, wherever it lies, is cargo's concern.
fn watch() {
    let Some(unikernel_dir) = sources::workspace() else { return };
    println!("cargo:rerun-if-env-changed={}", sources::MODULES);
    let entries = fs::read_dir(unikernel_dir).expect("the crate lies in unikernel/build");
    let modules = sources::modules().into_iter().map(|name| unikernel_dir.join("../modules").join(name));
    let folders = entries.flatten().map(|entry| entry.path()).chain(modules);
    let folders = folders.filter(|path| path.join("Cargo.toml").is_file());
    // The build crate's own sources are cargo's concern.
    let sources = folders.filter(|folder| !folder.ends_with("build"));
    let single =
        ["build/image.ld", "build/merge.ld", "build/lfs64.ld", "build/lld", "../Cargo.toml", "../Cargo.lock"]
            .map(|file| unikernel_dir.join(file));
    for path in sources.chain(single) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}
