//! The build script as linker, for packages that any linker's settings may reach: nothing but C compilers find
//! programs called `ld` in a folder that they are told (`-B`, as GCC and Clang both have it).
//!
//! While cargo checks or compiles, this crate does nothing that takes time, and has no dependencies. When a program is
//! linked, the compiler calls the build script by the name `ld`; it has cargo build `link-program`, once for all
//! packages, and hands it the arguments.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use crate::sources::{self, cache_dir};
use crate::tools::{Failure, Output, run, told_by_rustc};

/// What C compilers call a linker, each for another setting of the user's.
const NAMES: [&str; 5] = ["ld", "ld.bfd", "ld.gold", "ld.lld", "ld.mold"];
/// Tells the linker which kernel to put in. Another linker that is called in spite of all does not know the option,
/// says so, and leaves no program behind that looks like an image.
pub(crate) const KERNEL_OPTION: &str = "--unikernel-kernel=";
const TOOL: &str = "link-program";

/// True if this process was started as a linker.
pub(crate) fn is_linker() -> bool {
    let name = env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name);
    name.is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// Puts the names into a folder, and answers the arguments for the compiler that links.
pub(crate) fn arguments(out_dir: &Path, kernel_profile: &str) -> io::Result<[String; 3]> {
    let folder = out_dir.join("linker");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(&folder)?,
    }
    let this_program = env::current_exe()?;
    for name in NAMES {
        symlink(&this_program, folder.join(name))?;
    }
    // The last choice of a linker counts, and `bfd` is one that no folder of the toolchain has.
    Ok([
        format!("-B{}", folder.display()),
        "-fuse-ld=bfd".to_owned(),
        format!("-Wl,{KERNEL_OPTION}{kernel_profile}"),
    ])
}

/// Links in place of this process.
pub(crate) fn link() -> Failure {
    let tool = match tool() {
        Ok(tool) => tool,
        Err(failure) => return failure,
    };
    let error = Command::new(&tool).args(env::args_os().skip(1)).exec();
    Failure::new(format!("cannot run {}: {error}", tool.display()))
}

/// The program that links, compiled now if it was not before.
fn tool() -> Result<PathBuf, Failure> {
    let host = told_by_rustc(&["host-tuple"])?;
    let target_dir = cache_dir()?.join("target");
    let mut cargo = sources::build_tools();
    cargo.args(["--release", "--bin", TOOL, "--target", &host, "--target-dir"]);
    run(cargo.arg(&target_dir), Output::Kept)?;
    Ok(target_dir.join(host).join("release").join(TOOL))
}

/// True if the program that is built stands alone: no other kind can be booted. The variables are those of a build
/// script, whose list of features leaves out what is a target's own choice.
pub(crate) fn is_static(variable: impl Fn(&str) -> Option<String>) -> bool {
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_said = match (flags.rfind("+crt-static"), flags.rfind("-crt-static")) {
        (None, None) => None,
        (with, without) => Some(with > without),
    };
    match variable("TARGET").as_deref() {
        Some("x86_64-unknown-linux-musl") => is_said.unwrap_or(true),
        Some("x86_64-unknown-linux-gnu") => is_said.unwrap_or(false),
        _ => false,
    }
}

/// What has to be changed for a linker of the user's settings, which are variables of a build script.
pub(crate) fn problem(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let target = variable("TARGET")?;
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let flag = |name: &str| {
        let flags = flags.split('\u{1f}');
        flags.filter_map(|flag| flag.strip_prefix("-C").unwrap_or(flag).strip_prefix(name)).next_back()
    };
    let linker = flag("linker=").map(str::to_owned).or_else(|| variable("RUSTC_LINKER"));
    let linker = linker.unwrap_or_else(|| "cc".to_owned());
    let name = Path::new(&linker).file_name().unwrap_or_default().to_string_lossy();
    let has_path = flag("link-arg=-fuse-ld=/").or_else(|| flag("link-arg=--ld-path")).is_some();
    let is_compiler = ["cc", "gcc", "clang", "c++"].iter().any(|known| name.contains(known));
    if is_compiler && !has_path {
        return None;
    }
    let what = if is_compiler { "a linker by its path".to_owned() } else { format!("`{linker}`") };
    Some(format!(
        "your settings have {target} linked by {what}, where the kernel cannot be put in. Either take that away, or say \
         in .cargo/config.toml\n\n    [target.{target}]\n    linker = \"cc\"\n\nor make the image by \
         `cargo unikernel build`, which needs no such setting."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> String {
        let all = [&[("TARGET", "x86_64-unknown-linux-musl")], variables].concat();
        let find =
            |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        problem(find).unwrap_or_default()
    }

    #[test]
    fn compilers_link() {
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[("RUSTC_LINKER", "/usr/bin/x86_64-linux-musl-gcc")]), "");
        let flags = "-Clinker=clang\u{1f}-C\u{1f}link-arg=-fuse-ld=mold";
        assert_eq!(told(&[("RUSTC_LINKER", "rust-lld"), ("CARGO_ENCODED_RUSTFLAGS", flags)]), "");
    }

    #[test]
    fn static_programs_get_a_kernel() {
        let is = |target: &str, flags: &str| {
            is_static(|name| Some(if name == "TARGET" { target } else { flags }.to_owned()))
        };
        let (musl, gnu) = ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu");
        assert!(is(musl, "-Dwarnings") && !is(musl, "-Ctarget-feature=-crt-static"));
        assert!(!is(gnu, "") && is(gnu, "-Ctarget-feature=-crt-static\u{1f}-Ctarget-feature=+crt-static"));
        assert!(!is("aarch64-unknown-linux-musl", ""));
    }

    #[test]
    fn others_are_named_with_the_lines_to_add() {
        for variables in [
            ("RUSTC_LINKER", "rust-lld"),
            ("CARGO_ENCODED_RUSTFLAGS", "-Clinker=/usr/bin/mold"),
            ("CARGO_ENCODED_RUSTFLAGS", "-C\u{1f}link-arg=-fuse-ld=/usr/bin/mold"),
        ] {
            let text = told(&[variables]);
            assert!(text.contains("[target.x86_64-unknown-linux-musl]\n    linker = \"cc\""), "{text}");
        }
    }
}
