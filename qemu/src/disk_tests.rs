//! Guest tests with a disk: made by `mke2fs` before, judged by `e2fsck` after. On Linux the same program
//! gets a folder.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::disk::{self, Disk};
use crate::machine::Machine;
use crate::partitioned::{Surrounded, TableKind};
use crate::project;

/// The environment variable that tells a test where its files go.
pub(crate) const DATA: &str = "DATA";

/// A configuration of QEMU's `blkdebug` with sectors that cannot be written.
fn blkdebug_rules([first, step, count]: [u64; 3]) -> String {
    let rule = |index| {
        let sector = first + index * step;
        format!(
            "[inject-error]\nevent = \"write_aio\"\niotype = \"write\"\nerrno = \"5\"\nsector = \"{sector}\"\n\n"
        )
    };
    (0..count).map(rule).collect()
}

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
    /// The same, made for so many bad sectors: the first, how far they lie apart, how many.
    bad_sectors: Option<[u64; 3]>,
    /// The filesystem is in a partition, with others around it that nobody may touch.
    table: Option<TableKind>,
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
            bad_sectors: None,
            table: None,
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
        match self.table {
            None => disk::make(&path, None, &self.size, &options)?,
            Some(kind) => Surrounded::new(kind, &self.size, self.sector_bytes)?.make(&path, &options)?,
        }
        if self.unformatted {
            let len = path.metadata()?.len();
            std::fs::File::create(&path)?.set_len(len)?;
        }
        let mut faults = self.faults.as_ref().map(|file| project::root().join("apps/guest-tests").join(file));
        if let Some(bad) = self.bad_sectors {
            let file = path.with_extension("conf");
            std::fs::write(&file, blkdebug_rules(bad))?;
            faults = Some(file);
        }
        let (is_read_only, write_limit, sector_bytes) = (self.read_only, self.write_limit, self.sector_bytes);
        let discards = self.table.is_some();
        Ok(Disk { is_read_only, faults, write_limit, sector_bytes, discards, ..Disk::new(&path) })
    }

    /// Gives the disk to a machine that is about to boot for the `boot`th time.
    pub(crate) fn attach(&self, machine: &mut Machine, disk: &Disk, boot: u32) {
        machine.disks.push(disk.clone());
        if !["mount=", "root="].iter().any(|word| machine.append.contains(word)) {
            let disk = self.table.map_or("blk0", TableKind::device);
            machine.append.push_str(&format!(" mount=/data:{disk}:ext4"));
        }
        machine.append.push_str(&format!(" env.{DATA}=/data env.BOOT={boot}"));
    }

    /// What `e2fsck` thinks of the disk.
    pub(crate) fn judge(&self, disk: &Disk) -> Result<()> {
        match self.table {
            _ if self.faults.is_some() || self.bad_sectors.is_some() => Ok(()),
            None => disk::check(&disk.path),
            Some(kind) => Surrounded::new(kind, &self.size, self.sector_bytes)?.judge(&disk.path),
        }
    }
}
