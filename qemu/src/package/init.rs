//! `init`: makes plain `cargo build` of an existing package give an image.
//!
//! `cargo unikernel build` needs none of it. Who wants cargo alone to make the image, for a colleague or a pipeline
//! without this tool, gets a build dependency, a build script and the target as default. Nothing is edited that was
//! not meant for that: a build script of the package's own stays, and the user is told what to add.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, value};
use unikernel_build::has_target;

use super::origin::Origin;
use super::selection::{Package, PackageOptions, Selection, select};
use crate::project::TARGET;
use crate::unfinished::{NewText, write_all};

const SCRIPT: &str = "//! Links the kernel in: the program runs on Linux, and boots as a machine.\n\n\
                      fn main() {\n    unikernel_build::link_image();\n}\n";
const CALL: &str = "unikernel_build::link_image";
const CRATE: &str = "unikernel-build";

/// What to set up, and how.
#[derive(Clone, Default, Debug)]
pub(crate) struct InitOptions {
    pub(crate) package: PackageOptions,
    /// Where our crates are taken from; from where this tool came, if nothing is said.
    pub(crate) origin: Option<Origin>,
    /// Only show what would be changed.
    pub(crate) is_dry: bool,
}

/// A file, before and after.
#[derive(Debug)]
struct Change {
    path: PathBuf,
    old: Option<String>,
    new: String,
}

/// What is to be done.
#[derive(Debug)]
enum Plan {
    Changes(Vec<Change>),
    /// By the user, who is told this.
    ByHand(String),
}

/// Shows the changes, and makes them.
pub(crate) fn init(options: &InitOptions) -> Result<u8> {
    let selection = select(&options.package, false)?;
    let origin = options.origin.clone().map_or_else(Origin::of_this_tool, Ok)?;
    let mut dependency = origin.dependency("unikernel/build");
    // Without what only this tool and the last link need: `cargo check` stays as quick as it was.
    dependency.insert("default-features", false.into());
    let name = &selection.package.name;
    match plan(&selection, &dependency)? {
        Plan::ByHand(text) => {
            println!("{text}");
            return Ok(0);
        }
        Plan::Changes(changes) if changes.is_empty() => {
            println!("`{name}` is set up already: nothing to change");
        }
        Plan::Changes(changes) => {
            changes.iter().for_each(|change| print!("{}", shown(change)));
            if options.is_dry {
                println!("nothing is changed: that was a dry run");
                return Ok(0);
            }
            write(&changes)?;
            println!("`{name}` is an appliance now");
        }
    }
    println!("next: `cargo unikernel run --release` boots it,");
    println!("      `cargo build --release --target {TARGET}` makes its image without this tool");
    if !has_target(TARGET) {
        println!("      (first, once: `rustup target add {TARGET}`)");
    }
    Ok(0)
}

/// All of them, or none.
fn write(changes: &[Change]) -> Result<()> {
    write_all(changes.iter().map(|change| NewText { path: &change.path, text: &change.new, mode: None }))
}

fn plan(selection: &Selection, dependency: &InlineTable) -> Result<Plan> {
    let package = &selection.package;
    let mut changes = Vec::new();
    let script_is_new = package.build_script().is_none();
    match package.build_script() {
        None => changes.push(script(package)?),
        Some(script) if !read(script)?.unwrap_or_default().contains(CALL) => {
            return Ok(Plan::ByHand(about_script(package, script, dependency)));
        }
        Some(_) => {}
    }
    changes.extend(edited(package.manifest(), |document| {
        if script_is_new {
            allow_script(document);
        }
        depend(document, dependency)
    })?);
    // What is built for another target is another member's, whose default is not this package's to choose.
    if selection.is_alone && default_target(&selection.workspace_root)?.is_none() {
        let path = selection.workspace_root.join(".cargo/config.toml");
        changes.extend(edited(&path, |document| default_to(document, TARGET))?);
    }
    Ok(Plan::Changes(changes))
}

/// The build script of a package that has none.
fn script(package: &Package) -> Result<Change> {
    let path = package.folder().join("build.rs");
    if path.exists() {
        bail!(
            "{} is there, but Cargo.toml says `build = false`: take that away, and `cargo unikernel init` again \
             (`cargo unikernel build` and `run` work as it is)",
            path.display()
        );
    }
    Ok(Change { path, old: None, new: SCRIPT.to_owned() })
}

/// Takes `build = false` away, which would keep the new script from running: `cargo publish` writes that into every
/// package without a script.
fn allow_script(document: &mut DocumentMut) {
    if let Some(package) = document.get_mut("package").and_then(Item::as_table_like_mut)
        && package.get("build").and_then(Item::as_bool) == Some(false)
    {
        package.remove("build");
    }
}

fn about_script(package: &Package, script: &Path, dependency: &InlineTable) -> String {
    format!(
        "`{}` has a build script of its own ({}), which is left as it is: nothing is changed.\n\
         `cargo unikernel build` and `cargo unikernel run` work without changes. For cargo alone to make the image, \
         add to Cargo.toml\n\n    [build-dependencies]\n    {CRATE} = {dependency}\n\n\
         and to `main` of the build script\n\n    {CALL}();\n\n\
         then `cargo build --release --target {TARGET}`",
        package.name,
        script.display()
    )
}

/// A file's text, if there is a file.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn parse(text: &str, path: &Path) -> Result<DocumentMut> {
    text.parse().map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// A file of TOML with an edit made, if that changes anything; everything else in it stays, comments too.
fn edited(path: &Path, edit: impl FnOnce(&mut DocumentMut) -> Result<()>) -> Result<Option<Change>> {
    let old = read(path)?;
    let mut document = parse(old.as_deref().unwrap_or_default(), path)?;
    edit(&mut document).with_context(|| format!("{}", path.display()))?;
    let new = document.to_string();
    let is_new = old.as_ref().is_none_or(|old| *old != new);
    Ok(is_new.then(|| Change { path: path.to_owned(), old, new }))
}

fn depend(document: &mut DocumentMut, dependency: &InlineTable) -> Result<()> {
    let table = table(document, "build-dependencies")?;
    if table.get(CRATE).is_none() {
        table.insert(CRATE, value(dependency.clone()));
    }
    Ok(())
}

fn default_to(document: &mut DocumentMut, target: &str) -> Result<()> {
    table(document, "build")?.insert("target", value(target));
    Ok(())
}

fn table<'a>(document: &'a mut DocumentMut, name: &str) -> Result<&'a mut dyn TableLike> {
    let item = document.entry(name).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_like_mut().with_context(|| format!("`{name}` is no table"))
}

/// The target that the settings for a folder name as default: the environment, files of cargo's upwards, and those of
/// the user.
fn default_target(folder: &Path) -> Result<Option<String>> {
    if let Some(target) = std::env::var("CARGO_BUILD_TARGET").ok().filter(|target| !target.is_empty()) {
        return Ok(Some(target));
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    for folder in folder.ancestors().map(|folder| folder.join(".cargo")).chain(home) {
        for name in ["config.toml", "config"] {
            let path = folder.join(name);
            let Some(text) = (if path.is_file() { read(&path)? } else { None }) else { continue };
            let document = parse(&text, &path)?;
            if let Some(target) = document.get("build").and_then(|build| build.get("target")) {
                return Ok(Some(target.to_string()));
            }
        }
    }
    Ok(None)
}

/// A change as lines with `+` and `-`; not those that stay.
fn shown(change: &Change) -> String {
    let old: Vec<&str> = change.old.as_deref().unwrap_or_default().lines().collect();
    let new: Vec<&str> = change.new.lines().collect();
    let mut text =
        format!("{}{}\n", change.path.display(), if change.old.is_some() { ":" } else { " (new):" });
    let (mut old, mut new) = (&old[..], &new[..]);
    loop {
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        (old, new) = (&old[same..], &new[same..]);
        if old.is_empty() && new.is_empty() {
            return text;
        }
        let (gone, added) = until_same(old, new);
        for (sign, lines) in [("-", &old[..gone]), ("+", &new[..added])] {
            lines.iter().for_each(|line| text.push_str(&format!("    {sign} {line}\n")));
        }
        (old, new) = (&old[gone..], &new[added..]);
    }
}

/// How many lines of either are passed until both go on alike, for as few as can be.
fn until_same(old: &[&str], new: &[&str]) -> (usize, usize) {
    for passed in 1..old.len() + new.len() {
        let first = passed.saturating_sub(new.len());
        for gone in first..=passed.min(old.len()) {
            let is_same = old.get(gone).is_some_and(|line| new.get(passed - gone) == Some(line));
            if is_same {
                return (gone, passed - gone);
            }
        }
    }
    (old.len(), new.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency() -> InlineTable {
        Origin::Version("0.1.0").dependency("unikernel/build")
    }

    fn edited_text(text: &str, edit: impl FnOnce(&mut DocumentMut) -> Result<()>) -> String {
        let mut document = text.parse().unwrap();
        edit(&mut document).unwrap();
        document.to_string()
    }

    #[test]
    fn manifest_keeps_what_it_has() {
        let text = "# mine\n[package]\nname = \"x\" # here\n\n[build-dependencies]\ncc = \"1\"\n\n[profile.release]\nlto = true\n";
        let once = edited_text(text, |document| depend(document, &dependency()));
        let line = "unikernel-build = { version = \"0.1.0\" }\n";
        assert_eq!(once, text.replace("cc = \"1\"\n", &format!("cc = \"1\"\n{line}")));
        assert_eq!(edited_text(&once, |document| depend(document, &dependency())), once);
        let inline =
            edited_text("build-dependencies = { cc = \"1\" }\n", |document| depend(document, &dependency()));
        assert!(inline.contains("cc = \"1\"") && inline.contains("unikernel-build"), "{inline}");
        let mut wrong: DocumentMut = "build-dependencies = 1\n".parse().unwrap();
        assert!(depend(&mut wrong, &dependency()).is_err());
    }

    #[test]
    fn only_a_refusal_of_scripts_is_taken_away() {
        let allowed = |text: &str| {
            edited_text(text, |document| {
                allow_script(document);
                Ok(())
            })
        };
        let published = "[package]\nname = \"x\"\nbuild = false # none\nautobins = false\n";
        assert_eq!(allowed(published), "[package]\nname = \"x\"\nautobins = false\n");
        let inline = allowed("package = { name = \"x\", build = false }\n");
        assert_eq!(inline.replace(' ', ""), "package={name=\"x\"}\n");
        for text in
            ["[package]\nbuild = true\n", "[package]\nbuild = \"b.rs\"\n", "build = false\n", "package = 1\n"]
        {
            assert_eq!(allowed(text), text);
        }
    }

    #[test]
    fn settings_keep_what_they_have() {
        let text = "[build]\nrustflags = [\"-Dwarnings\"]\n[alias]\nx = \"run\"\n";
        let new = edited_text(text, |document| default_to(document, "triple"));
        assert!(
            new.starts_with("[build]\nrustflags = [\"-Dwarnings\"]\ntarget = \"triple\"\n[alias]"),
            "{new}"
        );
    }

    #[test]
    fn only_what_changes_is_shown() {
        let change = |old: Option<&str>, new: &str| Change {
            path: "f".into(),
            old: old.map(str::to_owned),
            new: new.to_owned(),
        };
        assert_eq!(shown(&change(Some("a\nb\nc\n"), "a\nb\nx\nb\nc\n")), "f:\n    + x\n    + b\n");
        assert_eq!(shown(&change(Some("a\nb\nc\n"), "a\nx\nc\n")), "f:\n    - b\n    + x\n");
        assert_eq!(shown(&change(None, "a\n")), "f (new):\n    + a\n");
        // At both ends, with much between.
        let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
        let ends = change(Some(&format!("a\n{lines}")), &format!("{lines}z\n"));
        assert_eq!(shown(&ends), "f:\n    - a\n    + z\n");
        assert_eq!(shown(&change(Some("a\nb\n"), "c\n")), "f:\n    - a\n    - b\n    + c\n");
        assert_eq!(shown(&change(Some("a\n"), "")), "f:\n    - a\n");
    }
}
