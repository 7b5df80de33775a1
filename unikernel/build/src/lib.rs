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

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    if embed_if_asked() {
        return;
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    watch(unikernel_dir());
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
    symbols::embed(Path::new(&image)).expect("the linked image can be read and written");
    true
}

/// Compiles the kernel under `profile` and answers the arguments for `unikernel/build/lld` that link it
/// into any static program. Objects are left in `work_dir`; the running program must begin with
/// [`embed_if_asked`].
///
/// # Panics
///
/// As [`link_image`].
pub fn image_arguments(kernel_target_dir: &Path, work_dir: &Path, profile: &str) -> Vec<String> {
    let archive = compile_kernel(unikernel_dir(), kernel_target_dir, profile);
    let linked = work_dir.join("kernel.o");
    let localised = work_dir.join("kernel-local.o");
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

    let this_program = env::current_exe().expect("a program knows its own path");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image.ld");
    vec![
        format!("--unikernel-image-tool={}", this_program.display()),
        localised.display().to_string(),
        format!("--undefined={KERNEL_ENTRY}"),
        "-T".to_owned(),
        script.display().to_string(),
    ]
}

/// Runs a linker of `.cargo/config.toml` (`lld`, `cc`) outside of rustc.
///
/// # Panics
///
/// If it fails, with its messages.
pub fn run_linker(name: &str, arguments: &[&str]) {
    let mut path = tools::tool_dir().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    run(Command::new(wrapper).args(arguments).env("PATH", path));
}

fn unikernel_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in unikernel/build")
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

fn compile_kernel(unikernel_dir: &Path, target_dir: &Path, profile: &str) -> PathBuf {
    const TARGET: &str = "x86_64-unknown-none";
    let archive = target_dir.join(TARGET).join(profile).join("libunikernel_kernel.a");
    if !archive.exists() {
        tell_terminal(
            "compiling the kernel for the first time, which takes minutes; cargo shows nothing of it",
        );
    }
    let mut cargo = Tool::cargo();
    cargo
        .current_dir(unikernel_dir)
        .args(["build", "--profile", profile, "-p", "unikernel-kernel", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .env("RUSTFLAGS", KERNEL_FLAGS);
    run(&mut cargo);
    archive
}

/// Writes a line to the terminal, if there is one: cargo keeps what build scripts print to itself.
fn tell_terminal(text: &str) {
    if let Ok(mut terminal) = fs::OpenOptions::new().write(true).open("/dev/tty") {
        // Over cargo's progress bar, which comes again. Who cannot be told loses nothing.
        let _ = writeln!(terminal, "\r\x1b[K        Note {text}");
    }
}
