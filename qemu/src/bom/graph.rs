//! The crates of an appliance, as `cargo metadata` resolves them for the program's target and for the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use unikernel_build::kernel_manifest;

use super::libraries;
use crate::package::{PackageOptions, package_of};
use crate::project::cargo;

const KERNEL: &str = "unikernel-kernel";
const KERNEL_TARGET: &str = "x86_64-unknown-none";

/// A crate, or what else is in an image.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: String,
    /// As an SPDX expression.
    pub(super) license: Option<String>,
    pub(super) description: Option<String>,
    pub(super) repository: Option<String>,
    /// Where cargo has it from; nothing for a folder.
    pub(super) source: Option<String>,
    /// Of the published archive, as in `Cargo.lock`.
    pub(super) sha256: Option<String>,
    /// False if it only runs while others are compiled.
    pub(super) is_in_image: bool,
    /// True for what cargo knows.
    pub(super) is_crate: bool,
    /// Where its files are.
    pub(super) folder: Option<PathBuf>,
    pub(super) dependencies: BTreeSet<String>,
}

/// All of them, by cargo's ids.
#[derive(Debug)]
pub(super) struct Graph {
    /// The program's package.
    pub(super) root: String,
    pub(super) components: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `dev`, `build`, or nothing for a usual dependency.
    kind: Option<String>,
}

#[derive(Deserialize, Default)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Graph {
    /// That of the package that the options mean.
    pub(super) fn of(options: &PackageOptions) -> Result<Self> {
        let package = package_of(options)?;
        let mut command = metadata(package.manifest(), options.target());
        command.args(options.graph_arguments());
        let program = read(&mut command)?;
        let mut graph = Self { root: String::new(), components: BTreeMap::new() };
        graph.root = graph.add(&program, &package.name)?;
        let kernel = read(&mut metadata(&kernel_manifest()?, KERNEL_TARGET))?;
        let kernel = graph.add(&kernel, KERNEL)?;
        let library = |library: Component| (format!("{}@{}", library.name, library.version), library);
        let (std_id, mut standard) = library(libraries::standard()?);
        let (c_id, c) = library(libraries::c(options.target())?);
        standard.dependencies.insert(c_id.clone());
        if let Some(root) = graph.components.get_mut(&graph.root) {
            root.dependencies.extend([kernel, std_id.clone(), c_id.clone()]);
        }
        graph.components.extend([(std_id, standard), (c_id, c)]);
        Ok(graph)
    }

    /// Adds a package of the metadata with all that it depends on; answers its id.
    fn add(&mut self, metadata: &Metadata, name: &str) -> Result<String> {
        let root = metadata.packages.iter().find(|package| package.name == name);
        let root = &root.with_context(|| format!("cargo tells of no package `{name}`"))?.id;
        let lock = fs::read_to_string(metadata.workspace_root.join("Cargo.lock")).unwrap_or_default();
        let lock: Lock = toml::from_str(&lock).unwrap_or_default();
        // First what is in the image, so that the rest is what only others need.
        for is_in_image in [true, false] {
            let mut open = vec![root.clone()];
            let mut seen = BTreeSet::new();
            while let Some(id) = open.pop() {
                if !seen.insert(id.clone()) {
                    continue;
                }
                let next = metadata.dependencies(&id, is_in_image);
                let component = self.components.entry(id.clone());
                let component = match component {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(metadata.component(&id, &lock, is_in_image)?)
                    }
                };
                component.is_in_image |= is_in_image;
                component.dependencies.extend(next.iter().cloned());
                open.extend(next);
            }
        }
        Ok(root.clone())
    }
}

impl Metadata {
    /// What a package needs: in the image, or for whatever reason but its own tests.
    fn dependencies(&self, id: &str, only_in_image: bool) -> Vec<String> {
        let edges = self.resolve.nodes.iter().find(|node| node.id == id).map_or(&[][..], |node| &node.deps);
        let is_needed = |edge: &&Edge| {
            let mut kinds = edge.dep_kinds.iter().map(|kind| kind.kind.as_deref());
            match only_in_image {
                true => kinds.any(|kind| kind.is_none()) && !self.is_macro(&edge.pkg),
                false => kinds.any(|kind| kind != Some("dev")),
            }
        };
        edges.iter().filter(is_needed).map(|edge| edge.pkg.clone()).collect()
    }

    fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.id == id)
    }

    /// Macros run in the compiler.
    fn is_macro(&self, id: &str) -> bool {
        let targets = self.package(id).map_or(&[][..], |package| &package.targets);
        targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }

    fn component(&self, id: &str, lock: &Lock, is_in_image: bool) -> Result<Component> {
        let package = self.package(id).with_context(|| format!("cargo tells nothing of {id}"))?;
        let is_it = |locked: &&Locked| locked.name == package.name && locked.version == package.version;
        let file =
            |file: &String| format!("LicenseRef-{}", file.replace(|c: char| !c.is_alphanumeric(), "-"));
        // An old way to write `OR` that crates.io still takes.
        let expression = |license: &String| license.replace('/', " OR ").replace("  ", " ");
        let license = package.license.as_ref().map(expression);
        Ok(Component {
            name: package.name.clone(),
            version: package.version.clone(),
            license: license.or_else(|| package.license_file.as_ref().map(file)),
            description: package.description.clone(),
            repository: package.repository.clone(),
            source: package.source.clone(),
            sha256: lock.package.iter().find(is_it).and_then(|locked| locked.checksum.clone()),
            is_in_image,
            is_crate: true,
            folder: package.manifest_path.parent().map(Path::to_owned),
            dependencies: BTreeSet::new(),
        })
    }
}

fn metadata(manifest: &Path, target: &str) -> Command {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--filter-platform", target]);
    command.arg("--manifest-path").arg(manifest);
    command
}

fn read(command: &mut Command) -> Result<Metadata> {
    let output = command.output().context("cannot run cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", errors.trim().trim_start_matches("error: "));
    serde_json::from_slice(&output.stdout).context("cargo metadata answers in an unknown form")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, kind: &str) -> serde_json::Value {
        json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
            "manifest_path": format!("/src/{name}/Cargo.toml"), "targets": [{ "kind": [kind] }] })
    }

    #[test]
    fn what_only_compiles_others_is_not_in_the_image() {
        let edge = |name: &str, kind: Option<&str>| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "workspace_root": "/nowhere",
            "packages": [package("app", "bin"), package("lib", "lib"), package("derive", "proc-macro"),
                package("syn", "lib"), package("cc", "lib"), package("tests", "lib")],
            "resolve": { "nodes": [
                { "id": "app", "deps": [edge("lib", None), edge("derive", None), edge("cc", Some("build")),
                    edge("tests", Some("dev"))] },
                { "id": "lib", "deps": [] }, { "id": "cc", "deps": [edge("lib", None)] },
                { "id": "derive", "deps": [edge("syn", None)] }, { "id": "syn", "deps": [] },
            ] },
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let mut graph = Graph { root: "app".into(), components: BTreeMap::new() };
        assert_eq!(graph.add(&metadata, "app").unwrap(), "app");
        let state: Vec<_> = graph.components.iter().map(|(id, it)| (id.as_str(), it.is_in_image)).collect();
        assert_eq!(state, [("app", true), ("cc", false), ("derive", false), ("lib", true), ("syn", false)]);
        assert_eq!(graph.components["app"].license.as_deref(), Some("MIT OR Apache-2.0"));
        assert!(graph.add(&metadata, "other").is_err());
    }
}
