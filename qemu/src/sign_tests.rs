//! Machines that use only what is signed: with a key on the command line, and with one in the image. Keys are OpenSSL's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use unikernel_trust::{Kind as Signed, Signer};

use crate::boot_tests::{hello, run};
use crate::cli::KernelOptions;
use crate::config_tests::{self, Form};
use crate::disk::{self, Disk};
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine, Net};
use crate::module_tests::module;
use crate::package;
use crate::program_tests::{CANNOT_BOOT, FORMS, append, initrd, machine, root};
use crate::project::{self, Profile};
use crate::verity_tests;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("trust_initrd [q35]".into(), Box::new(|| initrds(Kind::Q35))),
        ("trust_initrd [microvm]".into(), Box::new(|| initrds(Kind::Microvm))),
        ("trust_disk [q35]".into(), Box::new(disks)),
        ("trust_configuration [q35]".into(), Box::new(configurations)),
        ("trust_modules [q35]".into(), Box::new(|| modules(Profile::Release))),
        ("trust_modules [q35, checked]".into(), Box::new(|| modules(Profile::Debug))),
        ("trust_built_in [q35]".into(), Box::new(built_in)),
    ]
}

/// A new secret key, and its file.
fn key(name: &str) -> Result<(Signer, PathBuf)> {
    let path = project::work_dir("trust")?.join(format!("{name}-{}.pem", std::process::id()));
    let output =
        Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&path).output();
    let output = output.context("openssl is not installed")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let signer = Signer::from_pem(&fs::read_to_string(&path)?).context("a key of OpenSSL's")?;
    Ok((signer, path))
}

fn word(signer: &Signer) -> String {
    format!("trust={}", signer.public())
}

/// Files beside each other that tests of several machines need at a time.
fn file(name: &str, kind: Kind, content: &[u8]) -> Result<PathBuf> {
    let path = project::work_dir("trust")?.join(format!("{name}-{kind}"));
    fs::write(&path, content)?;
    Ok(path)
}

fn ensure_starts(what: &str, machine: &Machine) -> Result<()> {
    let ending = run(machine)?;
    ensure!(ending.code == Some(0), "{what}: ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

/// The boot ends with one line that says why, before the program runs.
fn ensure_refused(what: &str, machine: &Machine, reason: &str) -> Result<()> {
    let ending = run(machine)?;
    let is_refused = ending.code == Some(CANNOT_BOOT) && ending.console.contains(reason);
    ensure!(is_refused, "{what}: not {reason:?} but {:?}: {}", ending.code, ending.console);
    ensure!(!ending.console.contains("places: "), "{what}: the program ran: {}", ending.console);
    Ok(())
}

/// An initrd is used if it is signed, as it was signed, with the key that was named.
fn initrds(kind: Kind) -> Result<()> {
    let ((signer, _), (other, _)) = (key(&format!("own-{kind}"))?, key(&format!("other-{kind}"))?);
    let form = FORMS[1];
    let mut machine = machine(form, kind)?;
    let plain = fs::read(machine.initrd.as_ref().context("it has an initrd")?)?;
    machine.append = format!("{} {}", word(&signer), append(form, "/bin/probe"));
    let sealed = signer.seal(Signed::Initrd, &plain);
    let mut boots = |what: &str, content: &[u8], reason: Option<&str>| {
        machine.initrd = Some(file("initrd", kind, content)?);
        match reason {
            None => ensure_starts(what, &machine),
            Some(reason) => ensure_refused(what, &machine, reason),
        }
    };
    boots("signed", &sealed, None)?;
    boots("unsigned", &plain, Some("initrd: it is not signed; `cargo unikernel sign"))?;
    let mut changed = sealed.clone();
    changed[sealed.len() / 2] ^= 1;
    boots("changed", &changed, Some("initrd: it is not what was signed"))?;
    boots("cut off", &sealed[..sealed.len() - 1], Some("initrd: it is not signed"))?;
    boots(
        "longer",
        &[&plain[..4096], &sealed].concat(),
        Some("initrd: it is not as long as when it was signed"),
    )?;
    let stranger = other.seal(Signed::Initrd, &plain);
    boots("of a stranger", &stranger, Some("initrd: it was signed with a key that is not trusted here"))?;
    let module = signer.seal(Signed::Module, &plain);
    boots("a module", &module, Some("initrd: it was signed as module"))?;
    // Without a key a signature does no harm.
    machine.append = append(form, "/bin/probe");
    machine.initrd = Some(file("initrd", kind, &changed)?);
    let ending = run(&machine)?;
    ensure!(!ending.console.contains("what comes before it can be used"), "{}", ending.console);
    machine.initrd = Some(file("initrd", kind, &sealed)?);
    ensure_starts("no key", &machine)?;
    machine.append = format!("trust=ed25519:00 {}", append(form, "/bin/probe"));
    ensure_refused("no key", &machine, "bad command line: `trust=ed25519:00`: expected")
}

/// Programs of disks are started if their blocks are checked.
fn disks() -> Result<()> {
    let (signer, _) = key("disk")?;
    let form = FORMS[3];
    let folder = root(form, "trust-root")?;
    let image = project::work_dir("trust")?.join("root.img");
    let _ = fs::remove_file(&image);
    disk::make(&image, Some(&folder), "64M", &["-b", "4096"])?;
    let words = append(form, "/bin/probe");
    let boot = |place: &str| -> Result<Machine> {
        let mut machine = hello(Kind::Q35, &format!("{} root=blk0{place} {words}", word(&signer)))?;
        machine.disks = vec![Disk::new(&image)];
        Ok(machine)
    };
    ensure_refused("unchecked", &boot("")?, "`/bin/probe`: it is on a disk that nobody has signed")?;
    ensure_refused("unchecked", &boot(":ro")?, "`/bin/probe`: it is on a disk that nobody has signed")?;
    let root = verity_tests::add_hashes(&image, 64 << 20)?;
    // Who names the key names the root.
    ensure_starts("checked", &boot(&format!(":verity={root}@64M"))?)?;
    fs::remove_file(&image)?;
    Ok(())
}

/// Each file of a configuration must be signed.
fn configurations() -> Result<()> {
    project::build("guest-tests", &["told"], Profile::Release)?;
    let (signer, _) = key("configuration")?;
    let (meta, user) = (&b"instance-id: i-1\nlocal-hostname: signed-1\n"[..], &b"#cloud-config\n{}\n"[..]);
    let seal = |content: &[u8]| signer.seal(Signed::Configuration, content);
    let boot = |meta: &[u8], user: &[u8], words: &str| -> Result<Machine> {
        let image = config_tests::volume(Form::Fat, "cidata", &[("meta-data", meta), ("user-data", user)])?;
        let mut machine = Machine::new(Kind::Q35, &project::image("told"));
        machine.net = Net::Apart(2);
        machine.disks = vec![Disk::new(&image)];
        machine.append = format!("{words} -- /etc/hostname");
        Ok(machine)
    };
    let words = format!("{} config=nocloud", word(&signer));
    let ending = run(&boot(&seal(meta), &seal(user), &words)?)?;
    let is_told = ending.code == Some(0) && ending.console.contains("signed-1");
    ensure!(is_told, "{:?}: {}", ending.code, ending.console);
    // Signatures are no part of the text where nobody asks for them.
    let ending = run(&boot(&seal(meta), &seal(user), "config=nocloud")?)?;
    let is_told = ending.code == Some(0) && ending.console.contains("signed-1");
    ensure!(is_told && !ending.console.contains("not used"), "{:?}: {}", ending.code, ending.console);
    for (meta, user, reason) in [
        (meta.to_vec(), seal(user), "config=nocloud: meta-data: it is not signed"),
        (seal(meta), user.to_vec(), "config=nocloud: user-data: it is not signed"),
        (seal(meta), signer.seal(Signed::Initrd, user), "config=nocloud: user-data: it was signed as initrd"),
    ] {
        ensure_refused("configuration", &boot(&meta, &user, &words)?, reason)?;
    }
    let words = format!("{} config=ec2", word(&signer));
    let reason = "what a service in the network tells is not signed";
    ensure_refused("service", &boot(&seal(meta), &seal(user), &words)?, reason)
}

/// Modules must be signed, as modules, by whomever the machine was told of; the boot goes on without those that are not.
fn modules(profile: Profile) -> Result<()> {
    project::build("guest-tests", &["modules"], profile)?;
    let name = format!("modules-{}", profile == Profile::Debug);
    let ((signer, _), (other, _)) = (key(&name)?, key(&format!("{name}-other"))?);
    let hello = module("hello")?;
    let sealed = signer.seal(Signed::Module, &hello);
    let mut changed = sealed.clone();
    changed[hello.len() / 2] ^= 1;
    let list = b"count\nwatchdog\n".to_vec();
    let files = [
        ("etc/modules", list),
        ("lib/modules/count.ko", signer.seal(Signed::Module, &module("count")?)),
        ("lib/modules/watchdog.ko", module("watchdog")?),
        ("lib/modules/hello.ko", sealed),
        ("lib/modules/unsigned.ko", hello.clone()),
        ("lib/modules/changed.ko", changed),
        ("lib/modules/strangers.ko", other.seal(Signed::Module, &hello)),
        ("lib/modules/initrd.ko", signer.seal(Signed::Initrd, &hello)),
    ];
    let archive = initrd(&format!("trust-{name}"), &files.map(|(path, content)| (path, 0o100_644, content)))?;
    let archive = signer.seal(Signed::Initrd, &fs::read(archive)?);
    let mut machine = Machine::new(Kind::Q35, &project::image_of("modules", profile));
    machine.initrd = Some(file(&name, Kind::Q35, &archive)?);
    machine.append = format!("{} modules=open -- signed", word(&signer));
    let ending = run(&machine)?;
    let is_good = ending.code == Some(0) && ending.console.contains("modules: all well");
    ensure!(is_good, "{:?}: {}", ending.code, ending.console);
    for reason in [
        "it is not signed; `cargo unikernel sign FILE --as module",
        "it is not what was signed",
        "it was signed with a key that is not trusted here",
        "it was signed as initrd",
    ] {
        ensure!(ending.console.contains(reason), "{reason}: {}", ending.console);
    }
    Ok(())
}

/// A kernel with a key in it needs no trust in whoever writes its command line: neither another key nor a root hash without a signature is taken.
fn built_in() -> Result<()> {
    let ((signer, path), (other, _)) = (key("built-in")?, key("built-in-other")?);
    let kernel = project::work_dir("trust")?.join("kernel.elf");
    package::write_kernel(&KernelOptions { output: kernel.clone(), keys: vec![path] })?;
    let form = FORMS[3];
    let words = append(form, "/bin/probe");
    let boot = |initrd: Option<&Path>, disk: Option<&Path>, words: &str| {
        let mut machine = Machine::new(Kind::Q35, &kernel);
        machine.initrd = initrd.map(Path::to_owned);
        machine.disks = disk.map(Disk::new).into_iter().collect();
        machine.append = words.to_owned();
        machine
    };
    let plain = initrd("trust-built-in", &[("etc/nothing", 0o100_644, Vec::new())])?;
    let machine = boot(Some(&plain), None, &words);
    ensure_refused("unsigned", &machine, "initrd: it is not signed")?;
    let machine = boot(Some(&plain), None, &format!("{} {words}", word(&other)));
    ensure_refused("another key", &machine, "`trust=`: the image has keys of its own")?;
    let image = project::work_dir("trust")?.join("built-in.img");
    let _ = fs::remove_file(&image);
    disk::make(&image, Some(&root(form, "trust-root")?), "64M", &["-b", "4096"])?;
    let hash = verity_tests::add_hashes(&image, 64 << 20)?;
    let machine = boot(None, Some(&image), &format!("root=blk0:verity={hash}@64M {words}"));
    ensure_refused("unsigned root", &machine, "no key of the image's has signed this root hash")?;
    let bytes: Vec<u8> = (0..hash.len() / 2)
        .map(|at| u8::from_str_radix(&hash[2 * at..2 * at + 2], 16))
        .collect::<Result<_, _>>()?;
    let hex = |signer: &Signer| -> String {
        signer.sign(Signed::Verity, &bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let place = format!("root=blk0:verity={hash}@64M,signature=");
    let machine = boot(None, Some(&image), &format!("{place}{} {words}", hex(&other)));
    ensure_refused("root of a stranger", &machine, "no key of the image's has signed this root hash")?;
    let machine = boot(None, Some(&image), &format!("{place}{} {words}", hex(&signer)));
    ensure_starts("signed root", &machine)?;
    fs::remove_file(&image)?;
    Ok(())
}
