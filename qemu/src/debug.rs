//! `debug`: a guest that waits at its first instruction, and gdb on it, stopped at the program's `main`. Both halves
//! are in one file, so gdb knows the kernel's functions, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use unikernel_build::{raise, symbol_address};

use crate::cli::RunOptions;
use crate::guest_tests::free_port;
use crate::machine::{Accelerator, option_value};
use crate::package::finds;
use crate::project::Profile;
use crate::vm::{Console, Vm};
use crate::{interrupt, project, run};

/// What to debug, and what gdb does at `main`.
#[derive(Clone, Debug)]
pub(crate) struct DebugOptions {
    pub(crate) run: RunOptions,
    pub(crate) commands: Vec<String>,
}

/// Builds, boots, debugs; answers gdb's exit code.
pub(crate) fn run(options: &DebugOptions) -> Result<u8> {
    // With printers for Rust's types, where the toolchain brings it.
    let gdb = if finds("rust-gdb") && finds("gdb") { "rust-gdb" } else { "gdb" };
    if !finds(gdb) {
        bail!("there is no gdb: `apt-get install gdb`, or `cargo unikernel run --gdb` for another debugger");
    }
    // With all variables.
    run::check_files(&options.run)?;
    let bootable = run::bootable_as(&options.run.what, Profile::Debug)?;
    let symbols = Symbols::of(&bootable.image)?;
    let main = main_of(&symbols.file)?;
    let mut machine = run::machine(&options.run, &bootable)?;
    if machine.accelerator == Accelerator::Auto {
        machine.accelerator = Accelerator::Tcg;
    }
    let port = free_port()?;
    run::leave_kernel_in_place(&mut machine);
    machine.extra.extend(["-S".to_owned(), "-gdb".to_owned(), format!("tcp:127.0.0.1:{port}")]);
    let console = project::work_dir("run")?.join(format!("debug-{}.log", std::process::id()));
    machine.console = format!("file,path={}", option_value(&console));
    eprintln!("the guest's console goes to {}", console.display());
    // Ctrl-C is gdb's.
    interrupt::leave_to_debugger();
    let _guest = Vm::start(&machine, Console::Recorded)?;
    let words = [
        "set pagination off".to_owned(),
        "set confirm off".to_owned(),
        "set architecture i386:x86-64".to_owned(),
        "set tcp connect-timeout 30".to_owned(),
        format!("target remote 127.0.0.1:{port}"),
        // In hardware, as the image is not in memory yet; by its address, as the kernel has such a name, too.
        format!("hbreak *{main:#x}"),
        "continue".to_owned(),
    ];
    let mut command = Command::new(gdb);
    command
        .arg("-q")
        .args(words.iter().chain(&options.commands).flat_map(|word| ["-ex", word]))
        .arg(&symbols.file);
    let status = command.status().with_context(|| format!("cannot run {gdb}"))?;
    Ok(status.code().map_or(1, |code| code as u8))
}

/// A file with the names of both halves.
struct Symbols {
    file: PathBuf,
    /// Made for this session, and removed behind it.
    is_copy: bool,
}

impl Symbols {
    /// The one beside an image that has none; else one of the image, which itself says where the kernel is loaded and not
    /// where it runs.
    fn of(image: &Path) -> Result<Self> {
        let mut beside = image.as_os_str().to_owned();
        beside.push(".debug");
        let beside = PathBuf::from(beside);
        if beside.is_file() {
            return Ok(Self { file: beside, is_copy: false });
        }
        let mut bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        raise(&mut bytes);
        let file = project::work_dir("run")?.join(format!("debug-{}.elf", std::process::id()));
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file, is_copy: true })
    }
}

impl Drop for Symbols {
    fn drop(&mut self) {
        if self.is_copy {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

fn main_of(symbols: &Path) -> Result<u64> {
    let file = std::fs::read(symbols).with_context(|| format!("cannot read {}", symbols.display()))?;
    let address = symbol_address(&file, "main").or_else(|| symbol_address(&file, "_start"));
    address.with_context(|| format!("{} has no names: build it with --keep-debug", symbols.display()))
}
