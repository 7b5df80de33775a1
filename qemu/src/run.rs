//! `run`: boots one appliance for a person.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::{Network, RunOptions, What};
use crate::cpio::Archive;
use crate::disk::Disk;
use crate::machine::{Machine, Net, QEMU};
use crate::project::Profile;
use crate::tpm::Tpm;
use crate::vm::{Console, Vm};
use crate::{background, interrupt, learn, package, project, qmp, readiness};

/// Exit code when the guest did not end in time (timeout(1)).
const TIMED_OUT: u8 = 124;

/// Builds, boots, and waits; answers the app's exit code.
pub(crate) fn run(options: &RunOptions) -> Result<u8> {
    // A build may take minutes.
    check_port(options)?;
    check_files(options)?;
    let bootable = bootable(&options.what)?;
    let mut machine = machine(options, &bootable)?;
    check_port(options)?;
    if options.is_detached {
        let file = bootable.image.file_name().unwrap_or_default().to_string_lossy();
        return background::start(machine, options.name.as_deref().unwrap_or(&file), options.is_verbose);
    }
    let tpm = options.has_tpm.then(Tpm::start).transpose()?;
    machine.extra.extend(tpm.iter().flat_map(Tpm::arguments));
    let button = button(options)?;
    machine.extra.extend(button.iter().flat_map(|path| qmp::arguments(path)));
    if options.is_verbose {
        eprintln!("{QEMU} {}", machine.arguments().join(" "));
    }
    if options.waits_for_gdb {
        eprintln!("waiting for gdb: `target remote localhost:1234`");
    }
    let mut vm = Vm::start(&machine, Console::Shared)?;
    if let Net::User(port, _) = machine.net {
        readiness::announce(port, vm.started());
    }
    if let Some(path) = &button {
        interrupt::ask_first(path.clone());
    }
    let ending = vm.wait(options.time_out)?;
    if let Some(path) = &button {
        let _ = std::fs::remove_file(path);
    }
    if let (Some(file), Some(ending)) = (&options.learns, &ending) {
        let program = bootable.image.file_name().unwrap_or_default().to_string_lossy();
        learn::write(file, &program, &ending.console)?;
    }
    match ending {
        Some(ending) => match ending.code {
            Some(code) => Ok(code),
            None => bail!(
                "the guest ended without an exit code: it was powered off or reset; its last words are above"
            ),
        },
        None => {
            eprintln!("time is over: the guest is ended");
            Ok(TIMED_OUT)
        }
    }
}

/// What to boot, with the files that come with it.
pub(crate) struct Bootable {
    pub(crate) image: PathBuf,
    pub(crate) initrd: Option<PathBuf>,
}

/// Finds it, building it first if it is a package's or an app's.
pub(crate) fn bootable(what: &What) -> Result<Bootable> {
    bootable_as(what, Profile::Release)
}

/// The same with an app of this repository built in another way; packages say themselves how.
pub(crate) fn bootable_as(what: &What, profile: Profile) -> Result<Bootable> {
    let (image, initrd) = match what {
        What::Package(options) => {
            let mut images = package::build(options, true)?;
            let image = images.pop().context("one program was built")?;
            let folder = image.package.join("initrd");
            (image.path, folder.is_dir().then(|| initrd_file(&folder, &image.name)).transpose()?)
        }
        What::Named(name) if Path::new(name).is_file() => (image(Path::new(name))?, None),
        What::Named(name) => (project::build_app_as(name, profile)?, app_files(name, name)?),
    };
    Ok(Bootable { image, initrd })
}

/// An image that is there, or one made of a program that is.
fn image(path: &Path) -> Result<PathBuf> {
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if unikernel_build::image_check::has_way_in(&file) { Ok(path.to_owned()) } else { package::packed(path) }
}

/// Where the control socket is by which Ctrl-C presses the power button. A guest that a debugger holds could
/// not react to it, and the address of a socket has 108 bytes (unix(7)).
fn button(options: &RunOptions) -> Result<Option<PathBuf>> {
    let path = project::work_dir("run")?.join(format!("{}.qmp", std::process::id()));
    Ok((!options.waits_for_gdb && path.as_os_str().len() < 108).then_some(path))
}

/// The machine that the options mean.
pub(crate) fn machine(options: &RunOptions, bootable: &Bootable) -> Result<Machine> {
    let mut machine = Machine::new(options.machine, &bootable.image);
    machine.accelerator = options.accelerator;
    machine.memory_mib = options.memory_mib;
    machine.cpus = options.cpus;
    let policy = options.policy.as_deref().map(learn::words_of).transpose()?;
    let recorder = options.learns.as_ref().map(|_| learn::WORD.to_owned());
    let words = [policy, recorder, Some(options.append.clone())];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    machine.append = command_line(&words, &options.environment, &options.app_arguments);
    let mut nets =
        options.networks.iter().enumerate().map(|(number, network)| net(network, number, options.ports));
    machine.net = nets.next().unwrap_or(Net::User(options.ports.0, options.ports.1));
    machine.more_nets = nets.collect();
    machine.initrd = initrd(options, bootable)?;
    machine.disks = options.disks.clone();
    check_files(options)?;
    for disk in &mut machine.disks {
        disk.forgets_writes = options.forgets_writes;
    }
    for share in &options.shares {
        share.check()?;
    }
    machine.shares = options.shares.clone();
    machine.add_rng();
    if let Some(file) = &options.capture {
        machine.capture_to(file);
    }
    if let Some(port) = options.observed_at {
        machine.observe_at(port)?;
    }
    if options.waits_for_gdb {
        leave_kernel_in_place(&mut machine);
        machine.extra.extend(["-s", "-S"].map(str::to_owned));
    }
    machine.extra.extend(options.qemu_arguments.iter().cloned());
    Ok(machine)
}

/// For a debugger, who has the kernel's names at the addresses at which it is linked.
pub(crate) fn leave_kernel_in_place(machine: &mut Machine) {
    machine.append = format!("kaslr=off {}", machine.append);
}

/// The port leads to the first device; QEMU's own networks behind the others have numbers after its usual 2.
fn net(network: &Network, number: usize, (host, guest): (u16, u16)) -> Net {
    match network {
        Network::User if number == 0 => Net::User(host, guest),
        Network::User => Net::Apart(number as u8 + 2),
        Network::None => Net::None,
        Network::Tap(name) => Net::Tap { name: name.clone(), queues: 1 },
    }
}

/// Kernel words, variables, `--`, app arguments, with quotes where words may have spaces.
pub(crate) fn command_line(words: &str, environment: &[(String, String)], arguments: &[String]) -> String {
    let mut line = words.to_owned();
    for (name, value) in environment {
        line.push_str(&format!(" \"env.{name}={value}\""));
    }
    if !arguments.is_empty() {
        line.push_str(" --");
        for argument in arguments {
            line.push_str(&format!(" \"{argument}\""));
        }
    }
    line.trim().to_owned()
}

/// The files that an app brings in its `initrd` folder, packed into an archive called `archive`.
pub(crate) fn app_files(app: &str, archive: &str) -> Result<Option<PathBuf>> {
    let folder = project::root().join("apps").join(app).join("initrd");
    folder.is_dir().then(|| initrd_file(&folder, archive)).transpose()
}

/// An archive as it is, or a folder packed into one.
pub(crate) fn initrd_file(path: &Path, name: &str) -> Result<PathBuf> {
    check_initrd(path)?;
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let mut archive = Archive::default();
    archive.add_folder(path, "")?;
    let packed = project::work_dir("initrd")?.join(format!("{name}.cpio"));
    std::fs::write(&packed, archive.finish())
        .with_context(|| format!("cannot write {}", packed.display()))?;
    Ok(packed)
}

/// The files that the options ask for, or those of the package; with those of this host behind them, which count.
pub(crate) fn initrd(options: &RunOptions, bootable: &Bootable) -> Result<Option<PathBuf>> {
    let own = match &options.initrd {
        Some(path) => Some(initrd_file(path, &format!("of-{}", std::process::id()))?),
        None => bootable.initrd.clone(),
    };
    let Some(host_files) = options.host_files.archive()? else { return Ok(own) };
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    let mut archives = own.map(read).transpose()?.unwrap_or_default();
    // An archive begins at a multiple of four bytes.
    archives.resize(archives.len().next_multiple_of(4), 0);
    archives.extend(host_files);
    // A deployment names it, so it is called the same each time.
    let image = bootable.image.file_name().unwrap_or_default().to_string_lossy();
    let path = project::work_dir("initrd")?.join(format!("{image}-with-host-files.cpio"));
    fs::write(&path, archives).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

fn check_initrd(path: &Path) -> Result<()> {
    ensure!(path.exists(), "there is no initrd at {}", path.display());
    Ok(())
}

/// Files of this host that must be there; before a build, whose time would be lost.
pub(crate) fn check_files(options: &RunOptions) -> Result<()> {
    options.disks.iter().try_for_each(Disk::check)?;
    options.initrd.iter().try_for_each(|path| check_initrd(path))
}

/// A taken port would show only as a QEMU error; say what to do instead.
fn check_port(options: &RunOptions) -> Result<()> {
    let port = options.ports.0;
    if options.networks.first().is_some_and(|network| *network != Network::User) {
        return Ok(());
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "port {port} of this host is taken ({error}): choose another, as in --port {other} (with make: PORT={other})",
            other = port.wrapping_add(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_arguments_are_quoted_behind_two_dashes() {
        assert_eq!(command_line("log=debug", &[], &[]), "log=debug");
        let variable = ("A".to_owned(), "b c".to_owned());
        let line = command_line("", &[variable], &["a b".into(), "c".into()]);
        assert_eq!(line, "\"env.A=b c\" -- \"a b\" \"c\"");
    }
}
