//! The host side of the build: compiles the kernel, makes it one relocatable object whose names cannot clash
//! with the app's ([`Kernel`]), and has it linked in under `image.ld`. An app's build script does so by
//! [`link_image`]; `cargo unikernel` does it for packages that have no such script.
//!
//! The two halves must not share code, statics, the allocator or the panic handler: each has its
//! own `core`, and after `objcopy` only the kernel's entry is visible to the linker.

pub mod image_check;
mod kernel;
mod relax;
mod segments;
mod settings;
mod symbols;
mod tools;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub use kernel::Kernel;
pub use symbols::embed;
use tools::run;
pub use tools::{Failure, Output, has_objcopy, has_target, linker, split_debug};

/// How the linker wrapper (`lld` beside this crate's manifest) asks for the last step.
const EMBED_VARIABLE: &str = "UNIKERNEL_EMBED_SYMBOLS";

/// Set by `cargo unikernel`, which links the kernel in itself.
pub const LINKED_OUTSIDE: &str = "UNIKERNEL_LINKED_OUTSIDE";

/// Compiles the kernel and emits the link arguments that make the app an image.
///
/// # Panics
///
/// If a tool is missing or fails, with what to do about it; cargo shows the message.
pub fn link_image() {
    if embed_if_asked() {
        return;
    }
    println!("cargo:rerun-if-env-changed={LINKED_OUTSIDE}");
    if env::var_os(LINKED_OUTSIDE).is_some() {
        return;
    }
    if let Some(problem) = settings::problem(|name| env::var(name).ok(), is_no_std()) {
        panic!("{problem}");
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    watch(kernel::sources());
    for argument in image_arguments(&kernel_target_dir(&out_dir), &out_dir, kernel_profile()) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// The last step of a link, for which the linker wrapper calls the program that gave it the arguments
/// again; true if this process is that call.
///
/// # Panics
///
/// If the image cannot be read or written.
pub fn embed_if_asked() -> bool {
    let Some(image) = env::var_os(EMBED_VARIABLE) else { return false };
    embed(Path::new(&image), &program_name(Path::new(&image)))
        .expect("the linked image can be read and written");
    true
}

/// What the program is called: cargo's word for it, for its file in `deps` has a hash behind the name.
fn program_name(path: &Path) -> String {
    let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    env::var("CARGO_BIN_NAME").unwrap_or_else(|_| file())
}

/// Compiles the kernel under `profile` and answers the arguments for `unikernel/build/lld` that link it
/// into any static program. Objects are left in `work_dir`; the running program must begin with
/// [`embed_if_asked`].
///
/// # Panics
///
/// As [`link_image`].
pub fn image_arguments(kernel_target_dir: &Path, work_dir: &Path, profile: &str) -> Vec<String> {
    if !kernel::archive(kernel_target_dir, profile).exists() {
        tell_terminal(
            "compiling the kernel for the first time, which takes minutes; cargo shows nothing of it",
        );
    }
    let kernel = Kernel::compile(kernel_target_dir, work_dir, profile, Output::Kept)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let this_program = env::current_exe().expect("a program knows its own path");
    let tool = format!("--unikernel-image-tool={}", this_program.display());
    [tool].into_iter().chain(kernel.link_arguments()).collect()
}

/// Runs a linker of `.cargo/config.toml` (`lld`, `cc`) outside of rustc.
///
/// # Panics
///
/// If it fails, with its messages.
pub fn run_linker(name: &str, arguments: &[&str]) {
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let outcome = tools::tool_dir().and_then(|tools| {
        let mut path = tools.into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        run(Command::new(wrapper).args(arguments).env("PATH", path), Output::Kept)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// True if the app that is being built has a program without `std`.
fn is_no_std() -> bool {
    fs::read_to_string("src/main.rs")
        .is_ok_and(|source| source.starts_with("#![no_std]") || source.contains("\n#![no_std]"))
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

/// Writes a line to the terminal, if there is one: cargo keeps what build scripts print to itself.
fn tell_terminal(text: &str) {
    if let Ok(mut terminal) = fs::OpenOptions::new().write(true).open("/dev/tty") {
        // Over cargo's progress bar, which comes again. Who cannot be told loses nothing.
        let _ = writeln!(terminal, "\r\x1b[K        Note {text}");
    }
}
