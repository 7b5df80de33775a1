//! The kernel as one object that any static program can be linked with.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use crate::symbols::embed;
use crate::tools::{Failure, Output, run};
use crate::{relax, relocations, sources, toolchain};

/// The kernel's PVH entry, which keeps everything else alive through `--gc-sections`.
const ENTRY: &str = "_kernel_start32";
/// Addresses are absolute, for the kernel changes them when it moves (`relocations.rs`), and backtraces follow frame pointers. What is hot
/// says `#[inline]`; a copy of anything else at each place that calls it only makes the image larger
/// (`docs/decisions/0042-size-of-images.md`).
const FLAGS: &str = "-Crelocation-model=static -Cforce-frame-pointers=yes -Cllvm-args=-inline-threshold=100";
const TARGET: &str = "x86_64-unknown-none";

/// The kernel, compiled, with all its names but the entry's made local: they cannot clash with an app's.
#[derive(Debug)]
pub struct Kernel {
    object: PathBuf,
}

impl Kernel {
    /// Compiles the kernel under a cargo profile into `target_dir`; the object is left in `work_dir`. What is
    /// there from the last time is used again. Builds of several programs may do this at once.
    pub fn compile(
        target_dir: &Path,
        work_dir: &Path,
        profile: &str,
        output: Output,
    ) -> Result<Self, Failure> {
        let archive = compile(target_dir, profile, output)?;
        let object = work_dir.join(format!("{profile}{}.o", sources::modules_suffix()));
        if !is_newer(&object, &archive) || !is_newer(&object, &folder().join("merge.ld")) {
            // Under another name until it is whole.
            let new = |what| work_dir.join(format!("{profile}-{}.{what}", std::process::id()));
            let (linked, localised) = (new("linked"), new("local"));
            fs::create_dir_all(work_dir).map_err(|error| Failure::of_file(work_dir, &error))?;
            let table = new("relocations");
            merge(&archive, &linked)?;
            let finish = || {
                let mut file = fs::read(&linked)?;
                relax::leave_offset_table(&mut file).map_err(io::Error::other)?;
                fs::write(&table, relocations::table(&file).map_err(io::Error::other)?)?;
                fs::write(&linked, file)
            };
            finish().map_err(|error: io::Error| Failure::of_file(&object, &error))?;
            localise(&linked, &table, &localised)?;
            let place = || {
                fs::rename(&localised, &object)?;
                fs::remove_file(&table)?;
                fs::remove_file(&linked)
            };
            place().map_err(|error: io::Error| Failure::of_file(&object, &error))?;
        }
        Ok(Self { object })
    }

    /// Whether there is an earlier compilation, which has to be made anew only as far as something has changed.
    pub fn is_compiled(target_dir: &Path, profile: &str) -> bool {
        archive(target_dir, profile).exists()
    }

    /// The object.
    pub fn object(&self) -> &Path {
        &self.object
    }

    /// Links it alone: what [`crate::pack`] puts behind a program. `init=` starts programs in it, too.
    pub fn link_alone(&self) -> Result<PathBuf, Failure> {
        let image = self.object.with_extension("elf");
        if !is_newer(&image, &self.object) || !is_newer(&image, &script()) {
            let new = self.object.with_extension(format!("{}.elf", std::process::id()));
            let mut linker = Command::new(toolchain::linker()?);
            linker.args(["-flavor", "gnu", "-static", "--no-warn-mismatch"]);
            run(linker.args(self.link_arguments()).arg("-o").arg(&new), Output::Kept)?;
            embed(&new, "unikernel").map_err(|error| Failure::of_file(&new, &error))?;
            fs::rename(&new, &image).map_err(|error| Failure::of_file(&image, &error))?;
        }
        Ok(image)
    }

    /// Arguments for an ELF linker that put the kernel behind a static program.
    pub fn link_arguments(&self) -> Vec<String> {
        vec![
            self.object.display().to_string(),
            folder().join("lfs64.ld").display().to_string(),
            format!("--undefined={ENTRY}"),
            "-T".to_owned(),
            script().display().to_string(),
        ]
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script() -> PathBuf {
    folder().join("image.ld")
}

/// Where [`Kernel::compile`] leaves a compilation. cargo has one place for all kernels of a profile, whatever modules are in them.
fn archive(target_dir: &Path, profile: &str) -> PathBuf {
    target_dir.join("archives").join(format!("{profile}{}.a", sources::modules_suffix()))
}

fn compile(target_dir: &Path, profile: &str, output: Output) -> Result<PathBuf, Failure> {
    let archive = archive(target_dir, profile);
    let folder = target_dir.join("archives");
    let at_folder = |error: io::Error| Failure::of_file(&folder, &error);
    fs::create_dir_all(&folder).map_err(at_folder)?;
    // Until its archive is in safety, nobody has cargo put another kernel into its place. The lock ends with the file, and with this process.
    let turn = fs::File::create(folder.join("lock")).map_err(at_folder)?;
    turn.lock().map_err(at_folder)?;
    let mut cargo = sources::build_kernel()?;
    cargo.args(["--profile", profile, "--target", TARGET, "--target-dir"]).arg(target_dir);
    run(cargo.env("RUSTFLAGS", FLAGS), output)?;
    let made = target_dir.join(TARGET).join(profile).join("libunikernel_kernel.a");
    keep(&made, &archive).map_err(|error| Failure::of_file(&made, &error))?;
    Ok(archive)
}

/// Gives a file another name, under which it stays what it is, with its time, when there is another one under the first.
fn keep(made: &Path, archive: &Path) -> io::Result<()> {
    let inode = |path: &Path| fs::metadata(path).map(|file| file.ino());
    if inode(archive).is_ok_and(|kept| inode(made).is_ok_and(|made| made == kept)) {
        return Ok(());
    }
    let new = archive.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    fs::hard_link(made, &new)?;
    fs::rename(&new, archive)
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let time = |path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    // At equal times nobody knows which was first.
    time(file).is_some_and(|file| time(than).is_some_and(|than| file > than))
}

/// Links the kernel to one object.
fn merge(archive: &Path, linked: &Path) -> Result<(), Failure> {
    run(
        Command::new(toolchain::linker()?)
            .args(["-flavor", "gnu", "-r", "--gc-sections", "-u", ENTRY, "-T"])
            .arg(folder().join("merge.ld"))
            .arg("-o")
            .arg(linked)
            .arg(archive),
        Output::Kept,
    )
}

/// Adds the table, and makes names local.
fn localise(linked: &Path, table: &Path, localised: &Path) -> Result<(), Failure> {
    // Given its prefix like all others.
    const SECTION: &str = ".relocations";
    run(
        toolchain::objcopy()?
            .arg(format!("--add-section={SECTION}={}", table.display()))
            .arg(format!("--set-section-flags={SECTION}=alloc,readonly,data"))
            // Strings among it must not make linkers merge what is equal: all else in it would move.
            .arg("--set-section-flags=.rodata=alloc,readonly,data")
            .arg("--prefix-alloc-sections=.kernel")
            .arg(format!("--keep-global-symbol={ENTRY}"))
            .arg(linked)
            .arg(localised),
        Output::Kept,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_kernel_is_that_of_its_name() {
        let folder = env::temp_dir().join(format!("unikernel-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [made, plain, other] = ["made.a", "plain.a", "other.a"].map(|name| folder.join(name));
        // As cargo does: each kernel's file is linked to the one place.
        let put = |content: &str| {
            let _ = fs::remove_file(&made);
            let own = folder.join(format!("{content}-1234.a"));
            if !own.exists() {
                fs::write(&own, content).unwrap();
            }
            fs::hard_link(&own, &made).unwrap();
        };
        put("plain");
        keep(&made, &plain).unwrap();
        let time = fs::metadata(&plain).unwrap().modified().unwrap();
        put("other");
        keep(&made, &other).unwrap();
        put("plain");
        keep(&made, &plain).unwrap();
        assert_eq!(fs::read_to_string(&plain).unwrap(), "plain");
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        assert_eq!(fs::metadata(&plain).unwrap().modified().unwrap(), time, "it was not made again");
        fs::remove_dir_all(&folder).unwrap();
        assert!(keep(&made, &plain).is_err(), "there is none");
    }
}
