//! Disks: images of them, made with e2fsprogs, and how a guest gets them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::DiskOptions;
use crate::machine::{Kind, option_value};

/// The smallest disk that is made without being asked for it.
const LEAST_BYTES: u64 = 64 << 20;

/// A disk of a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Disk {
    /// The image.
    pub(crate) path: PathBuf,
    pub(crate) is_read_only: bool,
    /// What is written is forgotten.
    pub(crate) forgets_writes: bool,
    /// A configuration of QEMU's `blkdebug`, to have errors injected.
    pub(crate) faults: Option<PathBuf>,
    /// Bytes a second that it takes at most.
    pub(crate) write_limit: Option<u64>,
    /// Bytes that it reads and writes at once, if not 512.
    pub(crate) sector_bytes: Option<u32>,
    /// What the guest discards is gone from the image.
    pub(crate) discards: bool,
}

impl FromStr for Disk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, is_read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text, false),
        };
        ensure!(!path.is_empty(), "FILE or FILE:ro");
        Ok(Self { is_read_only, ..Self::new(Path::new(path)) })
    }
}

impl Disk {
    /// A disk that can be written.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_read_only: false,
            forgets_writes: false,
            faults: None,
            write_limit: None,
            sector_bytes: None,
            discards: false,
        }
    }

    /// Tells what is missing before QEMU does.
    pub(crate) fn check(&self) -> Result<()> {
        let shown = self.path.display();
        ensure!(
            self.path.exists(),
            "there is no disk at {shown}; an empty one: `make disk DISK={shown} SIZE=64M`"
        );
        Ok(())
    }

    /// What the image is, by its name: hypervisors that look into it can be deceived by who writes to the disk.
    pub(crate) fn format(&self) -> &'static str {
        if self.path.extension().is_some_and(|end| end == "qcow2") { "qcow2" } else { "raw" }
    }

    /// QEMU's arguments for disk number `number`.
    pub(crate) fn arguments(&self, number: usize, kind: Kind) -> [String; 4] {
        let mut drive = format!("if=none,id=disk{number},format={}", self.format());
        match &self.faults {
            None => drive.push_str(&format!(",file={}", option_value(&self.path))),
            Some(faults) => drive.push_str(&format!(
                ",file.driver=blkdebug,file.config={},file.image.driver=file,file.image.filename={},\
                 werror=report,rerror=report",
                option_value(faults),
                option_value(&self.path)
            )),
        }
        let flags = [
            (self.is_read_only, ",readonly=on"),
            (self.forgets_writes, ",snapshot=on"),
            (self.discards, ",discard=unmap"),
        ];
        flags.iter().filter(|(is_on, _)| *is_on).for_each(|(_, flag)| drive.push_str(flag));
        if let Some(limit) = self.write_limit {
            drive.push_str(&format!(",throttling.bps-write={limit}"));
        }
        let mut device = match kind {
            // On its own, QEMU fills the buses from the last to the first, and the first disk would be
            // the last.
            Kind::Microvm => {
                // In their order; not on the first bus, whose interrupt QEMU brings to the wrong pin: `ioapic_set_irq`
                // takes pin 0 for the ISA timer's on the second I/O APIC, too.
                format!("virtio-blk-device,drive=disk{number},bus=virtio-mmio-bus.{}", number + 1)
            }
            _ => format!("virtio-blk-pci,drive=disk{number}"),
        };
        if let Some(bytes) = self.sector_bytes {
            device.push_str(&format!(",logical_block_size={bytes},physical_block_size={bytes}"));
        }
        ["-drive".into(), drive, "-device".into(), device]
    }
}

/// `disk`: makes an image with ext4 on it.
pub(crate) fn run(options: &DiskOptions) -> Result<u8> {
    let shown = options.file.display();
    ensure!(
        !options.file.exists(),
        "{shown} exists already, and may hold data: remove it, or name another file"
    );
    let parent = options.file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        ensure!(parent.is_dir(), "there is no folder {}", parent.display());
    }
    let size = match &options.size {
        Some(size) => checked_size(size)?.to_owned(),
        None => default_size(options.folder.as_deref())?,
    };
    if let Err(error) = make(&options.file, options.folder.as_deref(), &size, &[]) {
        // What mke2fs has begun is no disk, and would be in the way of the next attempt.
        let _ = std::fs::remove_file(&options.file);
        return Err(error);
    }
    println!("{}: ext4, {size}", options.file.display());
    Ok(0)
}

/// A size as mke2fs takes it.
fn checked_size(text: &str) -> Result<&str> {
    let digits = text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g', 'T', 't']).unwrap_or(text);
    ensure!(digits.parse::<u64>().is_ok(), "--size {text}: a number of KiB, or with M or G, such as 64M");
    Ok(text)
}

/// Half as much again as the folder's files take, in whole MiB.
fn default_size(folder: Option<&Path>) -> Result<String> {
    let used = folder.map_or(Ok(0), folder_bytes)?;
    Ok(format!("{}M", (used + used / 2).max(LEAST_BYTES).div_ceil(1 << 20)))
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { folder_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Makes an image with a new ext4 that holds what is in `folder`. `extra` goes to `mke2fs`.
pub(crate) fn make(image: &Path, folder: Option<&Path>, size: &str, extra: &[&str]) -> Result<()> {
    let mut command = tool("mke2fs");
    command.args(["-q", "-F", "-t", "ext4"]).args(extra);
    if let Some(folder) = folder {
        command.arg("-d").arg(folder);
    }
    let output = command.arg(image).arg(size).output().context(MISSING)?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The same in `bytes` of an image that is there, from `start` on.
pub(crate) fn make_within(image: &Path, start: u64, bytes: u64, extra: &[&str]) -> Result<()> {
    run_within(tool("mke2fs"), image, start, bytes, extra, "")
}

/// The same with a label, and with nothing in it that is random or a time.
pub(crate) fn make_fixed(
    image: &Path,
    start: u64,
    bytes: u64,
    label: &str,
    uuid: &str,
    hash_seed: &str,
) -> Result<()> {
    let mut command = tool("mke2fs");
    command.env("E2FSPROGS_FAKE_TIME", FIXED_TIME);
    let extended = format!(",hash_seed={hash_seed}");
    run_within(command, image, start, bytes, &["-L", label, "-U", uuid], &extended)
}

/// Seconds since 1970: e2fsprogs takes 0 as no time. The first of 1980, as FAT counts from.
const FIXED_TIME: &str = "315532800";

/// `extended` goes behind the one option of its kind, of which the last counts.
fn run_within(
    mut command: Command,
    image: &Path,
    start: u64,
    bytes: u64,
    extra: &[&str],
    extended: &str,
) -> Result<()> {
    command.args(["-q", "-F", "-t", "ext4"]).args(extra);
    command.arg("-E").arg(format!("offset={start}{extended}")).arg(image).arg(format!("{}k", bytes / 1024));
    let output = command.output().context(MISSING)?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Checks an image with `e2fsck -fn`, which is to find nothing.
pub(crate) fn check(image: &Path) -> Result<()> {
    check_within(image, 0)
}

/// The same of a filesystem that begins at `start` of an image.
pub(crate) fn check_within(image: &Path, start: u64) -> Result<()> {
    let place = format!("{}?offset={start}", image.display());
    let output = tool("e2fsck").arg("-fn").arg(place).output().context(MISSING)?;
    if !output.status.success() {
        bail!("e2fsck: {}", String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}

/// Replays the journal with `e2fsck -p`, and lets it correct what that allows (e2fsck(8): 0 and 1 are good).
pub(crate) fn replay(image: &Path) -> Result<()> {
    let output = tool("e2fsck").arg("-p").arg(image).output().context(MISSING)?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("e2fsck -p ({}): {}", output.status, String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}

const MISSING: &str = "e2fsprogs is not installed: run `make setup`";

/// A program of e2fsprogs, which Debian keeps where only root's path leads.
fn tool(name: &str) -> Command {
    let in_sbin = Path::new("/usr/sbin").join(name);
    Command::new(if in_sbin.exists() { in_sbin } else { name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_files_perhaps_read_only() {
        let disk: Disk = "data.img:ro".parse().unwrap();
        assert_eq!((disk.path.as_path(), disk.is_read_only), (Path::new("data.img"), true));
        assert!(!"data.img".parse::<Disk>().unwrap().is_read_only);
        assert!(":ro".parse::<Disk>().is_err());
    }

    #[test]
    fn disks_are_numbered_and_their_names_option_value() {
        let disk: Disk = "a,b.qcow2:ro".parse().unwrap();
        let arguments = disk.arguments(1, Kind::Microvm).join(" ");
        assert!(arguments.contains("id=disk1,format=qcow2,file=a,,b.qcow2,readonly=on"));
        assert!(arguments.contains("virtio-blk-device,drive=disk1,bus=virtio-mmio-bus.2"));
        assert!(disk.arguments(0, Kind::Q35)[3].contains("virtio-blk-pci,drive=disk0"));
    }

    #[test]
    fn image_is_made_from_a_folder_and_found_good() {
        let folder = tempfile();
        std::fs::write(folder.join("hello.txt"), "hello").unwrap();
        let image = folder.with_extension("img");
        make(&image, Some(&folder), &default_size(Some(&folder)).unwrap(), &[]).unwrap();
        check(&image).unwrap();
        std::fs::write(&image, vec![0; 1 << 20]).unwrap();
        assert!(check(&image).is_err());
        std::fs::remove_file(&image).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_that_cannot_be_made_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("unikernel-no-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let error = |file: &str, size: &str| {
            let file = folder.join(file);
            let options = DiskOptions { file: file.clone(), folder: None, size: Some(size.to_owned()) };
            let error = run(&options).unwrap_err().to_string();
            assert!(!file.exists(), "{error}");
            error
        };
        assert!(error("small.img", "1K").starts_with("mke2fs: "));
        assert!(error("wrong.img", "64X").contains("such as 64M"));
        assert!(error("nowhere/a.img", "64M").contains("there is no folder"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn tempfile() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("unikernel-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
