//! Modules: a package that uses `unikernel-module`, compiled as a static library and linked to one relocatable object, whose undefined names
//! are those of the kernel and of other modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain;
use crate::tools::{Failure, Output, cargo, run};

/// The name by which the kernel finds the module in the object. It keeps everything else alive through `--gc-sections`.
const DESCRIPTOR: &str = "unikernel_module";
const TARGET: &str = "x86_64-unknown-none";
/// Position-independent, so that it can be loaded anywhere, and with frame pointers, which backtraces follow.
const FLAGS: &str = "-Crelocation-model=pic -Cforce-frame-pointers=yes";
/// One small object of all crates, whatever the package's own profile says.
const PROFILE: [&str; 5] = [
    "profile.release.lto='fat'",
    "profile.release.panic='abort'",
    "profile.release.codegen-units=1",
    "profile.release.opt-level='s'",
    "profile.release.debug=false",
];

/// Builds the package in a folder into `target_dir`, and writes the module to `file`.
pub fn build_module(folder: &Path, target_dir: &Path, file: &Path, output: Output) -> Result<(), Failure> {
    let archive = compile(folder, target_dir, output)?;
    let new = file.with_extension(format!("ko.{}", std::process::id()));
    run(
        Command::new(toolchain::linker()?)
            .args(["-flavor", "gnu", "-r", "--gc-sections", "-u", DESCRIPTOR, "-T"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("module.ld"))
            .arg("-o")
            .arg(&new)
            .arg(&archive),
        Output::Kept,
    )?;
    run(toolchain::objcopy()?.arg("--strip-debug").arg(&new), Output::Kept)?;
    fs::rename(&new, file).map_err(|error| Failure::of_file(file, &error))
}

fn compile(folder: &Path, target_dir: &Path, output: Output) -> Result<PathBuf, Failure> {
    let mut cargo = cargo();
    // From there, so that the package's own settings count.
    cargo.current_dir(folder).args(["rustc", "--lib", "--crate-type", "staticlib", "--release"]);
    cargo.args(["--features", "loadable", "--target", TARGET, "--target-dir"]).arg(target_dir);
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    run(cargo.env("RUSTFLAGS", FLAGS), output)?;
    let name = library_name(folder)?;
    Ok(target_dir.join(TARGET).join("release").join(format!("lib{name}.a")))
}

/// What cargo calls the package's library, by its manifest.
fn library_name(folder: &Path) -> Result<String, Failure> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let name = name_in(&text, "[lib]").or_else(|| name_in(&text, "[package]"));
    let name = name.ok_or_else(|| Failure::new(format!("{} names no package", path.display())))?;
    Ok(name.replace('-', "_"))
}

/// The `name` in a table of a manifest.
fn name_in(manifest: &str, table: &str) -> Option<String> {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != table).skip(1);
    lines.by_ref().take_while(|line| !line.trim_start().starts_with('[')).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn libraries_are_named_by_their_manifests() {
        let manifest =
            "[package]\nname = \"my-fan\"\n\n[lib]\ndoctest = false\n[dependencies]\nname = \"x\"\n";
        assert_eq!(name_in(manifest, "[package]").as_deref(), Some("my-fan"));
        assert_eq!(name_in(manifest, "[lib]"), None);
        assert_eq!(name_in("[lib]\nname=\"fan\"", "[lib]").as_deref(), Some("fan"));
    }
}
