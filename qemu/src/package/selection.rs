//! Which programs to build. The options are cargo's, and what is left out means what it means there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Deserialize;

use super::features::{Features, enabled};
use crate::project::{TARGET, cargo, did_you_mean};

/// Options that are handed on to cargo as they are.
const FLAGS: [&str; 8] = [
    "all-features",
    "no-default-features",
    "locked",
    "offline",
    "frozen",
    "ignore-rust-version",
    "keep-going",
    "quiet",
];
const WITH_VALUE: [&str; 6] = ["features", "jobs", "config", "color", "target-dir", "lockfile-path"];
/// Those of them that `cargo metadata` knows too.
const FOR_METADATA: [&str; 6] = ["locked", "offline", "frozen", "config", "lockfile-path", "color"];
/// Further ones, where dependencies are asked for.
const FOR_GRAPH: [&str; 3] = ["features", "all-features", "no-default-features"];

/// What of a package to build, and how.
#[derive(Clone, Default, Debug)]
pub(crate) struct PackageOptions {
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) package: Option<String>,
    pub(crate) binaries: Vec<String>,
    pub(crate) examples: Vec<String>,
    /// Cargo's profile; `dev` if none is named.
    pub(crate) profile: Option<String>,
    pub(crate) target: Option<String>,
    /// What else cargo is told: the name of the option without dashes, its value.
    pub(crate) handed_on: Vec<(String, Option<OsString>)>,
    /// Debug information stays in the image.
    pub(crate) keeps_debug: bool,
}

impl PackageOptions {
    pub(crate) fn target(&self) -> &str {
        self.target.as_deref().unwrap_or(TARGET)
    }

    pub(crate) fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or("dev")
    }

    /// Cargo's folder for the profile's output.
    pub(crate) fn profile_folder(&self) -> &str {
        match self.profile() {
            "dev" | "test" => "debug",
            "bench" => "release",
            profile => profile,
        }
    }

    /// The options for a cargo command: those that every command knows, or all.
    pub(crate) fn arguments(&self, is_for_metadata: bool) -> Vec<OsString> {
        let manifest = self.manifest.iter().flat_map(|path| ["--manifest-path".into(), path.into()]);
        let handed = self.handed_on(|name| !is_for_metadata || FOR_METADATA.contains(&name));
        manifest.chain(handed).collect()
    }

    /// Those for `cargo metadata` of a whole graph, but for the manifest.
    pub(crate) fn graph_arguments(&self) -> Vec<OsString> {
        self.handed_on(|name| FOR_METADATA.contains(&name) || FOR_GRAPH.contains(&name))
    }

    fn handed_on(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<OsString> {
        let wanted = self.handed_on.iter().filter(|(name, _)| is_wanted(name));
        let words = |(name, value): &(String, Option<OsString>)| {
            [Some(format!("--{name}").into()), value.clone()].into_iter().flatten()
        };
        wanted.flat_map(words).collect()
    }
}

/// Takes an option, as `--name` or `-n`, if it is one about packages; true if it was.
pub(crate) fn take_option(
    option: &str,
    options: &mut PackageOptions,
    parser: &mut lexopt::Parser,
) -> Result<bool> {
    match option {
        "-p" | "--package" => options.package = Some(parser.value()?.string()?),
        "--bin" => options.binaries.push(parser.value()?.string()?),
        "--example" => options.examples.push(parser.value()?.string()?),
        "-r" | "--release" => options.profile = Some("release".into()),
        "--profile" => options.profile = Some(parser.value()?.string()?),
        "--target" => options.target = Some(parser.value()?.string()?),
        "--manifest-path" => options.manifest = Some(parser.value()?.into()),
        "--keep-debug" => options.keeps_debug = true,
        _ => {
            let name = match option {
                "-F" => "features",
                "-j" => "jobs",
                "-q" => "quiet",
                _ => option.trim_start_matches("--"),
            };
            let value = match () {
                () if FLAGS.contains(&name) => None,
                () if WITH_VALUE.contains(&name) => Some(parser.value()?),
                () => return Ok(false),
            };
            options.handed_on.push((name.to_owned(), value));
        }
    }
    Ok(true)
}

/// A package as `cargo metadata` shows it.
#[derive(Clone, Deserialize, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    default_run: Option<String>,
    #[serde(default)]
    features: Features,
}

#[derive(Clone, Deserialize, Debug)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

/// A program of a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) is_example: bool,
    pub(super) source: PathBuf,
}

/// What the options mean in the folder where the user is.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) package: Package,
    pub(super) programs: Vec<Program>,
    pub(super) target_dir: PathBuf,
    pub(super) workspace_root: PathBuf,
    /// True if the package is the only one of its workspace.
    pub(super) is_alone: bool,
}

/// Finds the package and its programs. `one` asks for the single program that `run` can mean.
pub(super) fn select(options: &PackageOptions, one: bool) -> Result<Selection> {
    let metadata = metadata(options)?;
    let here = match &options.manifest {
        Some(manifest) => manifest.parent().map(Path::to_owned).unwrap_or_default(),
        None => std::env::current_dir().context("the current folder is gone")?,
    };
    let here = std::path::absolute(here)?;
    let package = choose_package(&metadata.packages, options, &here)?.clone();
    let programs = choose_programs(&package, options, one)?;
    let named = options.handed_on.iter().rev().find(|(name, _)| name == "target-dir");
    let target_dir = match named {
        Some((_, Some(folder))) => std::path::absolute(folder)?,
        _ => metadata.target_directory,
    };
    let is_alone = metadata.packages.len() == 1;
    Ok(Selection { package, programs, target_dir, workspace_root: metadata.workspace_root, is_alone })
}

/// The package that the options mean.
pub(crate) fn package_of(options: &PackageOptions) -> Result<Package> {
    Ok(select(options, false)?.package)
}

fn metadata(options: &PackageOptions) -> Result<Metadata> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).args(options.arguments(true));
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let message = message.trim().trim_start_matches("error: ");
        let hint = match message.contains("could not find `Cargo.toml`") {
            true => {
                "\n`cargo unikernel new NAME` makes a new server here; `cargo unikernel run ELF` boots an image"
            }
            false => "",
        };
        bail!("{message}{hint}");
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata answers in an unknown form")
}

impl Package {
    fn programs(&self, kind: &'static str) -> impl Iterator<Item = Program> + '_ {
        let is_kind = move |target: &&Target| target.kind.iter().any(|word| word == kind);
        self.targets.iter().filter(is_kind).map(move |target| Program {
            name: target.name.clone(),
            is_example: kind == "example",
            source: target.src_path.clone(),
        })
    }

    /// The programs that no features are missing for, as cargo chooses when nothing is named.
    fn possible_programs(&self, options: &PackageOptions) -> Result<Vec<Program>> {
        let enabled = enabled(&self.features, options);
        let missing = |program: &Program| {
            let is_it = |target: &&Target| {
                target.name == program.name && target.kind.iter().any(|kind| kind == "bin")
            };
            let required =
                self.targets.iter().find(is_it).map_or(&[][..], |target| &target.required_features);
            // Only of its own features is it known whether they are on.
            let is_missing = |name: &&String| self.features.contains_key(*name) && !enabled.contains(*name);
            required.iter().find(is_missing)
        };
        let programs: Vec<Program> = self.programs("bin").collect();
        let needed = programs.iter().find_map(missing);
        let possible: Vec<Program> =
            programs.iter().filter(|program| missing(program).is_none()).cloned().collect();
        match needed {
            Some(feature) if possible.is_empty() => {
                bail!("the programs of `{}` need features: build with `--features {feature}`", self.name)
            }
            _ => Ok(possible),
        }
    }

    pub(crate) fn manifest(&self) -> &Path {
        &self.manifest_path
    }

    pub(super) fn build_script(&self) -> Option<&Path> {
        let is_script = |target: &&Target| target.kind.iter().any(|word| word == "custom-build");
        self.targets.iter().find(is_script).map(|target| target.src_path.as_path())
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    pub(super) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

/// The named package; else that of the folder; else the only one of the workspace that has what is asked for.
fn choose_package<'a>(packages: &'a [Package], options: &PackageOptions, here: &Path) -> Result<&'a Package> {
    let names = || packages.iter().map(|package| package.name.as_str());
    if let Some(name) = &options.package {
        let found = packages.iter().find(|package| package.name == *name);
        let hint = did_you_mean(name, names());
        return found.with_context(|| format!("the workspace has no package `{name}`{hint}"));
    }
    let around = packages.iter().filter(|package| here.starts_with(package.folder()));
    if let Some(package) = around.max_by_key(|package| package.folder().as_os_str().len()) {
        return Ok(package);
    }
    let has = |package: &&Package| {
        let mut wanted = options.binaries.iter().map(|name| (name, "bin"));
        let mut examples = options.examples.iter().map(|name| (name, "example"));
        wanted.all(|(name, kind)| package.programs(kind).any(|program| program.name == *name))
            && examples.all(|(name, kind)| package.programs(kind).any(|program| program.name == *name))
            && (!options.examples.is_empty() || package.programs("bin").next().is_some())
    };
    let candidates: Vec<&Package> = packages.iter().filter(has).collect();
    match candidates[..] {
        [package] => Ok(package),
        [] => bail!("no package of the workspace has such a program: it has {}", list(names())),
        _ => bail!(
            "which package? Choose with -p: {}",
            list(candidates.iter().map(|package| package.name.as_str()))
        ),
    }
}

fn choose_programs(package: &Package, options: &PackageOptions, one: bool) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for (names, kind) in [(&options.binaries, "bin"), (&options.examples, "example")] {
        for name in names {
            let known: Vec<Program> = package.programs(kind).collect();
            let Some(program) = known.iter().find(|program| program.name == *name) else {
                let names = known.iter().map(|program| program.name.as_str());
                bail!("`{}` has no {kind} `{name}`: it has {}", package.name, list(names));
            };
            programs.push(program.clone());
        }
    }
    if programs.is_empty() {
        programs = package.possible_programs(options)?;
        if let Some(default) = package.default_run.as_ref().filter(|_| one) {
            programs.retain(|program| program.name == *default);
        }
    }
    let names = || list(programs.iter().map(|program| program.name.as_str()));
    ensure!(!programs.is_empty(), "{}", about_library(package));
    ensure!(!one || programs.len() == 1, "which program? Choose with --bin: {}", names());
    Ok(programs)
}

fn about_library(package: &Package) -> String {
    let examples: Vec<Program> = package.programs("example").collect();
    let hint = if examples.is_empty() {
        String::new()
    } else {
        let names = list(examples.iter().map(|example| example.name.as_str()));
        format!(", or one of its examples (`cargo unikernel run --example NAME`: {names})")
    };
    format!("`{}` is a library: an appliance needs a program (src/main.rs){hint}", package.name)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
