//! Disks, by name: `blk0` is the first that the bus shows, and so on.
//!
//! - here: the disks that there are; [`volume`]: one as a filesystem sees it, a run of bytes.

pub mod volume;

use alloc::vec::Vec;

use spin::Once;

use crate::drivers::virtio::blk::Disk;

static DISKS: Once<Vec<Disk>> = Once::new();

/// Takes over the disks that were found.
pub fn init(disks: Vec<Disk>) {
    DISKS.call_once(|| disks);
    for (index, disk) in all().iter().enumerate() {
        let mib = disk.sectors() / 2048;
        let kind = if disk.is_read_only() { ", read-only" } else { "" };
        log::debug!("blk{index}: {mib} MiB{kind}, {}", disk.place());
    }
}

/// All disks; the first is `blk0`.
pub fn all() -> &'static [Disk] {
    DISKS.get().map_or(&[], Vec::as_slice)
}

/// The disk with a name.
pub fn find(name: &str) -> Option<&'static Disk> {
    let number = name.strip_prefix("blk")?;
    // One spelling for each: not `blk+1`, not `blk01`.
    let is_plain = number == "0" || !number.starts_with(['0', '+']);
    all().get(number.parse::<usize>().ok().filter(|_| is_plain)?)
}

/// A disk has raised its interrupt; it is not known which.
pub fn interrupt() {
    all().iter().for_each(Disk::interrupt);
}
