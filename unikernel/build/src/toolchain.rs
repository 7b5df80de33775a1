//! The programs of the Rust toolchain that make images.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::segments;
use crate::tools::{Failure, Output, output_of, run, told_by_rustc};

/// The toolchain's own linker.
pub fn linker() -> Result<PathBuf, Failure> {
    Ok(tool_dir()?.join("rust-lld"))
}

fn objcopy_path() -> Result<PathBuf, Failure> {
    Ok(tool_dir()?.join("rust-objcopy"))
}

/// The toolchain's objcopy, which finds its LLVM library only when told where.
pub(crate) fn objcopy() -> Result<Command, Failure> {
    let mut command = Command::new(objcopy_path()?);
    command.env("LD_LIBRARY_PATH", sysroot()?.join("lib"));
    Ok(command)
}

/// True if the toolchain's component with objcopy is installed.
pub fn has_objcopy() -> bool {
    objcopy_path().is_ok_and(|program| program.exists())
}

/// True if the toolchain has the standard library of a target.
pub fn has_target(target: &str) -> bool {
    told_by_rustc(&["target-libdir", "--target", target]).is_ok_and(|folder| Path::new(&folder).exists())
}

/// Moves what only a debugger reads out of `image` into the file `debug`, to which `image` then refers.
pub fn split_debug(image: &Path, debug: &Path) -> Result<(), Failure> {
    run(objcopy()?.arg("--only-keep-debug").arg(image).arg(debug), Output::Kept)?;
    let unread = |error: std::io::Error| Failure::new(format!("{}: {error}", debug.display()));
    let mut file = std::fs::read(debug).map_err(unread)?;
    // Before the image gets the file's checksum.
    if segments::raise(&mut file) {
        std::fs::write(debug, file).map_err(unread)?;
    }
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(debug);
    run(objcopy()?.arg("--strip-all").arg(link).arg(image), Output::Kept)
}

/// The C library that programs for a target are linked with: musl comes with Rust's target, the GNU one from this host.
pub fn c_library(target: &str) -> Result<PathBuf, Failure> {
    if target.ends_with("-musl") {
        return Ok(sysroot()?.join("lib/rustlib").join(target).join("lib/self-contained/libc.a"));
    }
    let told = output_of(Command::new("cc").arg("-print-file-name=libc.a"))?.stdout;
    Ok(PathBuf::from(String::from_utf8_lossy(&told).trim()))
}

fn sysroot() -> Result<PathBuf, Failure> {
    told_by_rustc(&["sysroot"]).map(PathBuf::from)
}

/// Where the toolchain keeps the programs that are not meant for users.
pub(crate) fn tool_dir() -> Result<PathBuf, Failure> {
    Ok(sysroot()?.join("lib/rustlib").join(told_by_rustc(&["host-tuple"])?).join("bin"))
}
