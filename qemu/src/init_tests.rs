//! `cargo unikernel init`, judged by what plain cargo makes of a package afterwards; our crates as a registry would
//! have them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest_tests::NamedTest;
use crate::package_tests::{
    Folder, check_image, succeeds, text_of, unikernel, usual_environment, write_shapes,
};
use crate::project;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("package_init".to_owned(), Box::new(plain_package)),
        ("package_init_published".to_owned(), Box::new(published_package)),
        ("package_init_by_hand".to_owned(), Box::new(own_script)),
        ("package_init_cost".to_owned(), Box::new(cost_of_check)),
        ("package_as_crates".to_owned(), Box::new(crates)),
        ("package_lists".to_owned(), Box::new(lists)),
    ]
}

const MAIN: &str = r#"
fn main() {
    println!("script says library");
    std::process::exit(std::env::args().count() as i32 + 40);
}
"#;
const MANIFEST: &str = "# mine\n[package]\nname = \"plain\"\nversion = \"1.0.0\"\nedition = \"2024\"\n";

fn write_plain(folder: &Folder) -> Result<()> {
    folder.write("Cargo.toml", MANIFEST)?;
    folder.write("src/main.rs", MAIN)?;
    folder.write(".cargo/config.toml", "[build]\nrustflags = [\"-Dwarnings\"]\n")?;
    Ok(())
}

/// `cargo` in a folder, as a user without this tool has it, with the same cache for the kernel.
fn cargo(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(folder);
    usual_environment(&mut command)?;
    Ok(command)
}

/// Shown, made, made once; then cargo alone makes the image.
fn plain_package() -> Result<()> {
    let folder = Folder::new("init")?;
    write_plain(&folder)?;
    let shown = succeeds(unikernel(&folder.0, ["init", "--dry-run"])?)?;
    for line in ["+ [build-dependencies]", "+     unikernel_build::link_image();", "+ target ="] {
        ensure!(shown.contains(line), "no {line:?} in:\n{shown}");
    }
    let manifest = || fs::read_to_string(folder.0.join("Cargo.toml"));
    ensure!(manifest()? == MANIFEST && !folder.0.join("build.rs").exists(), "a dry run has changed files");
    succeeds(unikernel(&folder.0, ["init"])?)?;
    let changed = manifest()?;
    ensure!(changed.starts_with(MANIFEST), "{changed}");
    let again = succeeds(unikernel(&folder.0, ["init"])?)?;
    ensure!(again.contains("nothing to change") && manifest()? == changed, "{again}");
    succeeds(cargo(&folder.0, &["build", "--release"])?)?;
    let image = folder.0.join("target").join(project::TARGET).join("release/plain");
    check_image(&folder, &image)?;
    // A linker that takes no kernel is named, with the lines to add.
    let mut command = cargo(&folder.0, &["build", "--release"])?;
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
    let output = command.output()?;
    ensure!(!output.status.success() && text_of(&output).contains("linker = \"cc\""), "{}", text_of(&output));
    // Still a program of any other kind, too.
    succeeds(cargo(&folder.0, &["build", "--target", project::GNU_TARGET])?)?;
    Ok(())
}

/// As `cargo publish` writes it: `build = false` stands in the manifest of every package without a build script.
fn published_package() -> Result<()> {
    let folder = Folder::new("init published")?;
    write_plain(&folder)?;
    let refusal = "build = false\n";
    folder.write("Cargo.toml", &format!("{MANIFEST}{refusal}autobins = true\n"))?;
    let shown = succeeds(unikernel(&folder.0, ["init"])?)?;
    ensure!(shown.contains("- build = false"), "{shown}");
    succeeds(cargo(&folder.0, &["build", "--release"])?)?;
    check_image(&folder, &folder.0.join("target").join(project::TARGET).join("release/plain"))?;
    // Said on purpose, beside a script that is there: theirs to decide.
    let manifest = format!("{MANIFEST}{refusal}");
    folder.write("Cargo.toml", &manifest)?;
    let output = unikernel(&folder.0, ["init"])?.output()?;
    ensure!(!output.status.success() && text_of(&output).contains("take that away"), "{}", text_of(&output));
    ensure!(fs::read_to_string(folder.0.join("Cargo.toml"))? == manifest, "a refused package was changed");
    Ok(())
}

/// A build script of somebody's, a workspace, a library: nothing is changed, and what to add is said.
fn own_script() -> Result<()> {
    let folder = Folder::new("init by hand")?;
    write_shapes(&folder)?;
    let files = ["shaped/Cargo.toml", "shaped/build.rs", ".cargo/config.toml"];
    let read = || files.map(|file| fs::read_to_string(folder.0.join(file)).unwrap_or_default());
    let before = read();
    let text = succeeds(unikernel(&folder.0, ["init", "-p", "shaped"])?)?;
    ensure!(
        text.contains("unikernel_build::link_image();") && text.contains("[build-dependencies]"),
        "{text}"
    );
    ensure!(read() == before, "files were changed");
    let output = unikernel(&folder.0, ["init", "-p", "other"])?.output()?;
    ensure!(text_of(&output).contains("`other` is a library"), "{}", text_of(&output));
    // With the build script as it was told, and in a workspace, whose settings stay.
    let line = text.lines().find(|line| line.contains("unikernel-build = ")).context("a dependency")?;
    folder.write("shaped/Cargo.toml", &format!("{}\n[build-dependencies]\n{}\n", before[0], line.trim()))?;
    folder.write("shaped/build.rs", &before[1].replace("{ ", "{ unikernel_build::link_image(); "))?;
    let text = succeeds(unikernel(&folder.0, ["init", "-p", "shaped"])?)?;
    ensure!(text.contains("nothing to change"), "{text}");
    Ok(())
}

/// `cargo check` compiles our one crate and the build script, and neither the kernel nor anything else of ours; nothing
/// is compiled for a second image but the program.
fn cost_of_check() -> Result<()> {
    let folder = Folder::new("init cost")?;
    write_plain(&folder)?;
    let log = folder.0.join("log");
    let text = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"${0%/*}/log\"\nexec \"$@\"\n";
    let wrapper = folder.write("wrapper", text)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let compiled = |arguments: &[&str]| -> Result<Vec<String>> {
        let _ = fs::remove_file(&log);
        let mut command = cargo(&folder.0, arguments)?;
        succeeds({
            command.env("RUSTC_WRAPPER", &wrapper);
            command
        })?;
        let lines = fs::read_to_string(&log)?;
        let name = |line: &str| Some(line.split_once("--crate-name ")?.1.split(' ').next()?.to_owned());
        Ok(lines.lines().filter_map(name).filter(|name| name != "___").collect())
    };
    let before = compiled(&["check"])?;
    ensure!(before == ["plain"], "{before:?}");
    succeeds(unikernel(&folder.0, ["init"])?)?;
    let after = compiled(&["check"])?;
    ensure!(after == ["unikernel_build", "build_script_build", "plain"], "{after:?}");
    // What `package_init` has left, or has not.
    succeeds(cargo(&folder.0, &["build", "--release"])?)?;
    let archives = archives(&unikernel_build::kernel_target_dir()?)?;
    let state = || archives.iter().map(|path| fs::metadata(path)?.modified()).collect::<Result<Vec<_>, _>>();
    let before = state()?;
    fs::remove_dir_all(folder.0.join("target"))?;
    succeeds(cargo(&folder.0, &["build", "--release"])?)?;
    ensure!(!archives.is_empty() && state()? == before, "the kernel was compiled again");
    Ok(())
}

/// The kernels below a folder.
fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("deps") {
            found.extend(archives(&path)?);
        } else if path.ends_with("libunikernel_kernel.a") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Every crate that a user needs can be packaged, with both licences.
fn crates() -> Result<()> {
    let folder = Folder::new("crates")?;
    let metadata = cargo(&project::root(), &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&succeeds(metadata)?)?;
    let packages = metadata["packages"].as_array().context("there are packages")?;
    let is_for_users = |package: &&serde_json::Value| package["publish"].is_null();
    let names = packages.iter().filter(is_for_users).filter_map(|package| package["name"].as_str());
    let names: Vec<&str> = names.collect();
    ensure!(names.contains(&"unikernel") && names.contains(&"unikernel-kernel"), "{names:?}");
    let mut command = cargo(&project::root(), &["package", "--quiet", "--no-verify", "--allow-dirty"])?;
    command.args(names.iter().flat_map(|name| ["-p", name])).arg("--target-dir").arg(&folder.0);
    succeeds(command)?;
    for name in names {
        let file = folder.0.join(format!("package/{name}-{}.crate", env!("CARGO_PKG_VERSION")));
        let archive = fs::File::open(&file).with_context(|| format!("{}", file.display()))?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
        let paths = archive.entries()?.map(|entry| Ok(entry?.path()?.into_owned()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            ensure!(paths.iter().any(|path| path.ends_with(licence)), "{name} has no {licence}");
        }
    }
    Ok(())
}

/// What it is made of: a list that hangs together, with both halves in it, and the licences.
fn lists() -> Result<()> {
    let folder = Folder::new("lists")?;
    write_shapes(&folder)?;
    let text = succeeds(unikernel(&folder.0, ["sbom", "-p", "shaped"])?)?;
    ensure!(!text.contains(&*folder.0.to_string_lossy()), "a folder of this host is in it");
    let list: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(list["metadata"]["component"]["name"] == "shaped", "{}", list["metadata"]);
    let components = list["components"].as_array().context("there are components")?;
    let has = |name: &str| components.iter().any(|it| it["name"] == name && it["scope"] == "required");
    ensure!(has("unikernel-kernel") && has("smoltcp") && has("rust-std"), "a half is missing");
    let known: Vec<_> =
        components.iter().chain([&list["metadata"]["component"]]).map(|it| &it["bom-ref"]).collect();
    for edge in list["dependencies"].as_array().context("there are dependencies")? {
        let ends = edge["dependsOn"].as_array().into_iter().flatten().chain([&edge["ref"]]);
        ensure!(ends.into_iter().all(|end| known.contains(&end)), "unknown: {edge}");
    }
    let text = succeeds(unikernel(&folder.0, ["licenses", "-p", "shaped", "--texts"])?)?;
    ensure!(text.contains("0BSD\n    managed") && text.contains("Permission is hereby granted"), "{text}");
    Ok(())
}
