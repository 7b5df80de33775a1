//! Disks with FAT, made by `fatfs`: read by the guest, and never formatted.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

use crate::disk::Disk;
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::project::{self, Profile};
use crate::vm::{Console, Ending, Vm};

const PROGRAM: &str = "vfat_files";
/// As the program has them.
const LARGE_BYTES: usize = (5 << 20) + 77;
const MANY: usize = 200;
/// As the program has it.
const MODIFIED: DateTime = DateTime {
    date: Date { year: 2020, month: 2, day: 3 },
    time: Time { hour: 4, min: 5, sec: 6, millis: 0 },
};
const TIME_OUT: Duration = Duration::from_secs(120);

/// A clock that stands.
#[derive(Debug)]
struct AlwaysThen;

impl TimeProvider for AlwaysThen {
    fn get_current_date(&self) -> Date {
        MODIFIED.date
    }

    fn get_current_date_time(&self) -> DateTime {
        MODIFIED
    }
}

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = vec![("vfat_files [linux]".into(), Box::new(on_linux))];
    for (kind, profile, fat_type) in [
        (Kind::Q35, Profile::Release, FatType::Fat32),
        (Kind::Microvm, Profile::Release, FatType::Fat16),
        (Kind::Q35, Profile::Debug, FatType::Fat16),
    ] {
        let place = if profile == Profile::Debug { format!("{kind}, checked") } else { kind.to_string() };
        tests.push((
            format!("vfat_files [{place}, {fat_type:?}]"),
            Box::new(move || booted(kind, profile, fat_type)),
        ));
    }
    tests.push(("vfat_stays [q35]".into(), Box::new(stays)));
    tests
}

/// The files, by their paths.
fn files() -> Vec<(String, Vec<u8>)> {
    let large = (0..LARGE_BYTES).map(|at| (at * 31 + at / 251) as u8).collect();
    let mut files = vec![
        ("small.txt".to_owned(), b"small".to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("Large file with a long name.bin".to_owned(), large),
        ("a/b/c/deep.txt".to_owned(), b"deep".to_vec()),
    ];
    files.extend((0..MANY).map(|number| (format!("many/number {number:03} of many.txt"), Vec::new())));
    files
}

fn on_linux() -> Result<()> {
    let folder = project::work_dir("vfat")?.join(format!("files-{}", std::process::id()));
    for (path, content) in files() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("in a folder")?)?;
        fs::write(path, content)?;
    }
    let status = Command::new(project::built(PROGRAM)?).arg(&folder).status()?;
    ensure!(status.success(), "{status}");
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A disk with the files on it, called `STICK`.
fn disk(fat_type: FatType) -> Result<PathBuf> {
    let path = project::work_dir("vfat")?.join(format!("{fat_type:?}-{}.img", std::process::id()));
    let mut image = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    image.set_len(if fat_type == FatType::Fat32 { 64 << 20 } else { 16 << 20 })?;
    let options = FormatVolumeOptions::new().fat_type(fat_type).volume_label(*b"STICK      ");
    fatfs::format_volume(&mut image, options)?;
    let volume = FileSystem::new(image, FsOptions::new().time_provider(&AlwaysThen))?;
    for (path, content) in files() {
        let mut folder = volume.root_dir();
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = folder.create_dir(part)?;
        }
        folder.create_file(name)?.write_all(&content)?;
    }
    volume.unmount()?;
    Ok(path)
}

fn run(kind: Kind, profile: Profile, image: &Path, words: &str) -> Result<Ending> {
    project::build("guest-tests", &[PROGRAM], profile)?;
    let mut machine = Machine::new(kind, &project::image_of(PROGRAM, profile));
    machine.cpus = 2;
    machine.disks.push(Disk::new(image));
    machine.append = words.into();
    Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")
}

fn booted(kind: Kind, profile: Profile, fat_type: FatType) -> Result<()> {
    let image = disk(fat_type)?;
    let before = fs::read(&image)?;
    // By whatever it is, by its kind, and by its label.
    for place in ["blk0", "blk0:vfat:ro", "LABEL=STICK"] {
        let ending = run(kind, profile, &image, &format!("mount=/stick:{place} -- /stick vfat"))?;
        ensure!(ending.code == Some(0), "{place}: {:?}: {}", ending.code, ending.console);
    }
    ensure!(fs::read(&image)? == before, "the disk has changed");
    fs::remove_file(&image)?;
    Ok(())
}

/// A disk is not formatted that has files, whatever kind of filesystem was asked for.
fn stays() -> Result<()> {
    let image = disk(FatType::Fat16)?;
    let before = fs::read(&image)?;
    let ending =
        run(Kind::Q35, Profile::Release, &image, "format=blk0 mount=/stick:blk0:ext4 -- /stick vfat")?;
    ensure!(
        ending.code != Some(0) && ending.console.contains("has no ext4 filesystem"),
        "{}",
        ending.console
    );
    let ending = run(Kind::Q35, Profile::Release, &image, "format=blk0 mount=/stick:blk0 -- /stick vfat")?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    ensure!(fs::read(&image)? == before, "the disk has changed");
    // Nor one that is damaged: it has more sectors than the disk, by its boot sector (`BPB_TotSec16`).
    let mut damaged = before;
    damaged[19..21].fill(0xff);
    fs::write(&image, &damaged)?;
    let ending = run(Kind::Q35, Profile::Release, &image, "format=blk0 mount=/stick:blk0 -- /stick vfat")?;
    ensure!(ending.code != Some(0) && ending.console.contains("cannot be mounted"), "{}", ending.console);
    ensure!(fs::read(&image)? == damaged, "the disk has changed");
    fs::remove_file(&image)?;
    Ok(())
}
