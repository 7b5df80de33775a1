//! Disks of tests whose filesystem is in a partition. What lies before and behind it is filled with a pattern, and must
//! be so afterwards, as the table must.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gpt_disk_types::{GptPartitionType, Guid};
use serde::Deserialize;

use crate::disk;
use crate::partition_table::{ALIGNMENT_BYTES, NewPartition, write_gpt, write_mbr};

/// Which kind of table.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TableKind {
    Gpt,
    Mbr,
    /// A GPT whose first copy is damaged.
    Backup,
}

impl TableKind {
    /// The partition with the filesystem.
    pub(crate) fn device(self) -> &'static str {
        if self == Self::Mbr { "blk0p5" } else { "blk0p2" }
    }
}

/// Bytes of each neighbour.
const NEIGHBOUR_BYTES: u64 = 1 << 20;
const PATTERN: u8 = 0xa5;

/// A disk of three partitions: the one in the middle has the filesystem.
pub(crate) struct Surrounded {
    kind: TableKind,
    block_bytes: u64,
    /// Of the partition in the middle.
    start: u64,
    bytes: u64,
}

impl Surrounded {
    /// The filesystem gets `size`, as for `mke2fs`, in MiB.
    pub(crate) fn new(kind: TableKind, size: &str, sector_bytes: Option<u32>) -> Result<Self> {
        let mib: u64 = size.strip_suffix('M').and_then(|mib| mib.parse().ok()).context("a size in MiB")?;
        let start = 2 * ALIGNMENT_BYTES + NEIGHBOUR_BYTES;
        Ok(Self { kind, block_bytes: sector_bytes.unwrap_or(512).into(), start, bytes: mib << 20 })
    }

    /// The partitions: first and last are neighbours. A block before each is kept for an MBR's records.
    fn partitions(&self) -> [NewPartition; 3] {
        let end = self.start + self.bytes;
        let places = [
            (ALIGNMENT_BYTES, NEIGHBOUR_BYTES),
            (self.start, self.bytes),
            (end + self.block_bytes, NEIGHBOUR_BYTES),
        ];
        let names = ["before", "middle", "behind"];
        let mut number = 0;
        places.map(|(start, bytes)| {
            number += 1;
            NewPartition {
                kind: GptPartitionType::BASIC_DATA,
                name: names[usize::from(number) - 1],
                uuid: Guid::from_bytes([number; 16]),
                first: start / self.block_bytes,
                blocks: bytes / self.block_bytes,
            }
        })
    }

    /// Makes the image. `options` go to `mke2fs`.
    pub(crate) fn make(&self, path: &Path, options: &[&str]) -> Result<()> {
        let partitions = self.partitions();
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(self.start + self.bytes + self.block_bytes + NEIGHBOUR_BYTES + ALIGNMENT_BYTES)?;
        for partition in [&partitions[0], &partitions[2]] {
            file.write_all_at(&vec![PATTERN; NEIGHBOUR_BYTES as usize], partition.first * self.block_bytes)?;
        }
        if self.kind == TableKind::Mbr {
            write_mbr(&file, self.block_bytes, 0xc0ff_ee00, &partitions)?;
        } else {
            write_gpt(&file, self.block_bytes, Guid::from_bytes([0x77; 16]), &partitions)?;
        }
        if self.kind == TableKind::Backup {
            file.write_all_at(&[0xff; 64], self.block_bytes + 16)?;
        }
        disk::make_within(path, self.start, self.bytes, options)
    }

    /// What `e2fsck` thinks of the filesystem, and whether all around it is as it was made.
    pub(crate) fn judge(&self, path: &Path) -> Result<()> {
        disk::check_within(path, self.start)?;
        let fresh = path.with_extension("fresh");
        let _ = std::fs::remove_file(&fresh);
        self.make(&fresh, &[])?;
        let around = |path: &Path| -> Result<Vec<u8>> {
            let bytes = std::fs::read(path)?;
            let (start, end) = (self.start as usize, (self.start + self.bytes) as usize);
            Ok([&bytes[..start], &bytes[end..]].concat())
        };
        let is_same = around(path)? == around(&fresh)?;
        std::fs::remove_file(&fresh)?;
        ensure!(is_same, "something was written outside of the partition");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_outside_is_found() {
        let path = std::env::temp_dir().join(format!("unikernel-partition-{}.img", std::process::id()));
        for kind in [TableKind::Gpt, TableKind::Mbr, TableKind::Backup] {
            let disk = Surrounded::new(kind, "8M", None).unwrap();
            disk.make(&path, &[]).unwrap();
            disk.judge(&path).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0], disk.start + disk.bytes + disk.block_bytes).unwrap();
            assert!(disk.judge(&path).is_err());
            std::fs::remove_file(&path).unwrap();
        }
    }
}
