//! The linker wrappers of this repository (`lld` and `cc` beside the manifest, named in its `.cargo/config.toml`): the
//! build script compiles the kernel and hands them the arguments, and they call it again for the last step.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::tools::{Output, run};
use crate::{Kernel, embed, kernel_profile, settings, toolchain};

/// How the linker wrapper (`lld` beside this crate's manifest) asks for the last step.
const EMBED_VARIABLE: &str = "UNIKERNEL_EMBED_SYMBOLS";

/// True if this build has the wrappers: that of the linker, or that of the compiler, which may choose the linker.
pub(crate) fn is_set_up() -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = ["RUSTC_LINKER", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
    let mut programs = names.iter().filter_map(env::var_os);
    programs.any(|program| ["lld", "cc", "rustc"].iter().any(|name| folder.join(name) == *program))
}

/// Compiles the kernel and emits the link arguments that make the app an image.
pub(crate) fn link_image(out_dir: &Path) {
    if let Some(problem) = settings::problem(|name| env::var(name).ok(), is_no_std()) {
        panic!("{problem}");
    }
    let profile = kernel_profile(&env::var("PROFILE").unwrap_or_default());
    for argument in image_arguments(&kernel_target_dir(out_dir), out_dir, profile) {
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
pub(crate) fn program_name(path: &Path) -> String {
    let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    env::var("CARGO_BIN_NAME").unwrap_or_else(|_| file())
}

/// Compiles the kernel under `profile` and answers the arguments for `unikernel/build/lld` that link it
/// into any static program. Objects are left in `work_dir`; the running program must begin with
/// [`embed_if_asked`].
///
/// # Panics
///
/// If a tool is missing or fails, with what to do about it.
pub fn image_arguments(kernel_target_dir: &Path, work_dir: &Path, profile: &str) -> Vec<String> {
    if !Kernel::is_compiled(kernel_target_dir, profile) {
        tell_of_kernel();
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
    let outcome = toolchain::tool_dir().and_then(|tools| {
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

/// One folder for the kernel's artefacts beside the app's, so that all apps share one compilation.
fn kernel_target_dir(out_dir: &Path) -> PathBuf {
    // OUT_DIR is <target>/<triple>/<profile>/build/<package>/out.
    let target_dir = out_dir.ancestors().nth(5).expect("OUT_DIR has cargo's layout");
    target_dir.join("kernel")
}

/// Compiling the kernel takes minutes, and cargo keeps what build scripts and linkers print to itself: a line for
/// the terminal, if there is one.
pub(crate) fn tell_of_kernel() {
    if let Ok(mut terminal) = fs::OpenOptions::new().write(true).open("/dev/tty") {
        let text = "compiling the kernel for the first time, which takes minutes; cargo shows nothing of it";
        // Over cargo's progress bar, which comes again. Who cannot be told loses nothing.
        let _ = writeln!(terminal, "\r\x1b[K        Note {text}");
    }
}
