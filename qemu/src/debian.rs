//! Programs of Debian's packages: downloaded once into the target folder, where nothing of them is installed, and packed with
//! their libraries (`cargo unikernel pack --root`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::package_tests::{succeeds, unikernel};
use crate::program_tests::put;
use crate::project;

/// Where a package's libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu:lib/x86_64-linux-gnu";

/// A program, and what it finds at `/`.
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    /// The packages that it is in, without those that they depend on.
    pub(crate) packages: &'a [&'a str],
    /// Where in them it is.
    pub(crate) program: &'a str,
    /// Folders of the packages that it wants to find.
    pub(crate) folders: &'a [&'a str],
    /// Files that it wants to find.
    pub(crate) files: &'a [(&'a str, &'a [u8])],
}

impl Program<'_> {
    /// The packed program; `None` if its packages cannot be had.
    pub(crate) fn image(&self) -> Result<Option<PathBuf>> {
        let Some(packages) = unpack(self.packages)? else { return Ok(None) };
        let root = self.root(&packages)?;
        let image = project::work_dir("debian")?.join(format!("{}.unikernel", self.name));
        let output = unikernel(&packages, ["pack", "--name", self.name, "--root"])?
            .arg(&root)
            .arg("-o")
            .args([image.as_path(), Path::new(self.program)])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::remove_dir_all(&root)?;
        Ok(Some(image))
    }

    /// What the program shall find at `/`.
    pub(crate) fn root(&self, packages: &Path) -> Result<PathBuf> {
        let root = project::work_dir("debian")?.join(format!("root-{}", self.name));
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for folder in self.folders {
            copy(&packages.join(folder), &root.join(folder))?;
        }
        for (path, content) in self.files {
            put(&root.join(path), content)?;
        }
        let mut programs = vec![packages.join(self.program)];
        shared_objects(&root, &mut programs)?;
        let own: BTreeSet<&OsStr> = programs.iter().filter_map(|program| program.file_name()).collect();
        for program in &programs {
            for path in needed(packages, program, &own)? {
                let is_interpreter = path.to_string_lossy().contains("/ld-linux");
                let folder = if is_interpreter { "lib64" } else { "lib/x86_64-linux-gnu" };
                let name = path.file_name().context("a library has a name")?;
                put(&root.join(folder).join(name), &fs::read(&path)?)?;
            }
        }
        Ok(root)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("it is in a folder")?)?;
    let status = Command::new("cp").arg("-r").args([from, to]).status()?;
    ensure!(status.success(), "cannot copy {}", from.display());
    Ok(())
}

/// Modules below a folder that have libraries of their own.
fn shared_objects(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            shared_objects(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    Ok(())
}

/// A program of the packages, to be run on Linux.
pub(crate) fn command(packages: &Path, program: &str) -> Command {
    let mut command = Command::new(packages.join(program));
    command.env("LD_LIBRARY_PATH", libraries(packages));
    command
}

/// The folders in which `ld.so` is to look for libraries.
pub(crate) fn libraries(packages: &Path) -> String {
    let folders = LIBRARIES.split(':').map(|folder| packages.join(folder).display().to_string());
    folders.collect::<Vec<_>>().join(":")
}

/// The libraries and the interpreter of a program, where `ld.so` finds them. Its own, which it loads itself, are in its folders.
fn needed(packages: &Path, program: &Path, own: &BTreeSet<&OsStr>) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", libraries(packages)).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut missing =
        text.lines().filter_map(|line| line.split_once(" => not found")).map(|(name, _)| name.trim());
    if let Some(name) = missing.find(|name| !own.contains(OsStr::new(name))) {
        bail!("{}: {name} is not found", program.display());
    }
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    let paths = paths.map(|word| PathBuf::from(word.trim_end_matches(':')));
    let is_own = |path: &PathBuf| path.file_name().is_some_and(|name| own.contains(name));
    Ok(paths.filter(|path| !is_own(path)).collect())
}

/// The folder with the content of these packages and of the libraries that they depend on; `None` if there is no way to get one.
pub(crate) fn unpack(packages: &[&str]) -> Result<Option<PathBuf>> {
    let folder = project::work_dir("debian/packages")?;
    let all = closure(packages, "lib")?;
    // A library that is not to be had is this host's, if it is one at all.
    let is_there = fetch(&folder, &all, |package| packages.contains(&package))?;
    Ok(is_there.then_some(folder))
}

/// Unpacks packages into a folder, each once; false if one of those that must be there cannot be had.
pub(crate) fn fetch(
    folder: &Path,
    packages: &BTreeSet<String>,
    must_be: impl Fn(&str) -> bool,
) -> Result<bool> {
    let downloads = folder.with_extension("download");
    fs::create_dir_all(&downloads)?;
    for package in packages {
        let done = folder.join(format!("{package}.unpacked"));
        if done.exists() {
            continue;
        }
        if download(package, &downloads)? {
            for file in fs::read_dir(&downloads)? {
                let path = file?.path();
                let status = Command::new("dpkg-deb").arg("-x").args([&path, folder]).status()?;
                ensure!(status.success(), "cannot unpack {}", path.display());
                fs::remove_file(&path)?;
            }
        } else if must_be(package) {
            return Ok(false);
        }
        fs::write(&done, "")?;
    }
    Ok(true)
}

/// Brings a file of sources, which lies beside a package of theirs in the archive; its checksum is SHA-256.
pub(crate) fn source(package: &str, file: &str, sum: &str, to: &Path) -> Result<()> {
    let output = Command::new("apt-get").args(["download", "--print-uris", package]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let place = text.split('\'').nth(1).and_then(|place| place.rsplit_once('/'));
    let (folder, _) = place.with_context(|| format!("apt-get does not know where {package} is: {text}"))?;
    let mut fetch = Command::new("/usr/lib/apt/apt-helper");
    fetch.args(["-o", "APT::Sandbox::User=root", "download-file", &format!("{folder}/{file}")]);
    fetch.arg(to).arg(format!("SHA256:{sum}"));
    succeeds(fetch)?;
    Ok(())
}

/// Brings a package into a folder; false if that cannot be done.
fn download(package: &str, folder: &Path) -> Result<bool> {
    let attempt = |what: &str| -> Result<bool> {
        let mut command = Command::new("apt-get");
        command.args(["-o", "APT::Sandbox::User=root", "download", what]).current_dir(folder);
        Ok(command.output()?.status.success())
    };
    if attempt(package)? {
        return Ok(true);
    }
    // What this host has installed may be from elsewhere: the archive has another version.
    let output = Command::new("apt-cache").args(["madison", package]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().next().and_then(|line| line.split('|').nth(1)) {
        Some(version) => attempt(&format!("{package}={}", version.trim())),
        None => Ok(false),
    }
}

/// The packages, and those among what they depend on whose names begin so.
pub(crate) fn closure(packages: &[&str], beginning: &str) -> Result<BTreeSet<String>> {
    let no = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
        .map(|what| format!("--no-{what}"));
    let output = Command::new("apt-cache").args(["depends", "--recurse"]).args(no).args(packages).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let others = text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned);
    Ok(packages.iter().map(|&package| package.to_owned()).chain(others).collect())
}
