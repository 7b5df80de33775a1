//! Folders of this host in a guest: a program's own files in one, and changes by either side that the other sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::project::{self, Profile};
use crate::vm::{Console, Vm};

const PROGRAM: &str = "shared_folder";
const STRESS: &str = "disk_stress";
/// As the program has it.
const LARGE_BYTES: usize = (3 << 20) + 1234;
const TIME_OUT: Duration = Duration::from_secs(120);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let booted = |kind, cpus, profile| move || changes(Some((kind, cpus, profile)));
    vec![
        ("share_changes [linux]".into(), Box::new(|| changes(None))),
        ("share_changes [q35]".into(), Box::new(booted(Kind::Q35, 2, Profile::Release))),
        ("share_changes [microvm]".into(), Box::new(booted(Kind::Microvm, 1, Profile::Release))),
        ("share_changes [q35, checked]".into(), Box::new(booted(Kind::Q35, 2, Profile::Debug))),
        ("share_stress [q35]".into(), Box::new(stress)),
        ("share_read_only [q35]".into(), Box::new(read_only)),
        ("share_missing [q35]".into(), Box::new(missing)),
    ]
}

/// An empty folder for a test.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = project::work_dir("shares")?.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A machine that has the folder at `/share`.
fn machine(kind: Kind, profile: Profile, folder: &Path, mode: &str) -> Result<Machine> {
    project::build("guest-tests", &[PROGRAM], profile)?;
    let mut machine = Machine::new(kind, &project::image_of(PROGRAM, profile));
    machine.shares.push(format!("{}:/share{mode}", folder.display()).parse()?);
    Ok(machine)
}

/// Bytes that tell where they lie, as the program makes them.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8 ^ seed).collect()
}

/// Changes the files that the program has made, when it is ready.
fn change(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name);
    let start = Instant::now();
    while !at("ready").exists() {
        ensure!(start.elapsed() < TIME_OUT, "the program is not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(fs::read(at("from-here"))? == pattern(3, LARGE_BYTES), "what was written is not all there");
    fs::write(at("changed"), "changed by the other side")?;
    fs::write(at("new"), "another file")?;
    fs::rename(at("new"), at("replaced"))?;
    fs::remove_file(at("removed"))?;
    fs::create_dir(at("made"))?;
    fs::write(at("made/file"), "made by the other side")?;
    fs::write(at("from-there"), pattern(4, LARGE_BYTES))?;
    fs::write(at("go"), "")?;
    Ok(())
}

fn changes(place: Option<(Kind, u32, Profile)>) -> Result<()> {
    let folder = folder(&format!("changes-{}", std::process::id()))?;
    match place {
        None => {
            let mut program = Command::new(project::built(PROGRAM)?).arg(&folder).spawn()?;
            let changed = change(&folder);
            let status = program.wait()?;
            changed?;
            ensure!(status.success(), "{status}");
        }
        Some((kind, cpus, profile)) => {
            let mut machine = machine(kind, profile, &folder, "")?;
            machine.cpus = cpus;
            machine.append = "-- /share".into();
            let mut guest = Vm::start(&machine, Console::Recorded)?;
            let changed = change(&folder);
            let ending = guest.wait(Some(TIME_OUT))?.context("it does not end")?;
            ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
            changed?;
            ensure!(!ending.console.contains("WARN"), "{}", ending.console);
        }
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Four threads that make, link, rename and remove at random: the host gives numbers of inodes to new files soon.
fn stress() -> Result<()> {
    let folder = folder(&format!("stress-{}", std::process::id()))?;
    project::build("guest-tests", &[STRESS], Profile::Release)?;
    let mut machine = Machine::new(Kind::Q35, &project::image_of(STRESS, Profile::Release));
    machine.cpus = 2;
    machine.shares.push(format!("{}:/share", folder.display()).parse()?);
    machine.append = "env.STEPS=300 env.SEED=3 -- /share".into();
    let ending = Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A folder that the guest may only read; it is asked as little as the host.
fn read_only() -> Result<()> {
    let folder = folder(&format!("read-only-{}", std::process::id()))?;
    fs::write(folder.join("there"), "to be read")?;
    let mut machine = machine(Kind::Q35, Profile::Release, &folder, ":ro")?;
    machine.append = "-- /share ro".into();
    let ending = Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    ensure!(folder.read_dir()?.count() == 1, "something was made in it");
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What is not there is named, with what is.
fn missing() -> Result<()> {
    let folder = folder(&format!("missing-{}", std::process::id()))?;
    for (word, said) in [
        ("mount=/x:other:9p", "no 9p share of this tag, but share0"),
        ("mount=/x:share0:9p2", "knows no filesystem `9p2`, but ext4"),
        ("mount=/x:share0", "such as `/data:blk0`"),
    ] {
        let mut machine = machine(Kind::Q35, Profile::Release, &folder, "")?;
        // Not by the word that goes with it.
        machine.extra = machine.shares[0].arguments(0, machine.kind).to_vec();
        machine.shares.clear();
        machine.append = word.into();
        let ending =
            Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")?;
        ensure!(ending.code != Some(0) && ending.console.contains(said), "{word}: {}", ending.console);
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}
