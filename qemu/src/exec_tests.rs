//! execve(2): programs in the place of the one that runs. The program of `qemu/programs/exec.rs` replaces itself and looks what is
//! left of its state, on Linux and booted; shells do so as wrappers of servers do; hostile files and a small machine leave the
//! caller as it was.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::{hello, run};
use crate::disk::{self, Disk};
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::pack_tests::pack;
use crate::program_tests::{
    BUSYBOX, EXECUTABLE, FORMS, Form, arguments, busybox, compiled, initrd, libraries, probe, put,
};
use crate::project;

/// A static program without an image's tables, and a dynamic one.
const USED: [Form; 2] = [FORMS[1], FORMS[3]];
/// What a wrapper's `exec` leads to, with the probe's arguments.
const WRAPPED: &str = "PROBE=yes exec /bin/probe \"$@\"";

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for form in USED {
        tests.push((format!("exec_state_{}", form.name), Box::new(move || state(form))));
        tests.push((format!("exec_attacks_{}", form.name), Box::new(move || attacks(form))));
    }
    tests.push(("exec_privileges".into(), Box::new(privileges)));
    tests.push(("exec_of_script".into(), Box::new(of_script)));
    tests.push(("exec_of_image".into(), Box::new(of_image)));
    tests
}

/// A machine that starts the program of `exec.rs`.
fn machine(form: Form, kind: Kind, argument: &str) -> Result<Machine> {
    let program = compiled(form, "exec", &format!("exec-{}", form.name))?;
    let mut files = vec![("bin/exec", EXECUTABLE, fs::read(program)?)];
    if form.is_interpreted {
        files.extend(libraries()?);
    }
    let mut machine = hello(kind, &format!("init=/bin/exec cwd=/tmp -- {argument}"))?;
    machine.initrd = Some(initrd(&format!("exec-{}", form.name), &files)?);
    Ok(machine)
}

fn succeeds(machine: &Machine) -> Result<String> {
    let ending = run(machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(ending.console)
}

/// What stays and what goes, and two at once; 40 times in the end, on a machine that has not the memory for the leavings of
/// ten.
fn state(form: Form) -> Result<()> {
    let program = compiled(form, "exec", &format!("exec-{}", form.name))?;
    let folder = project::work_dir("programs")?.join(format!("exec-folder-{}", form.name));
    fs::create_dir_all(&folder)?;
    let on_linux = Command::new(program).arg("first").current_dir(&folder).output()?;
    let told = String::from_utf8_lossy(&on_linux.stdout).into_owned();
    ensure!(told.contains("replaced 40 times"), "on Linux: {}", String::from_utf8_lossy(&on_linux.stderr));
    fs::remove_dir_all(&folder)?;
    for (kind, cpus) in [(Kind::Microvm, 1), (Kind::Q35, 2)] {
        let mut machine = machine(form, kind, "first")?;
        machine.cpus = cpus;
        machine.memory_mib = 64;
        let console = succeeds(&machine)?;
        ensure!(console.contains("replaced 40 times"), "{console}");
    }
    Ok(())
}

/// What a program gets that is executed, from whom executes it, from its file's owner, mode and capabilities: as on Linux, where this
/// runs as root in a folder of its own.
fn privileges() -> Result<()> {
    let form = FORMS[1];
    let program = compiled(form, "privileges", "privileges")?;
    for way in ["all", "no-new-privileges", "no-new-privileges-root", "bounded", "no-root"] {
        let folder = project::work_dir("programs")?.join("privileges-folder");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        fs::copy(&program, folder.join("program"))?;
        fs::write(folder.join("on-a-disk"), "")?;
        let path = folder.with_extension("img");
        disk::make(&path, Some(&folder), "64M", &[])?;
        let on_linux = Command::new(&program).args(["first", way]).current_dir(&folder).output()?;
        let told = String::from_utf8_lossy(&on_linux.stdout).into_owned();
        fs::remove_dir_all(&folder)?;
        let error = String::from_utf8_lossy(&on_linux.stderr);
        ensure!(told.contains("all said") || told.contains("no way back"), "{way} on Linux: {told}{error}");
        let append = format!("mount=/data:blk0 cwd=/data init=/data/program -- first {way}");
        let mut machine = hello(Kind::Microvm, &append)?;
        machine.disks.push(Disk::new(&path));
        let console = run(&machine)?.console;
        let answers = |text: &str| -> Vec<String> {
            text.lines().map(str::trim_end).filter(|line| line.starts_with("| ")).map(str::to_owned).collect()
        };
        let (linux, booted) = (answers(&told), answers(&console));
        ensure!(
            linux.len() == booted.len(),
            "{way}: {} answers, {} on Linux: {console}",
            booted.len(),
            linux.len()
        );
        let pairs = linux.iter().zip(&booted).filter(|(linux, booted)| linux != booted);
        let different: Vec<String> =
            pairs.map(|(linux, booted)| format!("\n  linux:  {linux}\n  booted: {booted}")).collect();
        ensure!(different.is_empty(), "{way}: {} answers differ:{}", different.len(), different.concat());
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Each file is refused, and the caller is as it was.
fn attacks(form: Form) -> Result<()> {
    for memory_mib in [64, 256] {
        let mut machine = machine(form, Kind::Microvm, "attacks")?;
        machine.memory_mib = memory_mib;
        succeeds(&machine)?;
    }
    Ok(())
}

fn shell() -> Result<Vec<u8>> {
    let bytes = busybox()?;
    ensure!(!bytes.is_empty(), "there is no busybox: `make setup` installs it");
    Ok(bytes)
}

fn quoted(form: Form) -> String {
    arguments(form).map(|argument| format!("\"{argument}\"")).join(" ")
}

/// A shell's script as the first program, which ends in `exec`, as those of container images do.
fn of_script() -> Result<()> {
    let form = FORMS[3];
    let script = format!("#!/bin/sh -e\ntest \"$3\" = one\n{WRAPPED}\n");
    let mut files = vec![
        ("bin/busybox", EXECUTABLE, shell()?),
        ("bin/sh", 0o120_777, b"busybox".to_vec()),
        ("start.sh", EXECUTABLE, script.into_bytes()),
        ("bin/probe", EXECUTABLE, fs::read(probe(form)?)?),
    ];
    files.extend(libraries()?);
    let mut machine = hello(Kind::Microvm, &format!("init=/start.sh -- {}", quoted(form)))?;
    machine.initrd = Some(initrd("exec-script", &files)?);
    succeeds(&machine).map(drop)
}

/// A shell that is packed with the kernel: its pages are the image's, and it cannot begin anew.
fn of_image() -> Result<()> {
    let form = FORMS[1];
    let program = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let program = program.context("there is no busybox: `make setup` installs it")?;
    let root = project::work_dir("programs")?.join("root-exec");
    put(&root.join("bin/probe"), &fs::read(probe(form)?)?)?;
    put(&root.join("start.sh"), format!("{WRAPPED}\n").as_bytes())?;
    put(&root.join("again.sh"), b"exec /bin/sh -c true\n")?;
    let image = project::work_dir("programs")?.join("exec.unikernel");
    pack(program, "sh", Some(&root), &image)?;
    let mut machine = hello(Kind::Q35, &format!("-- /start.sh {}", quoted(form)))?;
    machine.kernel = image.clone();
    succeeds(&machine)?;
    machine.append = "-- /again.sh".to_owned();
    let ending = run(&machine)?;
    ensure!(ending.code == Some(126) && ending.console.contains("Text file busy"), "{}", ending.console);
    Ok(fs::remove_file(image)?)
}
