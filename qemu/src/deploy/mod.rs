//! `deploy`: files that start an appliance where people run things. What differs between the places is only the
//! form: one image, memory, processors, ports, disks and a command line, in the words of each.
//!
//! Each form is a function from an [`Appliance`] to files; nothing here talks to a host or a cluster.

mod cloud_hypervisor;
mod firecracker;
mod kubevirt;
mod libvirt;
mod nomad;
mod proxmox;
mod systemd;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::{DeployOptions, Network};
use crate::disk::Disk;
use crate::machine::Accelerator;
use crate::project::did_you_mean;
use crate::run::{self, Bootable};
use crate::share::{self, Share};
use crate::unfinished::{NewText, write_all};
pub(crate) use words::{Given, Words};

/// What is deployed.
#[derive(Clone, Debug)]
pub(crate) struct Appliance {
    /// In the form of a host's name: letters, digits, dashes.
    pub(crate) name: String,
    /// The ELF, by its whole path.
    pub(crate) image: PathBuf,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    /// On the host, and of the appliance.
    pub(crate) ports: (u16, u16),
    pub(crate) disks: Vec<Disk>,
    pub(crate) shares: Vec<Share>,
    /// QEMU's own words.
    pub(crate) qemu_arguments: Vec<String>,
    /// The kernel's words, `--`, the program's arguments.
    pub(crate) command_line: String,
    /// How many of it, where an engine starts them.
    pub(crate) replicas: u32,
    /// Where there is no KVM.
    pub(crate) is_translated: bool,
    /// QEMU's own network in place of the host's, where both can be had.
    pub(crate) has_user_network: bool,
}

/// A file of a deployment.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Whether it is a program.
    pub(crate) is_script: bool,
}

impl File {
    fn new(name: String, text: String) -> Self {
        Self { name, text, is_script: false }
    }

    fn script(name: String, text: String) -> Self {
        Self { name, text, is_script: true }
    }
}

/// A place to run things.
struct Form {
    words: Words,
    files: fn(&Appliance) -> Result<Vec<File>>,
    /// What to do with the files; `{}` is the appliance's name.
    next: &'static str,
}

const FORMS: [Form; 7] = [
    Form {
        words: Words {
            form: "systemd",
            takes: &[
                "--memory",
                "--smp",
                "--port",
                "--disk",
                "--snapshot",
                "--share",
                "--qemu-arg",
                "--machine q35",
                "--net user",
                "--accel auto",
            ],
            notes: &[],
        },
        files: systemd::files,
        next: "cp {}.service /etc/systemd/system/ && systemctl enable --now {}",
    },
    Form {
        words: Words {
            form: "libvirt",
            takes: &[
                "--memory",
                "--smp",
                "--disk",
                "--share",
                "--machine q35",
                "--net user",
                "--accel kvm",
                "--accel tcg",
            ],
            notes: &[],
        },
        files: libvirt::files,
        next: "virsh define {}.xml && virsh start {}",
    },
    Form {
        words: Words {
            form: "firecracker",
            takes: &["--memory", "--smp", "--disk", "--accel kvm"],
            notes: &[],
        },
        files: firecracker::files,
        next: "./{}.sh",
    },
    Form {
        words: Words {
            form: "cloud-hypervisor",
            takes: &["--memory", "--smp", "--disk", "--accel kvm"],
            notes: &[],
        },
        files: cloud_hypervisor::files,
        next: "./{}.sh",
    },
    Form {
        words: Words {
            form: "nomad",
            takes: &[
                "--memory",
                "--smp",
                "--port",
                "--disk",
                "--snapshot",
                "--qemu-arg",
                "--replicas",
                "--net user",
                "--accel kvm",
                "--accel tcg",
            ],
            notes: &[("--port", "Nomad chooses the host's port, and leads it to the appliance's")],
        },
        files: nomad::files,
        next: "nomad job run {}.nomad.hcl",
    },
    Form {
        words: Words {
            form: "kubevirt",
            takes: &["--memory", "--smp", "--port", "--replicas", "--machine q35", "--accel kvm"],
            notes: &[
                (
                    "--disk",
                    "disks of a cluster are claims, not files: add a persistentVolumeClaim to the manifest",
                ),
                ("--initrd", "the container image carries it: give `cargo unikernel oci` the same"),
                ("--timezone", "the container image carries it: give `cargo unikernel oci` the same"),
                (
                    "--ca-certificates",
                    "the container image carries them: give `cargo unikernel oci` the same",
                ),
            ],
        },
        files: kubevirt::files,
        next: "kubectl apply -f {}.yaml",
    },
    Form {
        words: Words {
            form: "proxmox",
            takes: &["--memory", "--smp", "--qemu-arg", "--machine q35", "--accel kvm"],
            notes: &[("--disk", "give the machine its disks with `qm set`")],
        },
        files: proxmox::files,
        next: "copy the image to the Proxmox host and run ./{}.sh there",
    },
];

/// Writes the files of a form.
pub(crate) fn run(options: &DeployOptions) -> Result<u8> {
    let names = || FORMS.iter().map(|form| form.words.form);
    let Some(form) = FORMS.iter().find(|form| form.words.form == options.form) else {
        let (hint, known) = (did_you_mean(&options.form, names()), Vec::from_iter(names()));
        bail!("no form `{}`{hint}: there are {}", options.form, known.join(", "));
    };
    let appliance = appliance(options, &form.words)?;
    let files = (form.files)(&appliance)?;
    for path in write(&options.output, &files)? {
        println!("{}", path.display());
    }
    eprintln!("next: {}", form.next.replace("{}", &appliance.name));
    Ok(0)
}

/// Writes files to a folder, all or none; answers where they are.
fn write(folder: &Path, files: &[File]) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(&file.name)).collect();
    let mode = |file: &File| Some(if file.is_script { 0o755 } else { 0o644 });
    write_all(files.iter().zip(&paths).map(|(file, path)| NewText {
        path,
        text: &file.text,
        mode: mode(file),
    }))?;
    Ok(paths)
}

/// What the options describe in the words of a form, built if it is a package's.
pub(crate) fn appliance(options: &DeployOptions, words: &Words) -> Result<Appliance> {
    let notes = words.check(&options.given)?;
    let appliance = describe(options, &run::bootable(&options.run.what)?)?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(appliance)
}

fn describe(options: &DeployOptions, bootable: &Bootable) -> Result<Appliance> {
    let run = &options.run;
    let absolute = |path: &Path| std::path::absolute(path).context("the current folder is gone");
    let file_name = bootable.image.file_name().unwrap_or_default().to_string_lossy();
    let mut disks = run.disks.clone();
    for disk in &mut disks {
        disk.path = absolute(&disk.path)?;
        disk.forgets_writes = run.forgets_writes;
    }
    if let Some(path) = run.initrd.as_ref().filter(|path| !path.is_file()) {
        bail!("{} is no cpio archive: a deployment names files that stay", path.display());
    }
    let initrd = run::initrd(run, bootable)?;
    let appliance = Appliance {
        name: options.name.clone().unwrap_or_else(|| host_name(&file_name)),
        image: absolute(&bootable.image)?,
        initrd: initrd.as_deref().map(absolute).transpose()?,
        memory_mib: run.memory_mib,
        cpus: run.cpus,
        ports: run.ports,
        shares: run.shares.iter().map(Share::resolved).collect::<Result<_>>()?,
        disks,
        qemu_arguments: run.qemu_arguments.clone(),
        command_line: share::with_mounts(
            &run.shares,
            &run::command_line(&run.append, &run.environment, &run.app_arguments),
        ),
        replicas: options.replicas,
        is_translated: run.accelerator == Accelerator::Tcg,
        has_user_network: run.networks.contains(&Network::User),
    };
    ensure!(
        appliance.name == host_name(&appliance.name),
        "--name {}: small letters, digits and dashes, as in a host's name",
        appliance.name
    );
    Ok(appliance)
}

/// The nearest that a host may be called: what engines take as a name (RFC 1123).
fn host_name(text: &str) -> String {
    let plain = |character: char| match character.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    };
    let name: String = text.chars().map(plain).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "appliance".to_owned() } else { name.to_owned() }
}

/// A word for a shell, quoted where it must be.
fn shell(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A path as text: forms are text, in UTF-8.
fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// QEMU's words for an appliance, without accelerator, console and network.
fn qemu_words(appliance: &Appliance) -> Result<Vec<String>> {
    let mut words: Vec<String> = vec![
        "-m".into(),
        format!("{}M", appliance.memory_mib),
        "-smp".into(),
        appliance.cpus.to_string(),
        "-kernel".into(),
        text(&appliance.image)?.into(),
    ];
    if !appliance.command_line.is_empty() {
        words.extend(["-append".into(), appliance.command_line.clone()]);
    }
    if let Some(initrd) = &appliance.initrd {
        words.extend(["-initrd".into(), text(initrd)?.into()]);
    }
    for (number, disk) in appliance.disks.iter().enumerate() {
        text(&disk.path)?;
        words.extend(disk.arguments(number, crate::machine::Kind::Q35));
    }
    for (number, share) in appliance.shares.iter().enumerate() {
        text(share.parts(number).0)?;
        words.extend(share.arguments(number, crate::machine::Kind::Q35));
    }
    words.extend(["-device".into(), "virtio-rng-pci".into()]);
    words.extend(appliance.qemu_arguments.iter().cloned());
    Ok(words)
}

/// QEMU's words for a machine with nothing that an appliance does not use.
const BARE_MACHINE: [&str; 5] = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
