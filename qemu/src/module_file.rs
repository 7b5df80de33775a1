//! Modules of the kernel as files: `module` builds one, `modinfo` tells what one says about itself, `lsmod` lists those in a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use unikernel_elf::object::{Area, Object};

use crate::project;

/// Which module to build, and where to.
#[derive(Clone, Debug)]
pub(crate) struct ModuleOptions {
    pub(crate) folder: PathBuf,
    pub(crate) output: Option<PathBuf>,
}

/// The file's ending.
pub(crate) const ENDING: &str = "ko";

/// Builds the package in a folder as a module.
pub(crate) fn build(options: &ModuleOptions) -> Result<u8> {
    let file = match &options.output {
        Some(file) => file.clone(),
        None => {
            let folder = options.folder.canonicalize();
            let folder =
                folder.with_context(|| format!("there is no folder {}", options.folder.display()))?;
            let name = folder.file_name().context("the folder has no name")?;
            PathBuf::from(name).with_extension(ENDING)
        }
    };
    build_to(&options.folder, &file)?;
    println!("{}", file.display());
    Ok(0)
}

/// Builds the package in a folder to a file, and looks whether that is a module.
pub(crate) fn build_to(folder: &Path, file: &Path) -> Result<()> {
    let target_dir = project::work_dir("module-builds")?;
    unikernel_build::build_module(folder, &target_dir, file, unikernel_build::Output::Shown)?;
    let bytes = std::fs::read(file)?;
    let object = parse(&bytes, file)?;
    let is_one = object.find("unikernel_module").is_some();
    ensure!(is_one, "{} is no module: use `unikernel_module::module!` once", file.display());
    Ok(())
}

fn parse<'a>(bytes: &'a [u8], file: &Path) -> Result<Object<'a>> {
    Object::parse(bytes).map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// Prints what modules say about themselves, as Linux's modinfo(8) does.
pub(crate) fn modinfo(files: &[PathBuf]) -> Result<u8> {
    for file in files {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        print!("{}", info(&bytes, file)?);
    }
    Ok(0)
}

fn info(bytes: &[u8], file: &Path) -> Result<String> {
    let object = parse(bytes, file)?;
    let said = object.modinfo().map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut text = line("filename", &file.display().to_string());
    for (key, value) in said.pairs().filter(|(key, _)| !["parm", "parmtype", "symver"].contains(key)) {
        text += &line(key, value);
    }
    for parameter in said.all("parm") {
        let (name, purpose) = parameter.split_once(':').unwrap_or((parameter, ""));
        let kind = said.all("parmtype").find_map(|kind| kind.strip_prefix(name)?.strip_prefix(':'));
        text += &line("parm", &format!("{name}:{purpose} ({})", kind.unwrap_or("?")));
    }
    for name in object.symbols().undefined() {
        let version =
            said.version_of("symver", name).map_or(String::new(), |version| format!(" ({version})"));
        text += &line("needs", &format!("{name}{version}"));
    }
    Ok(text)
}

fn line(key: &str, value: &str) -> String {
    format!("{:<16}{value}\n", format!("{key}:"))
}

/// Lists the modules among files and in folders, as lsmod(8) does with those that are loaded.
pub(crate) fn list(places: &[PathBuf]) -> Result<u8> {
    let mut files = Vec::new();
    for place in places {
        if place.is_dir() {
            files.extend(modules_in(place)?);
        } else {
            files.push(place.clone());
        }
    }
    ensure!(!files.is_empty(), "there is no file that ends with `.{ENDING}`");
    println!("{:<20}{:>8}  {:<10}Needs", "Module", "Size", "Version");
    for file in files {
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        println!("{}", row(&bytes, &file)?);
    }
    Ok(0)
}

fn row(bytes: &[u8], file: &Path) -> Result<String> {
    let object = parse(bytes, file)?;
    let said = object.modinfo().map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let needs: Vec<&str> = said.depends().collect();
    let (name, version) = (said.get("name").unwrap_or("?"), said.get("version").unwrap_or("-"));
    let size = object.area(Area::Data).end;
    Ok(format!(
        "{name:<20}{size:>8}  {version:<10}{}",
        if needs.is_empty() { "-".into() } else { needs.join(",") }
    ))
}

/// The modules below a folder, sorted.
fn modules_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(modules_in(&path)?);
        } else if path.extension().is_some_and(|ending| ending == ENDING) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
