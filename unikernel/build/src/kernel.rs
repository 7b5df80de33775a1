//! The kernel as one object that any static program can be linked with.

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

/// The folder for a kernel with these modules. cargo would put all of them into one file, whose time does not tell which it is.
fn of_modules(target_dir: &Path) -> PathBuf {
    match sources::modules_suffix() {
        suffix if suffix.is_empty() => target_dir.to_owned(),
        suffix => target_dir.join(format!("with{suffix}")),
    }
}

/// Where [`Kernel::compile`] finds an earlier compilation.
fn archive(target_dir: &Path, profile: &str) -> PathBuf {
    of_modules(target_dir).join(TARGET).join(profile).join("libunikernel_kernel.a")
}

fn compile(target_dir: &Path, profile: &str, output: Output) -> Result<PathBuf, Failure> {
    let mut cargo = sources::build_kernel()?;
    cargo.args(["--profile", profile, "--target", TARGET, "--target-dir"]).arg(of_modules(target_dir));
    run(cargo.env("RUSTFLAGS", FLAGS), output)?;
    Ok(archive(target_dir, profile))
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
