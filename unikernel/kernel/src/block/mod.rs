//! Disks and their partitions, by name: `blk0` is the first disk that the bus shows, `blk0p1` its first partition.
//!
//! - here: which there are; [`device`]: what a driver offers; [`volume`]: one as a filesystem sees it, a run of bytes; [`verity`]: one whose blocks are
//!   checked. Tables of partitions are read by `unikernel_partition`.

pub(crate) mod device;
pub(crate) mod verity;
pub(crate) mod volume;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use spin::Once;
use unikernel_cmdline::Shown;
use unikernel_partition::{Partition, ReadError, Table, TableKind};

use device::{BlockDevice, SECTOR_BYTES};
use volume::Volume;

static DISKS: Once<Vec<Box<dyn BlockDevice>>> = Once::new();
static DEVICES: Once<Vec<Device>> = Once::new();

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
pub(crate) fn init(disks: Vec<Box<dyn BlockDevice>>) {
    DISKS.call_once(|| disks);
    for (index, disk) in disks_found().iter().enumerate() {
        let mib = disk.sectors() / 2048;
        let kind = if disk.is_read_only() { ", read-only" } else { "" };
        log::debug!("blk{index}: {mib} MiB{kind}, {}", disk.place());
    }
}

/// Looks for partitions on all disks.
pub(crate) fn find_partitions() {
    DEVICES.call_once(|| {
        let mut devices = Vec::new();
        for (index, disk) in disks_found().iter().enumerate() {
            add_disk(&mut devices, index as u64, &**disk);
        }
        devices
    });
}

fn disks_found() -> &'static [Box<dyn BlockDevice>] {
    DISKS.get().map_or(&[], Vec::as_slice)
}

/// All disks, each with its partitions behind it.
pub(crate) fn all() -> &'static [Device] {
    DEVICES.get().map_or(&[], Vec::as_slice)
}

/// The disk or partition with a name.
pub(crate) fn find(name: &str) -> Option<&'static Device> {
    all().iter().find(|device| device.name == name)
}

/// A disk has raised its interrupt; it is not known which.
pub(crate) fn interrupt() {
    disks_found().iter().for_each(|disk| disk.interrupt());
}

fn add_disk(devices: &mut Vec<Device>, index: u64, disk: &'static dyn BlockDevice) {
    let (name, whole) = (format!("blk{index}"), Volume::new(disk));
    let table = unikernel_partition::read(&whole);
    let has_table = !matches!(table, Ok(None));
    let number = device_number(index, 0, devices.len());
    devices.push(Device { name: name.clone(), number, volume: whole, partition: None, has_table });
    let table = match table {
        Ok(Some(table)) => table,
        Ok(None) => return,
        Err(error) => return log::warn!("{name}: its partitions cannot be used: {error}"),
    };
    log_table(&name, &table);
    for Partition { number, first_sector, sectors, uuid, label } in table.partitions {
        devices.push(Device {
            name: format!("{name}p{number}"),
            number: device_number(index, u64::from(number), devices.len()),
            volume: whole.part(first_sector, sectors),
            partition: Some((uuid, label)),
            has_table: false,
        });
    }
}

/// One that no other device has; `place` is its own among all.
fn device_number(disk: u64, partition: u64, place: usize) -> u64 {
    if disk < MINORS && partition < MINORS {
        return (DISK_MAJOR << 8) + disk * MINORS + partition;
    }
    let minor = place as u64;
    (EXTENDED_MAJOR << 8) | (minor & 0xff) | ((minor & !0xff) << 12)
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
