//! A package's programs as images: cargo compiles and links each with the kernel, and what a debugger reads goes
//! into a file beside it.
//!
//! No file of the package is read or changed for that: what the last link needs stands on cargo's command line
//! (`cargo rustc`), which leaves dependencies, build scripts and `cargo build` as they were.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use unikernel_build::{Kernel, LINKED_OUTSIDE, embed, has_target, image_check, linker, split_debug};

use super::c_library::{self, Failures};
use super::kernel::kernel;
use super::native;
use super::selection::{PackageOptions, Program, Selection, select};
use crate::messages::Message;
use crate::project::{GNU_TARGET, TARGET, cargo};
use crate::unfinished::Unfinished;

/// An appliance's ELF.
#[derive(Debug)]
pub(crate) struct Image {
    /// The program's name.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of the package.
    pub(crate) package: PathBuf,
}

/// Builds the programs that the options mean; only one, if `one` is wanted.
pub(crate) fn build(options: &PackageOptions, one: bool) -> Result<Vec<Image>> {
    check_target(options.target())?;
    let selection = select(options, one)?;
    let kernel = kernel(options.profile())?;
    let folder = selection.target_dir.join("unikernel").join(options.profile_folder());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let image = |program: &Program| {
        let executable = link(options, &selection, program, &kernel)?;
        let path = folder.join(&program.name);
        finish(&executable, &path, &program.name, options.keeps_debug)
            .with_context(|| format!("cannot make the image {}", path.display()))?;
        let package = selection.package.folder().to_owned();
        Ok(Image { name: program.name.clone(), path, package })
    };
    selection.programs.iter().map(image).collect()
}

fn check_target(target: &str) -> Result<()> {
    ensure!(
        [TARGET, GNU_TARGET].contains(&target),
        "there is no kernel for the target {target}: there are {TARGET} and {GNU_TARGET}"
    );
    Ok(())
}

/// Has cargo compile and link one program; answers the linked file.
fn link(
    options: &PackageOptions,
    selection: &Selection,
    program: &Program,
    kernel: &Kernel,
) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "rustc",
        "--message-format",
        c_library::message_format(),
        "--package",
        &selection.package.name,
    ]);
    command.args(["--target", options.target(), "--profile", options.profile()]);
    command.args([if program.is_example { "--example" } else { "--bin" }, &program.name]);
    command.args(options.arguments(false));
    prepare(&mut command, options.target())?;
    command.arg("--").args(rustc_arguments(options.target(), kernel));
    if is_without_std(&program.source) {
        // There is no unwinder without `std`, and cargo cannot give one program a panic strategy.
        command.arg("-Cpanic=abort");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = BufReader::new(child.stdout.take().context("the output is piped")?);
    let (mut executable, mut failures) = (None, Failures::default());
    for line in output.lines() {
        let line = line?;
        let Some(message) = Message::parse(&line) else { continue };
        failures.take(&message);
        let kind = if program.is_example { "example" } else { "bin" };
        let is_it = message.reason == "compiler-artifact"
            && message.target.is_some_and(|target| target.name == program.name && target.is(kind));
        if is_it {
            executable = message.executable.or(executable);
        }
    }
    if !child.wait()?.success() {
        let hint = hint(options.target())
            + &native::hint(options, selection, program.is_example)
            + &failures.hint(options.target(), &selection.package.name);
        bail!("`{}` was not built: cargo's messages are above{hint}", program.name);
    }
    executable.with_context(|| format!("cargo built no program `{}`", program.name))
}

/// What is often the reason.
fn hint(target: &str) -> String {
    if has_target(target) {
        String::new()
    } else {
        format!("\nthe target is missing: run `rustup target add {target}`")
    }
}

/// What cargo itself must know: the linker, and how C code in crates is compiled. Settings of the user's that say
/// so already win.
fn prepare(command: &mut Command, target: &str) -> Result<()> {
    command.env(LINKED_OUTSIDE, "1");
    let program = if target == TARGET { linker()?.display().to_string() } else { "cc".to_owned() };
    command.arg("--config").arg(format!("target.{target}.linker={}", toml::Value::String(program)));
    // For backtraces of the kernel's; beside the user's own flags, never in their place.
    command.args(["--config", "build.rustflags=['-Cforce-frame-pointers=yes']"]);
    if target == TARGET && std::env::var_os("CC_x86_64_unknown_linux_musl").is_none() {
        command.env("CC_x86_64_unknown_linux_musl", "musl-gcc");
    }
    Ok(())
}

fn rustc_arguments(target: &str, kernel: &Kernel) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "-Crelocation-model=static".into(),
        "-Cforce-frame-pointers=yes".into(),
        "-Ctarget-feature=+crt-static".into(),
        // Whatever the profile says: names are needed until the image is made, and go then.
        "-Cstrip=none".into(),
    ];
    if target == TARGET {
        arguments.push("-Clink-self-contained=yes".into());
    }
    for argument in kernel.link_arguments() {
        // gcc hands on what is the linker's alone.
        let prefix = if target != TARGET && argument.starts_with("--") { "-Wl," } else { "" };
        arguments.push(format!("-Clink-arg={prefix}{argument}").into());
    }
    arguments
}

fn is_without_std(source: &Path) -> bool {
    let text = fs::read_to_string(source).unwrap_or_default();
    text.lines().any(|line| line.trim() == "#![no_std]")
}

/// Makes the image from the linked file, which stays as cargo knows it.
fn finish(executable: &Path, image: &Path, name: &str, keeps_debug: bool) -> Result<()> {
    // A running QEMU or a second build may read the old one.
    let unfinished = Unfinished::new(image);
    let new = unfinished.path();
    fs::copy(executable, new)?;
    embed(new, name)?;
    let faults = image_check::check(&fs::read(new)?);
    if let Some(fault) = faults.first() {
        bail!("{fault}");
    }
    if !keeps_debug {
        let mut debug = image.as_os_str().to_owned();
        debug.push(".debug");
        split_debug(new, Path::new(&debug))?;
    }
    Ok(unfinished.finish()?)
}
