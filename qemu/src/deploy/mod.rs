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

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::{DeployOptions, Network};
use crate::disk::Disk;
use crate::machine::Accelerator;
use crate::project::nearest;
use crate::run;

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
    name: &'static str,
    files: fn(&Appliance) -> Result<Vec<File>>,
    /// What to do with the files; `{}` is the appliance's name.
    next: &'static str,
}

const FORMS: [Form; 7] = [
    Form {
        name: "systemd",
        files: systemd::files,
        next: "cp {}.service /etc/systemd/system/ && systemctl enable --now {}",
    },
    Form { name: "libvirt", files: libvirt::files, next: "virsh define {}.xml && virsh start {}" },
    Form { name: "firecracker", files: firecracker::files, next: "./{}.sh" },
    Form { name: "cloud-hypervisor", files: cloud_hypervisor::files, next: "./{}.sh" },
    Form { name: "nomad", files: nomad::files, next: "nomad job run {}.nomad.hcl" },
    Form { name: "kubevirt", files: kubevirt::files, next: "kubectl apply -f {}.yaml" },
    Form {
        name: "proxmox",
        files: proxmox::files,
        next: "copy the image to the Proxmox host and run ./{}.sh there",
    },
];

/// Writes the files of a form.
pub(crate) fn run(options: &DeployOptions) -> Result<u8> {
    let names = || FORMS.iter().map(|form| form.name);
    let Some(form) = FORMS.iter().find(|form| form.name == options.form) else {
        let hint = nearest(&options.form, names()).map(|near| format!("; did you mean `{near}`?"));
        let known: Vec<&str> = names().collect();
        bail!("no form `{}`{}: there are {}", options.form, hint.unwrap_or_default(), known.join(", "));
    };
    let appliance = appliance(options)?;
    let files = (form.files)(&appliance)?;
    fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot create {}", options.output.display()))?;
    for file in &files {
        let path = options.output.join(&file.name);
        write(&path, file).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    eprintln!("next: {}", form.next.replace("{}", &appliance.name));
    Ok(0)
}

fn write(path: &Path, file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, &file.text)?;
    let mode = if file.is_script { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What the options describe, built if it is a package's.
pub(crate) fn appliance(options: &DeployOptions) -> Result<Appliance> {
    let run = &options.run;
    let bootable = run::bootable(&run.what)?;
    let absolute = |path: &Path| std::path::absolute(path).context("the current folder is gone");
    let file_name = bootable.image.file_name().unwrap_or_default().to_string_lossy();
    let mut disks = run.disks.clone();
    for disk in &mut disks {
        disk.path = absolute(&disk.path)?;
    }
    if let Some(path) = run.initrd.as_ref().filter(|path| !path.is_file()) {
        bail!("{} is no cpio archive: a deployment names files that stay", path.display());
    }
    let initrd = run::initrd(run, &bootable)?;
    let appliance = Appliance {
        name: options.name.clone().unwrap_or_else(|| host_name(&file_name)),
        image: absolute(&bootable.image)?,
        initrd: initrd.as_deref().map(absolute).transpose()?,
        memory_mib: run.memory_mib,
        cpus: run.cpus,
        ports: run.ports,
        disks,
        command_line: run::command_line(&run.append, &run.environment, &run.app_arguments),
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
    words.extend(["-device".into(), "virtio-rng-pci".into()]);
    Ok(words)
}

/// QEMU's words for a machine with nothing that an appliance does not use.
const BARE_MACHINE: [&str; 5] = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
