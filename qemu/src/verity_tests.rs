//! Disks whose blocks are checked: made by `mke2fs` and `veritysetup`, changed by the test, read by the guest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::project::{self, Profile};
use crate::vm::{Console, Ending, Vm};

const PROGRAM: &str = "verity_files";
/// As the program has them.
const LARGE_BYTES: usize = (6 << 20) + 77;
const MANY: usize = 100;
const PAGE: usize = 4096;
const TIME_OUT: Duration = Duration::from_secs(120);
/// What the filesystem takes; the hashes come behind it.
const SIZE: &str = "32M";
const SIZE_BYTES: u64 = 32 << 20;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    if tool().is_none() {
        let left_out = || {
            println!("verity: left out: no `veritysetup` (cryptsetup-bin)");
            Ok(())
        };
        return vec![("verity".into(), Box::new(left_out))];
    }
    vec![
        ("verity_files [linux]".into(), Box::new(on_linux)),
        ("verity_root [q35]".into(), Box::new(|| root(Kind::Q35, Profile::Release))),
        ("verity_root [microvm]".into(), Box::new(|| root(Kind::Microvm, Profile::Release))),
        ("verity_root [q35, checked]".into(), Box::new(|| root(Kind::Q35, Profile::Debug))),
        ("verity_two_disks [q35]".into(), Box::new(two_disks)),
        ("verity_changed [q35]".into(), Box::new(changed)),
        ("verity_refused [q35]".into(), Box::new(refused)),
    ]
}

fn tool() -> Option<PathBuf> {
    ["/usr/sbin/veritysetup", "/sbin/veritysetup"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + at / PAGE * 7) as u8).collect()
}

/// A folder with the files.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = project::work_dir("verity")?.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(folder.join("a/b"))?;
    fs::create_dir_all(folder.join("many"))?;
    fs::write(folder.join("a/b/deep.txt"), "deep")?;
    fs::write(folder.join("large"), pattern(LARGE_BYTES))?;
    for number in 0..MANY {
        fs::write(folder.join(format!("many/{number}")), pattern(number * 10))?;
    }
    Ok(folder)
}

fn on_linux() -> Result<()> {
    let folder = folder("linux")?;
    let status = Command::new(project::built(PROGRAM)?).arg(&folder).status()?;
    ensure!(status.success(), "{status}");
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Makes the hashes of the first bytes of a disk, behind them or in a file of their own; answers the root hash.
fn format(image: &Path, hashes: Option<&Path>, bytes: u64, options: &[&str]) -> Result<String> {
    let mut command = Command::new(tool().context("veritysetup is not installed: run `make setup`")?);
    command.arg("format").args(options).arg(image);
    match hashes {
        Some(hashes) => {
            let _ = fs::remove_file(hashes);
            command.arg(hashes)
        }
        None => {
            command.arg(image).arg(format!("--hash-offset={bytes}"));
            command.arg(format!("--data-blocks={}", bytes / PAGE as u64))
        }
    };
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "veritysetup: {}", String::from_utf8_lossy(&output.stderr));
    let root = text.lines().find_map(|line| line.strip_prefix("Root hash:")).context("a root hash")?;
    // Images of disks are whole sectors.
    for path in [Some(image), hashes].into_iter().flatten() {
        let file = File::options().write(true).open(path)?;
        file.set_len(file.metadata()?.len().next_multiple_of(PAGE as u64))?;
    }
    Ok(root.trim().to_owned())
}

/// Makes the hashes of the first bytes of a disk, behind them; answers the root hash.
pub(crate) fn add_hashes(image: &Path, bytes: u64) -> Result<String> {
    format(image, None, bytes, &[])
}

/// A disk with the files, its hashes behind them or in a file of their own, and the root hash.
struct Made {
    image: PathBuf,
    hashes: Option<PathBuf>,
    root: String,
}

impl Made {
    fn new(name: &str, block: &str, options: &[&str], is_apart: bool) -> Result<Self> {
        let folder = folder(name)?;
        let image = folder.with_extension("img");
        let _ = fs::remove_file(&image);
        disk::make(&image, Some(&folder), SIZE, &["-b", block])?;
        fs::remove_dir_all(&folder)?;
        let hashes = is_apart.then(|| folder.with_extension("hashes"));
        let root = format(&image, hashes.as_deref(), SIZE_BYTES, options)?;
        Ok(Self { image, hashes, root })
    }

    /// Changes a bit of the disk.
    fn flip(&self, at: usize) -> Result<()> {
        let file = File::options().read(true).write(true).open(&self.image)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64)?;
        file.write_all_at(&[byte[0] ^ 4], at as u64)?;
        Ok(())
    }

    /// Where on the disk a page of `large` is.
    fn place_of(&self, page: usize) -> Result<usize> {
        let (content, expected) = (fs::read(&self.image)?, pattern(LARGE_BYTES));
        let expected = &expected[page * PAGE..(page + 1) * PAGE];
        let place = content.chunks(PAGE).position(|block| block == expected);
        Ok(place.context("the page is on the disk")? * PAGE)
    }

    fn run(&self, kind: Kind, profile: Profile, words: &str) -> Result<Ending> {
        run(kind, profile, &[Some(&self.image), self.hashes.as_ref()], words)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in [Some(&self.image), self.hashes.as_ref()].into_iter().flatten() {
            let _ = fs::remove_file(path);
        }
    }
}

fn run(kind: Kind, profile: Profile, disks: &[Option<&PathBuf>], words: &str) -> Result<Ending> {
    project::build("guest-tests", &[PROGRAM], profile)?;
    let mut machine = Machine::new(kind, &project::image_of(PROGRAM, profile));
    machine.cpus = 2;
    machine.disks.extend(disks.iter().flatten().map(|path| Disk::new(Path::new(path))));
    machine.append = words.into();
    Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")
}

fn ensure_good(ending: &Ending) -> Result<()> {
    let is_good = ending.code == Some(0) && ending.console.contains("verity_files: all well");
    ensure!(is_good, "{:?}: {}", ending.code, ending.console);
    Ok(())
}

/// The root is on such a disk, with the hashes behind the files; it stays as it is.
fn root(kind: Kind, profile: Profile) -> Result<()> {
    let name = format!("root-{kind}-{}", profile == Profile::Debug);
    let made = Made::new(&name, "4096", &[], false)?;
    let before = fs::read(&made.image)?;
    let words = format!("root=blk0:verity={}@32M -- / checked", made.root);
    let ending = made.run(kind, profile, &words)?;
    ensure_good(&ending)?;
    let is_told = ending.console.contains("8192 blocks of 4096 bytes are checked by sha256 against")
        && ending.console.contains("blk0: ext4 at /, read-only");
    ensure!(is_told && !ending.console.contains("verity: block"), "{}", ending.console);
    ensure!(fs::read(&made.image)? == before, "the disk has changed");
    Ok(())
}

/// Hashes on a disk of their own, smaller and larger blocks than the filesystem's, SHA-512.
fn two_disks() -> Result<()> {
    for (block, options) in [
        ("1024", &["--hash=sha512"][..]),
        ("4096", &["--data-block-size=512", "--hash-block-size=1024"]),
        ("1024", &["--data-block-size=4096", "--hash-block-size=512", "--salt=-"]),
    ] {
        let made = Made::new("two-disks", block, options, true)?;
        let words = format!("mount=/data:blk0:ext4:verity={}@blk1:ro -- /data checked", made.root);
        ensure_good(&made.run(Kind::Q35, Profile::Release, &words)?)?;
    }
    Ok(())
}

/// Changed blocks of a file cannot be read, and are named; all others can. With `restart` and `panic`, the machine ends.
fn changed() -> Result<()> {
    let made = Made::new("changed", "4096", &[], false)?;
    let (pages, words) = ([3, 700, 1535], format!("root=blk0:verity={}@32M", made.root));
    let places = pages.map(|page| made.place_of(page));
    for place in &places {
        made.flip(place.as_ref().map_err(|error| anyhow::anyhow!("{error}"))? + 77)?;
    }
    let ending = made.run(Kind::Q35, Profile::Release, &format!("{words} -- / checked 3 700 1535"))?;
    ensure_good(&ending)?;
    for place in places {
        let line = format!("verity: block {} is not what it was when the hashes were made", place? / PAGE);
        ensure!(ending.console.contains(&line), "{line}: {}", ending.console);
    }
    let ends = |option: &str, profile| -> Result<Ending> {
        let ending = made.run(Kind::Q35, profile, &format!("{words},{option} -- / checked 3"))?;
        let is_told = ending.console.contains("is not what it was when the hashes were made");
        ensure!(is_told && !ending.console.contains("all well"), "{:?}: {}", ending.code, ending.console);
        Ok(ending)
    };
    for profile in [Profile::Release, Profile::Debug] {
        let ending = ends("panic", profile)?;
        let is_panic = ending.code.is_some_and(|code| code != 0) && ending.console.contains("panic");
        ensure!(is_panic, "{:?}: {}", ending.code, ending.console);
        // QEMU is told not to start machines again, and ends: no code was written for it.
        let ending = ends("restart", profile)?;
        let is_reset = ending.code.is_none() && !ending.console.contains("panic");
        ensure!(is_reset, "{:?}: {}", ending.code, ending.console);
    }
    Ok(())
}

/// What cannot be checked is not mounted.
fn refused() -> Result<()> {
    let made = Made::new("refused", "4096", &[], false)?;
    let other = made.root.chars().rev().collect::<String>();
    let root = &made.root;
    for (words, reason) in [
        // Another root: the first block of the filesystem is not good already.
        (
            format!("root=blk0:verity={other}@32M"),
            "blk0: verity: block 0 cannot be checked: block 8193 of the hashes",
        ),
        (
            format!("root=blk0:verity={root}@16M"),
            "there is no hash area of `veritysetup format` at that place",
        ),
        (
            format!("root=blk0:verity={root}@99G"),
            "there is no hash area of `veritysetup format` at that place",
        ),
        (format!("root=blk0:verity={root}@blk1"), "there is no disk `blk1`"),
        (format!("root=blk0:verity={root}00@32M"), "bad command line"),
    ] {
        let ending = made.run(Kind::Q35, Profile::Release, &format!("{words} -- / checked"))?;
        let is_told = ending.code == Some(125) && ending.console.contains(reason);
        ensure!(
            is_told && !ending.console.contains("all well"),
            "{words}: {:?}: {}",
            ending.code,
            ending.console
        );
    }
    Ok(())
}
