//! Guest tests with a disk: made by `mke2fs` before, judged by `e2fsck` after. On Linux the same program
//! gets a folder.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::disk::{self, Disk};
use crate::machine::Machine;
use crate::project;

/// The environment variable that tells a test where its files go.
pub(crate) const DATA: &str = "DATA";

/// The disk of a test.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskPlan {
    /// As for `mke2fs`.
    size: String,
    /// Nothing but zeros.
    #[serde(default)]
    unformatted: bool,
    #[serde(default)]
    read_only: bool,
    /// How often the guest is booted with the same disk.
    #[serde(default = "once")]
    pub(crate) boots: u32,
    /// A configuration of QEMU's `blkdebug` below `apps/guest-tests`. What it breaks is not judged.
    faults: Option<String>,
    /// Bytes a second that the disk takes at most: the guest is faster, and memory fills.
    write_limit: Option<u64>,
    /// Bytes that the disk reads and writes at once, if not 512.
    sector_bytes: Option<u32>,
    /// Options for `mke2fs`.
    #[serde(default)]
    options: Vec<String>,
}

fn once() -> u32 {
    1
}

impl DiskPlan {
    /// A disk with an empty filesystem.
    pub(crate) fn of_size(size: &str) -> Self {
        Self {
            size: size.to_owned(),
            unformatted: false,
            read_only: false,
            boots: 1,
            faults: None,
            write_limit: None,
            sector_bytes: None,
            options: Vec::new(),
        }
    }

    /// An empty folder in place of the disk.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = project::work_dir("disks")?.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Makes the disk.
    pub(crate) fn make(&self, name: &str) -> Result<Disk> {
        let path = project::work_dir("disks")?.join(format!("{name}.img"));
        let _ = std::fs::remove_file(&path);
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        disk::make(&path, None, &self.size, &options)?;
        if self.unformatted {
            let len = path.metadata()?.len();
            std::fs::File::create(&path)?.set_len(len)?;
        }
        let faults = self.faults.as_ref().map(|file| project::root().join("apps/guest-tests").join(file));
        let (is_read_only, write_limit, sector_bytes) = (self.read_only, self.write_limit, self.sector_bytes);
        Ok(Disk { is_read_only, faults, write_limit, sector_bytes, ..Disk::new(&path) })
    }

    /// Gives the disk to a machine that is about to boot for the `boot`th time.
    pub(crate) fn attach(&self, machine: &mut Machine, disk: &Disk, boot: u32) {
        machine.disks.push(disk.clone());
        if !["mount=", "root="].iter().any(|word| machine.append.contains(word)) {
            machine.append.push_str(" mount=/data:blk0:ext4");
        }
        machine.append.push_str(&format!(" env.{DATA}=/data env.BOOT={boot}"));
    }

    /// What `e2fsck` thinks of the disk.
    pub(crate) fn judge(&self, disk: &Disk) -> Result<()> {
        if self.faults.is_some() { Ok(()) } else { disk::check(&disk.path) }
    }
}
