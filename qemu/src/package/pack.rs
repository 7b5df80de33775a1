//! `pack`: a program that somebody else built becomes an image, with a folder of files for it if it wants any.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use unikernel_build::pack::{examine, pack as join, pack_files};

use super::kernel::kernel;
use crate::cli::KernelOptions;
use crate::cpio::Archive;
use crate::host_files::HostFiles;
use crate::sign::public_key;
use crate::unfinished::Unfinished;
use crate::{container, project};

/// What to pack.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    /// A program, and the folder that it finds at `/`.
    Program(PathBuf, Option<PathBuf>),
    /// A container image.
    Container(PathBuf),
}

/// What to pack, and where to.
#[derive(Clone, Debug)]
pub(crate) struct PackOptions {
    pub(crate) what: Packed,
    /// Where the image goes; `NAME.unikernel` in this folder if nothing is said.
    pub(crate) output: Option<PathBuf>,
    /// What reports call it.
    pub(crate) name: Option<String>,
    pub(crate) host_files: HostFiles,
}

/// Writes the image.
pub(crate) fn pack(options: &PackOptions) -> Result<u8> {
    let host_files = options.host_files.archive()?;
    let output = |name: &str| options.output.clone().unwrap_or_else(|| format!("{name}.unikernel").into());
    let output = match &options.what {
        Packed::Program(program, root) => {
            let name = options.name.clone().map_or_else(|| name_of(program), Ok)?;
            let output = output(&name);
            make(program, &name, root.as_deref(), host_files, &output)?;
            output
        }
        Packed::Container(path) => {
            let container = container::read(path)?;
            let name = options.name.clone().unwrap_or(container.name);
            check_name(&name)?;
            let output = output(&name);
            let files = [container.files, host_files.unwrap_or_default()].concat();
            let image = pack_files(&kernel_alone()?, &name, &files, &container.words);
            let image = image.with_context(|| path.display().to_string())?;
            put(&output, &image).with_context(|| format!("cannot write {}", output.display()))?;
            output
        }
    };
    println!("{}", output.display());
    eprintln!("next: cargo unikernel run {}", shown(&output));
    Ok(0)
}

/// Writes a kernel that has no program in it, and perhaps the keys with which what it uses must be signed.
pub(crate) fn write_kernel(options: &KernelOptions) -> Result<u8> {
    let (mut kernel, output) = (kernel_alone()?, &options.output);
    if !options.keys.is_empty() {
        let words: Result<String> =
            options.keys.iter().map(|key| Ok(format!("trust={}\0", public_key(key)?))).collect();
        kernel = pack_files(&kernel, "unikernel", &Archive::default().finish(), words?.as_bytes())?;
    }
    put(output, &kernel).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}", output.display());
    Ok(0)
}

fn kernel_alone() -> Result<Vec<u8>> {
    let alone = kernel("release")?.link_alone()?;
    fs::read(&alone).with_context(|| format!("cannot read {}", alone.display()))
}

/// An image of a program, among the files of the runner.
pub(crate) fn packed(program: &Path) -> Result<PathBuf> {
    let name = name_of(program)?;
    let output = project::work_dir("packed")?.join(format!("{name}-{}.unikernel", std::process::id()));
    make(program, &name, None, None, &output)?;
    Ok(output)
}

/// With a folder in it, so that nobody takes it for an app's name.
fn shown(path: &Path) -> String {
    let is_bare = path.parent().is_none_or(|folder| folder.as_os_str().is_empty());
    format!("{}{}", if is_bare { "./" } else { "" }, path.display())
}

fn name_of(program: &Path) -> Result<String> {
    let name = program.file_name().with_context(|| format!("{} names no file", program.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    ensure!(is_plain, "`{name}` cannot be the name of a program in /bin: choose another with --name");
    Ok(())
}

/// Writes the image of one program to a file.
fn make(
    program: &Path,
    name: &str,
    root: Option<&Path>,
    host_files: Option<Vec<u8>>,
    output: &Path,
) -> Result<()> {
    check_name(name)?;
    let told = || format!("{}", program.display());
    let file = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    // Before the kernel is compiled, which may take minutes.
    let packable = examine(&file, root.is_some()).with_context(told)?;
    let files = root.map(|root| files(root, packable.interpreter.as_deref())).transpose()?;
    // Archives follow each other; what is in both is of the last.
    let files = files.into_iter().chain(host_files).reduce(|files, more| [files, more].concat());
    let image = join(&kernel_alone()?, &file, name, files.as_deref()).with_context(told)?;
    put(output, &image).with_context(|| format!("cannot write {}", output.display()))
}

/// The archive of a folder in which the program's interpreter is.
fn files(root: &Path, interpreter: Option<&str>) -> Result<Vec<u8>> {
    ensure!(root.is_dir(), "--root {}: it is no folder", root.display());
    if let Some(interpreter) = interpreter {
        let place = root.join(interpreter.trim_start_matches('/'));
        // Through links on the way, which are the folder's; the last may lead anywhere in it.
        let is_there = fs::symlink_metadata(&place).is_ok();
        ensure!(is_there, "--root {}: the program's interpreter {interpreter} is not in it", root.display());
    }
    let mut archive = Archive::default();
    archive.add_folder(root, "")?;
    Ok(archive.finish())
}

/// Writes a file that may be executed.
fn put(output: &Path, image: &[u8]) -> Result<()> {
    let new = Unfinished::new(output);
    fs::write(new.path(), image)?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(0o755))?;
    Ok(new.finish()?)
}
