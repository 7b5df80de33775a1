//! The host side of the build. An app's build script calls [`link_image`], which compiles the
//! kernel, makes it one relocatable object whose names cannot clash with the app's, and tells cargo
//! to link it in under `image.ld`.
//!
//! The two halves must not share code, statics, the allocator or the panic handler: each has its
//! own `core`, and after `objcopy` only the kernel's entry is visible to the linker.

pub mod image_check;
mod relax;
mod symbols;
mod tools;

use std::path::{Path, PathBuf};
use std::{env, fs};

use tools::{Tool, run};

/// The kernel's PVH entry, which keeps everything else alive through `--gc-sections`.
const KERNEL_ENTRY: &str = "_kernel_start32";

/// The image has a fixed place, and its backtraces follow frame pointers.
const KERNEL_FLAGS: &str = "-Crelocation-model=static -Cforce-frame-pointers=yes";

/// How the linker wrapper (`lld` beside this crate's manifest) asks for the last step.
const EMBED_VARIABLE: &str = "UNIKERNEL_EMBED_SYMBOLS";

/// Compiles the kernel and emits the link arguments that make the app an image.
///
/// # Panics
///
/// If a tool is missing or fails, with what to do about it; cargo shows the message.
pub fn link_image() {
    // The linker wrapper calls the same program again, after the link.
    if let Some(image) = env::var_os(EMBED_VARIABLE) {
        return symbols::embed(Path::new(&image)).expect("the linked image can be read and written");
    }
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unikernel_dir = crate_dir.parent().expect("the crate lies in unikernel/build");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    watch(unikernel_dir);

    let archive = compile_kernel(unikernel_dir, &kernel_target_dir(&out_dir));
    let linked = out_dir.join("kernel.o");
    let localised = out_dir.join("kernel-local.o");
    run(Tool::linker()
        .args(["-flavor", "gnu", "-r", "--gc-sections", "-u", KERNEL_ENTRY, "-o"])
        .arg(&linked)
        .arg(&archive));
    run(Tool::objcopy()
        .arg("--prefix-alloc-sections=.kernel")
        .arg(format!("--keep-global-symbol={KERNEL_ENTRY}"))
        .arg(&linked)
        .arg(&localised));
    let mut object = fs::read(&localised).expect("objcopy wrote the object");
    relax::allow_relaxation(&mut object);
    fs::write(&localised, object).expect("the build folder is writable");

    let this_program = env::current_exe().expect("a build script knows its own path");
    link_arg(&format!("--unikernel-image-tool={}", this_program.display()));
    link_arg(&localised.display().to_string());
    link_arg(&format!("--undefined={KERNEL_ENTRY}"));
    link_arg("-T");
    link_arg(&crate_dir.join("image.ld").display().to_string());
}

fn link_arg(argument: &str) {
    println!("cargo:rustc-link-arg-bins={argument}");
}

/// Rebuilds when the kernel, a crate below it, their dependencies, or the layout changes.
fn watch(unikernel_dir: &Path) {
    let entries = fs::read_dir(unikernel_dir).expect("the crate lies in unikernel/build");
    let folders =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file());
    // The build crate's own sources are cargo's concern.
    let sources = folders.filter(|folder| !folder.ends_with("build"));
    let single = ["build/image.ld", "build/lld", "../Cargo.toml", "../Cargo.lock"]
        .map(|file| unikernel_dir.join(file));
    for path in sources.chain(single) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// One folder for the kernel's artefacts beside the app's, so that all apps share one compilation.
fn kernel_target_dir(out_dir: &Path) -> PathBuf {
    // OUT_DIR is <target>/<triple>/<profile>/build/<package>/out.
    let target_dir = out_dir.ancestors().nth(5).expect("OUT_DIR has cargo's layout");
    target_dir.join("kernel")
}

/// A debug build of an app gets a kernel that checks itself: locks, arithmetic, assertions.
fn kernel_profile() -> &'static str {
    match env::var("PROFILE").as_deref() {
        Ok("debug") => "kernel-checked",
        _ => "kernel",
    }
}

fn compile_kernel(unikernel_dir: &Path, target_dir: &Path) -> PathBuf {
    const TARGET: &str = "x86_64-unknown-none";
    let profile = kernel_profile();
    let mut cargo = Tool::cargo();
    cargo
        .current_dir(unikernel_dir)
        .args(["build", "--profile", profile, "-p", "unikernel-kernel", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .env("RUSTFLAGS", KERNEL_FLAGS);
    run(&mut cargo);
    target_dir.join(TARGET).join(profile).join("libunikernel_kernel.a")
}
