//! Programs that were packed with a kernel into one file: it runs on Linux and boots. Files that are no programs are refused
//! with a line that says why.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::{hello, run};
use crate::guest_tests::NamedTest;
use crate::machine::Kind;
use crate::package_tests::unikernel;
use crate::program_tests::{BUSYBOX, CANNOT_BOOT, FORMS, Form, arguments, machine, probe, put, root};
use crate::project;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for form in FORMS {
        for kind in [Kind::Microvm, Kind::Q35] {
            tests.push((format!("pack_{} [{kind}]", form.name), Box::new(move || packed(form, kind))));
        }
    }
    tests.push(("pack_no_program".into(), Box::new(kernel_alone)));
    tests.push(("pack_busybox".into(), Box::new(packed_busybox)));
    tests.push(("pack_host_files".into(), Box::new(host_files)));
    tests.push(("pack_bad_programs".into(), Box::new(bad_packs)));
    tests
}

/// Packs as a user does; an error is the message.
pub(crate) fn pack(program: &Path, name: &str, root: Option<&Path>, image: &Path) -> Result<()> {
    let folder = project::work_dir("programs")?;
    let mut command = unikernel(&folder, ["pack", "--name", name])?;
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let output = command.arg("-o").args([image, program]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// One file runs on Linux and boots.
fn packed(form: Form, kind: Kind) -> Result<()> {
    let program = probe(form)?;
    let image = project::work_dir("programs")?.join(format!("{}-{kind}.unikernel", form.name));
    let root = form.is_interpreted.then(|| root(form, &format!("root-{kind}"))).transpose()?;
    pack(&program, "probe", root.as_deref(), &image)?;
    let on_linux = Command::new(&image).env("PROBE", "yes").args(arguments(form)).output()?;
    ensure!(on_linux.status.success(), "on Linux: {}", String::from_utf8_lossy(&on_linux.stderr));
    let mut machine = machine(form, kind)?;
    machine.initrd = None;
    machine.kernel = image.clone();
    machine.append = machine.append.replace("init=/bin/probe ", "");
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    std::fs::remove_file(&image)?;
    Ok(())
}

/// A kernel without a program says what it lacks, and starts one that `init=` names.
fn kernel_alone() -> Result<()> {
    let folder = project::work_dir("programs")?;
    let output = unikernel(&folder, ["kernel", "-o", "alone.elf"])?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut machine = machine(FORMS[1], Kind::Q35)?;
    machine.kernel = folder.join("alone.elf");
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    machine.append.clear();
    let ending = run(&machine)?;
    let expected = "there is no program in this kernel";
    ensure!(ending.code == Some(CANNOT_BOOT) && ending.console.contains(expected), "{}", ending.console);
    Ok(())
}

/// Debian's own, which was never meant for this: the file that is packed with it is read.
fn packed_busybox() -> Result<()> {
    let program = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let program = program.context("there is no busybox: `make setup` installs it")?;
    let root = root(FORMS[0], "root-busybox")?;
    put(&root.join("note"), b"of the root\n")?;
    let image = project::work_dir("programs")?.join("busybox.unikernel");
    pack(program, "cat", Some(&root), &image)?;
    let on_linux = Command::new(&image).arg0("cat").arg(root.join("note")).output()?;
    ensure!(on_linux.stdout == b"of the root\n", "on Linux: {on_linux:?}");
    let mut machine = hello(Kind::Microvm, "-- /note")?;
    machine.kernel = image;
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0) && ending.console.contains("of the root"), "{}", ending.console);
    Ok(())
}

/// The time zone and the certificates of this host are in the image, or come with it, on request.
fn host_files() -> Result<()> {
    let program = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let program = program.context("there is no busybox: `make setup` installs it")?;
    let folder = project::work_dir("programs")?;
    let bundle = folder.join("authorities.pem");
    std::fs::write(&bundle, "-----BEGIN CERTIFICATE-----\nof a test\n")?;
    let certificates = format!("--ca-certificates={}", bundle.display());
    let make = |name: &str, option: &[&str]| -> Result<String> {
        let image = folder.join(format!("{name}.unikernel")).to_string_lossy().into_owned();
        let mut command = unikernel(&folder, ["pack", "--name", name, "-o", &image])?;
        let output = command.args(option).arg(program).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(image)
    };
    let show = |arguments: &[&str]| -> Result<String> {
        let output = unikernel(&folder, ["run", "--net", "none"])?.args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let cat = make("cat", &[&certificates])?;
    for file in ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"] {
        let shown = show(&[&cat, "--", file])?;
        ensure!(shown.contains("of a test"), "{file}: {shown}");
    }
    let shown = show(&[&cat, "--timezone", "Asia/Tokyo", "--", "/etc/timezone", "/etc/ssl/cert.pem"])?;
    ensure!(shown.contains("Asia/Tokyo") && shown.contains("of a test"), "{shown}");
    let date = make("date", &["--timezone", "Europe/Berlin"])?;
    let time = ["--", "-d", "@1700000000", "+%Z%z"];
    for (more, expected) in [(&[][..], "CET+0100"), (&["--timezone", "Asia/Tokyo"], "JST+0900")] {
        let shown = show(&[&[date.as_str()], more, &time].concat())?;
        ensure!(shown.contains(expected), "not {expected}: {shown}");
    }
    let wrong = unikernel(&folder, ["run", &date, "--timezone", "Europe/Nowhere"])?.output()?;
    let message = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && message.contains("is the name right"), "{message}");
    Ok(())
}

/// Each is refused with a line that says why, and leaves no file.
fn bad_packs() -> Result<()> {
    let good = std::fs::read(probe(FORMS[0])?)?;
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let folder = project::work_dir("programs/bad")?;
    let (program, image) = (folder.join("program"), folder.join("image"));
    let own = project::image("hello");
    let files = [
        (with(4, &[1]), "it is a 32-bit program"),
        (with(18, &[183]), "it is for ARM (AArch64)"),
        (good[..5000].to_vec(), "the file is truncated"),
        (good[..63].to_vec(), "the file is truncated"),
        (Vec::new(), "it is no ELF file"),
        (b"#!/bin/sh\n".to_vec(), "it is no ELF file"),
        (std::fs::read(probe(FORMS[3])?)?, "(`--root`)"),
        (std::fs::read(own)?, "it is an image already"),
    ];
    for (file, expected) in files {
        std::fs::write(&program, file)?;
        let error = pack(&program, "bad", None, &image).err().context(expected)?;
        ensure!(format!("{error:#}").contains(expected), "not {expected:?}: {error:#}");
        ensure!(!image.exists(), "{expected}: there is a file");
    }
    let dynamic = probe(FORMS[3])?;
    let error = pack(&dynamic, "bad", Some(&folder), &image).err().context("a root without ld.so")?;
    ensure!(format!("{error:#}").contains("is not in it"), "{error:#}");
    ensure!(pack(&dynamic, "../bad", Some(&folder), &image).is_err(), "a name with a path");
    Ok(())
}
