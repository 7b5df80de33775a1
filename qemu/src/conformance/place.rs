//! Where test programs run: on the Linux of this host, or booted.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::getuid;

use super::build::{self, Program};
use super::libtest;
use super::source::{self, Source};
use super::suites::Suite;
use crate::cli::ConformanceOptions;
use crate::cpio::Archive;
use crate::guest_tests::free_port;
use crate::machine::{Machine, Net, QEMU};
use crate::process::{Console, Process};

/// How many bytes of arguments a place takes. The kernel's command line has 2048 bytes in all.
const LINUX_ARGUMENTS: usize = 100_000;
const GUEST_ARGUMENTS: usize = 1500;
/// Who may do nothing.
const NOBODY: u32 = 65_534;
/// No DHCP: the addresses of QEMU's network are known.
const ADDRESSES: &str = "ip=10.0.2.15/24 gw=10.0.2.2 dns=10.0.2.3";

/// A place for the programs of one suite.
pub(super) enum Place {
    /// The host.
    Linux { folder: PathBuf, as_nobody: bool },
    /// A machine, but for the program.
    Guest { machine: Box<Machine>, folder: PathBuf },
}

impl Place {
    /// The host's Linux.
    pub(super) fn linux(suite: &Suite, source: &Source) -> Self {
        Self::Linux { folder: source.package.clone(), as_nobody: suite.as_nobody && getuid().is_root() }
    }

    /// A guest with the suite's files at the same path as here.
    pub(super) fn guest(suite: &Suite, source: &Source, options: &ConformanceOptions) -> Result<Self> {
        let mut machine = Machine::new(options.machine, Path::new(""));
        machine.cpus = options.cpus;
        machine.memory_mib = suite.memory_mib;
        machine.initrd = Some(pack(suite, source)?);
        machine.add_rng();
        Ok(Self::Guest { machine: Box::new(machine), folder: source.package.clone() })
    }

    /// How many bytes of arguments a program can get.
    pub(super) fn argument_bytes(&self) -> usize {
        match self {
            Self::Linux { .. } => LINUX_ARGUMENTS,
            Self::Guest { .. } => GUEST_ARGUMENTS,
        }
    }

    /// Starts a program.
    pub(super) fn start(&self, program: &Program, arguments: &[String]) -> Result<Process> {
        let (name, value) = libtest::ENVIRONMENT;
        match self {
            Self::Linux { folder, as_nobody } => {
                let mut command = Command::new(&program.image);
                if *as_nobody {
                    command.uid(NOBODY).gid(NOBODY);
                }
                command.args(arguments).current_dir(folder);
                command.env(name, value).env("CARGO_MANIFEST_DIR", folder);
                Process::start(command, Console::Recorded)
            }
            Self::Guest { machine, folder } => {
                let mut machine = machine.clone();
                let folder = folder.display();
                machine.kernel = program.image.clone();
                machine.net = Net::User(free_port()?, 8080);
                machine.append = format!(
                    "{ADDRESSES} cwd={folder} env.{name}={value} env.CARGO_MANIFEST_DIR={folder} -- {}",
                    arguments.join(" ")
                );
                let mut command = Command::new(QEMU);
                command.args(machine.arguments());
                Process::start(command, Console::Recorded)
            }
        }
    }
}

/// The suite's files as an initrd, with all folders above them.
fn pack(suite: &Suite, source: &Source) -> Result<PathBuf> {
    const FOLDER: u32 = 0o040_755;
    let mut archive = Archive::default();
    let relative = source.package.strip_prefix("/").context("cargo's target folder has an absolute path")?;
    let mut above: Vec<&Path> = relative.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        archive.add(&folder.to_string_lossy(), FOLDER, 0, &[]);
    }
    archive.add("tmp", 0o041_777, 0, &[]);
    archive.add_folder_if(&source.package, &format!("{}/", relative.display()), &build::belongs_to_suite)?;
    let path = source::work_dir()?.join("suites").join(&suite.name).join("initrd.cpio");
    fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
