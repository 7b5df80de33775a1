//! Disks and their partitions, by name: `blk0` is the first disk that the bus shows, `blk0p1` its first partition; those of modules have names of their own.
//!
//! - here: which there are; [`device`]: what a driver offers; [`volume`]: one as a filesystem sees it, a run of bytes; [`verity`]: one whose blocks are
//!   checked. Tables of partitions are read by `unikernel_partition`.

pub(crate) mod device;
pub(crate) mod verity;
pub(crate) mod volume;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use spin::Once;
use unikernel_cmdline::Shown;
use unikernel_partition::{Partition, ReadError, Table, TableKind};

use device::{BlockDevice, SECTOR_BYTES};
use volume::Volume;

use crate::sync::SpinLock;

/// The kernel's own disks.
static DISKS: Once<Vec<Arc<dyn BlockDevice>>> = Once::new();
/// These and those of modules, with their partitions.
static DEVICES: SpinLock<Vec<Arc<Device>>> = SpinLock::new(Vec::new());

/// SCSI disks' major number, with 16 minor numbers for each disk; and that of what has no place there.
const DISK_MAJOR: u64 = 8;
const MINORS: u64 = 16;
const EXTENDED_MAJOR: u64 = 259;

/// A disk or a partition.
pub(crate) struct Device {
    /// `blk0`, `blk0p1`.
    pub name: String,
    /// Its number, as `st_dev` of what is on it.
    pub number: u64,
    /// Its bytes.
    pub volume: Volume,
    /// `PARTUUID` and `PARTLABEL`, of a partition.
    pub partition: Option<(String, String)>,
    /// Of a disk: it has a table of partitions, good or bad.
    pub has_table: bool,
}

/// Takes over the disks that were found.
pub(crate) fn init(disks: Vec<Arc<dyn BlockDevice>>) {
    DISKS.call_once(|| disks);
    for (index, disk) in disks_found().iter().enumerate() {
        let mib = disk.sectors() / 2048;
        let kind = if disk.is_read_only() { ", read-only" } else { "" };
        log::debug!("blk{index}: {mib} MiB{kind}, {}", disk.place());
    }
}

/// Looks for partitions on all disks.
pub(crate) fn find_partitions() {
    for (index, disk) in disks_found().iter().enumerate() {
        add_disk(&format!("blk{index}"), Some(index as u64), disk);
    }
}

/// Adds a disk that has come later, and looks for its partitions.
pub(crate) fn add(name: &str, disk: &Arc<dyn BlockDevice>) {
    add_disk(name, None, disk);
}

/// Takes a disk away with its partitions.
pub(crate) fn remove(name: &str) {
    // What was on the list may end when the lock is free again.
    let _removed: Vec<_> = DEVICES.lock().extract_if(.., |device| disk_name(&device.name) == name).collect();
}

/// The name of the disk that a disk or partition is: without `p` and number behind a number.
fn disk_name(name: &str) -> &str {
    match name.rsplit_once('p') {
        Some((disk, _)) if disk.ends_with(|last: char| last.is_ascii_digit()) => disk,
        _ => name,
    }
}

/// True for a name that a disk of a module's can have: letters and digits, ending in a number, with no `p` that could begin that of a partition, and none of ours.
pub(crate) fn is_name(name: &str) -> bool {
    const MOST_BYTES: usize = 16;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let ends_well = name.ends_with(|last: char| last.is_ascii_digit());
    name.len() <= MOST_BYTES && is_plain && ends_well && disk_name(name) == name && !name.starts_with("blk")
}

fn disks_found() -> &'static [Arc<dyn BlockDevice>] {
    DISKS.get().map_or(&[], Vec::as_slice)
}

/// All disks, each with its partitions behind it.
pub(crate) fn all() -> Vec<Arc<Device>> {
    DEVICES.lock().clone()
}

/// The disk or partition with a name.
pub(crate) fn find(name: &str) -> Option<Arc<Device>> {
    DEVICES.lock().iter().find(|device| device.name == name).cloned()
}

/// A disk has raised its interrupt; it is not known which.
pub(crate) fn interrupt() {
    disks_found().iter().for_each(|disk| disk.interrupt());
}

/// Adds a disk, with its number among the kernel's own if it is one of these.
fn add_disk(name: &str, index: Option<u64>, disk: &Arc<dyn BlockDevice>) {
    let whole = Volume::new(disk);
    let table = unikernel_partition::read(&whole);
    let has_table = !matches!(table, Ok(None));
    let device = |name, number, volume| Device { name, number, volume, partition: None, has_table: false };
    let of_disk = device(name.into(), device_number(index, 0), whole.part(0, None));
    push(Device { has_table, ..of_disk });
    let table = match table {
        Ok(Some(table)) => table,
        Ok(None) => return,
        Err(error) => return log::warn!("{name}: its partitions cannot be used: {error}"),
    };
    log_table(name, &table);
    for Partition { number, first_sector, sectors, uuid, label } in table.partitions {
        let place = device_number(index, u64::from(number));
        let volume = whole.part(first_sector, Some(sectors));
        let partition = Some((uuid, label));
        push(Device { partition, ..device(format!("{name}p{number}"), place, volume) });
    }
}

fn push(device: Device) {
    DEVICES.lock().push(Arc::new(device));
}

/// One that no other device has.
fn device_number(disk: Option<u64>, partition: u64) -> u64 {
    if let Some(disk) = disk.filter(|disk| *disk < MINORS && partition < MINORS) {
        return (DISK_MAJOR << 8) + disk * MINORS + partition;
    }
    let number = |minor: u64| (EXTENDED_MAJOR << 8) | (minor & 0xff) | ((minor & !0xff) << 12);
    let devices = DEVICES.lock();
    let is_free = |minor: &u64| devices.iter().all(|device| device.number != number(*minor));
    (0..).find(is_free).map_or(0, number)
}

fn log_table(name: &str, table: &Table) {
    let mut text = String::new();
    for Partition { number, sectors, label, .. } in &table.partitions {
        // Writing to a string cannot fail.
        let _ = write!(text, "; {name}p{number}: {} MiB", sectors / 2048);
        if !label.is_empty() {
            let _ = write!(text, " \"{}\"", Shown(label));
        }
    }
    let kind = if table.kind == TableKind::Gpt { "GPT" } else { "MBR" };
    log::info!("{name}: {kind} with {} partitions{text}", table.partitions.len());
    for complaint in &table.complaints {
        log::warn!("{name}: {complaint}");
    }
}

impl unikernel_partition::Disk for Volume {
    fn block_bytes(&self) -> usize {
        self.limits().block_bytes as usize
    }

    fn blocks(&self) -> u64 {
        self.size_bytes() / u64::from(self.limits().block_bytes)
    }

    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        Volume::read(self, block * u64::from(self.limits().block_bytes), into).map_err(|_| ReadError)
    }
}

const _: () = assert!(SECTOR_BYTES == unikernel_partition::SECTOR_BYTES);

#[cfg(test)]
mod tests {
    use super::{disk_name, is_name};

    #[test]
    fn partitions_are_told_from_disks_by_their_names() {
        let of = [("blk0", "blk0"), ("blk12p3", "blk12"), ("nvme0n1p2", "nvme0n1"), ("nvme0n1", "nvme0n1")];
        assert!(of.iter().all(|(name, disk)| disk_name(name) == *disk));
        assert_eq!(disk_name("ramp1"), "ramp1", "no number before the letter");
    }

    #[test]
    fn disks_of_modules_are_none_of_the_kernels_and_no_partitions() {
        assert!(["nvme0n1", "disk1", "nvme15n8"].into_iter().all(is_name));
        let bad = ["", "blk9", "nvme0n1p2", "nvme", "Disk1", "a/b1", "..1", "nvme0n1 ", "disk11111111111111"];
        assert!(!bad.into_iter().any(is_name));
    }
}
