//! Which filesystems are mounted: made at boot from the command line, unmade at the end.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::Once;
use unikernel_cmdline::MountPoint;
use unikernel_ext4::{Ext4, FormatError, FormatOptions, InodeNumber, MountError, MountMode, identify};
use unikernel_fs::LastLink;

use super::{Mount, Users, flusher, now};
use crate::block::volume::Volume;
use crate::block::{self, Device};
use crate::fs::memory_file::MAX_FILE_BYTES;
use crate::fs::{self, NodeId};
use crate::platform::random;
use crate::sync::SpinLock;
use crate::task::mutex::Mutex;

static MOUNTS: Once<Vec<Mount>> = Once::new();
static COVERED: Once<Vec<NodeId>> = Once::new();

/// All mounted filesystems.
pub fn all() -> &'static [Mount] {
    MOUNTS.get().map_or(&[], Vec::as_slice)
}

/// The directories of the tree that they cover.
pub fn covered() -> &'static [NodeId] {
    COVERED.get().map_or(&[], Vec::as_slice)
}

/// The filesystem that covers a directory.
pub fn on(node: NodeId) -> Option<&'static Mount> {
    all().iter().find(|mount| mount.covered == node)
}

/// Why something cannot be mounted, for people.
pub enum TableError {
    /// There is no such disk or partition.
    NoDisk(String),
    /// A tag is that of several.
    Several(String, [String; 2]),
    /// Two filesystems would be over the same sectors.
    Shared([String; 2]),
    /// The disk has no filesystem but partitions.
    Partitioned(String),
    /// The disk holds no filesystem that is known.
    Unformatted(String),
    /// The filesystem cannot be used.
    Mount(String, MountError),
    /// A new filesystem cannot be made.
    Format(String, FormatError),
    /// The directory cannot be made or is covered already.
    Place(String),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDisk(disk) => {
                write!(f, "there is no disk `{disk}`: the machine has ")?;
                match block::all() {
                    [] => f.write_str("none"),
                    [device] => write!(f, "one, `{}`", device.name),
                    [first, .., last] => {
                        write!(f, "{}, `{}` to `{}`", block::all().len(), first.name, last.name)
                    }
                }
            }
            Self::Several(tag, [first, second]) => {
                write!(f, "`{tag}` is not clear: it is `{first}` and `{second}`; name one of them")
            }
            Self::Shared([first, second]) => {
                write!(f, "`{first}` and `{second}` cannot both be mounted: they share sectors")
            }
            Self::Partitioned(disk) => write!(
                f,
                "`{disk}` has a partition table and no filesystem of its own; mount a partition, such as `{disk}p1`"
            ),
            Self::Unformatted(disk) => write!(
                f,
                "`{disk}` has no ext4 filesystem; make one with `mke2fs -t ext4`, or let the kernel do it with \
                 `format={disk}`"
            ),
            Self::Mount(disk, MountError::UnknownFeature(feature)) => {
                write!(f, "`{disk}` cannot be mounted: this kernel does not know ext4's feature `{feature}`")
            }
            Self::Mount(disk, MountError::MissingFeature(feature)) => write!(
                f,
                "`{disk}` cannot be mounted: it lacks ext4's feature `{feature}`, as ext2 and ext3 do; \
                 make a new filesystem with `mke2fs -t ext4`"
            ),
            Self::Mount(disk, MountError::LargeSectors) => write!(
                f,
                "`{disk}` cannot be mounted: its sectors are larger than the filesystem's blocks; \
                 make one with `mke2fs -t ext4 -b 4096`"
            ),
            Self::Mount(disk, MountError::NeedsRecovery) => {
                write!(
                    f,
                    "`{disk}` cannot be mounted: its journal must be replayed, but the disk is read-only"
                )
            }
            Self::Mount(disk, error) => write!(f, "`{disk}` cannot be mounted: {error:?}"),
            Self::Format(disk, error) => write!(f, "`{disk}` cannot be formatted: {error:?}"),
            Self::Place(path) => write!(f, "nothing can be mounted at `{path}`"),
        }
    }
}

/// Mounts what the command line says, formatting the disks of `formatted` if they have no filesystem.
pub fn mount_all(wanted: &[MountPoint], formatted: &[String]) -> Result<(), TableError> {
    let mut mounts = Vec::new();
    for (point, device) in wanted.iter().zip(devices_of(wanted)?) {
        mounts.push(mount(point, device, formatted.contains(&point.disk))?);
    }
    let covered: Vec<NodeId> = mounts.iter().map(|mount| mount.covered).collect();
    if (1..covered.len()).any(|index| covered[..index].contains(&covered[index])) {
        return Err(TableError::Place("one directory twice".into()));
    }
    if !mounts.is_empty() {
        MOUNTS.call_once(|| mounts);
        COVERED.call_once(|| covered);
        flusher::start();
    }
    fs::finish();
    Ok(())
}

/// The disks and partitions of mount points; no two filesystems may be over one.
fn devices_of(wanted: &[MountPoint]) -> Result<Vec<&'static Device>, TableError> {
    let devices: Vec<_> = wanted.iter().map(|point| device_of(&point.disk)).collect::<Result<_, _>>()?;
    for (index, device) in devices.iter().enumerate() {
        if let Some(other) = devices[..index].iter().find(|other| other.volume.overlaps(&device.volume)) {
            return Err(TableError::Shared([other, device].map(|device| device.name.clone())));
        }
    }
    Ok(devices)
}

/// True if there is a disk or partition with a name or tag.
pub fn has(name: &str) -> bool {
    !matches!(device_of(name), Err(TableError::NoDisk(_)))
}

/// The disk or partition with a name, or with a tag: the UUID or label of its filesystem or in its table.
fn device_of(name: &str) -> Result<&'static Device, TableError> {
    let Some((tag, value)) = name.split_once('=') else {
        return block::find(name).ok_or_else(|| TableError::NoDisk(name.into()));
    };
    let is_meant = |device: &&Device| match (tag, &device.partition) {
        ("PARTUUID", Some((uuid, _))) => uuid.eq_ignore_ascii_case(value),
        ("PARTLABEL", Some((_, label))) => label == value,
        ("UUID" | "LABEL", _) if !device.has_table => identify(&device.volume).is_some_and(|identity| {
            if tag == "UUID" { identity.uuid.eq_ignore_ascii_case(value) } else { identity.label == value }
        }),
        _ => false,
    };
    let mut found = block::all().iter().filter(is_meant);
    let device = found.next().ok_or_else(|| TableError::NoDisk(name.into()))?;
    match found.next() {
        Some(other) => Err(TableError::Several(name.into(), [device, other].map(|it| it.name.clone()))),
        None => Ok(device),
    }
}

fn mount(point: &MountPoint, device: &Device, may_format: bool) -> Result<Mount, TableError> {
    let (disk, volume) = (&device.name, device.volume);
    let mode = if point.is_read_only { MountMode::ReadOnly } else { MountMode::ReadWrite };
    let ext4 = match Ext4::mount(volume, mode, now()) {
        // What the partitions hold would be lost.
        Err(MountError::NotExt4) if device.has_table => return Err(TableError::Partitioned(disk.clone())),
        Err(MountError::NotExt4) if may_format => {
            format(&volume).map_err(|error| TableError::Format(disk.clone(), error))?;
            Ext4::mount(volume, mode, now())
        }
        outcome => outcome,
    };
    let mut ext4 = ext4.map_err(|error| match error {
        MountError::NotExt4 => TableError::Unformatted(disk.clone()),
        error => TableError::Mount(disk.clone(), error),
    })?;
    let root = ext4.attributes(InodeNumber::ROOT);
    root.map_err(|_| TableError::Mount(disk.clone(), MountError::Corrupt("the root directory")))?;
    let covered = mount_point(&point.path).ok_or_else(|| TableError::Place(point.path.clone()))?;
    if let Some(feature) = ext4.read_only_feature() {
        log::warn!("{disk}: read-only, for this kernel does not know ext4's feature `{feature}`");
    }
    let is_read_only = ext4.is_read_only();
    log::info!("{disk}: ext4 at {}{}", point.path, if is_read_only { ", read-only" } else { "" });
    let mount = Mount {
        disk: disk.clone(),
        path: point.path.clone(),
        device_number: device.number,
        covered,
        block_bytes: ext4.block_bytes() as usize,
        max_file_bytes: ext4.max_file_bytes().min(MAX_FILE_BYTES),
        volume,
        is_read_only: AtomicBool::new(is_read_only),
        inodes: SpinLock::default(),
        names: SpinLock::default(),
        dirty: SpinLock::default(),
        mapped: SpinLock::default(),
        unlinked: SpinLock::default(),
        delayed_pages: AtomicU64::new(0),
        free_pages: AtomicU64::new(0),
        errors: SpinLock::default(),
        ext4: Mutex::new(None),
    };
    mount.note_space(&ext4.statistics());
    *mount.ext4.lock() = Some(ext4);
    Ok(mount)
}

fn format(volume: &Volume) -> Result<(), FormatError> {
    let mut options = FormatOptions::default();
    random::fill(&mut options.uuid);
    random::fill(&mut options.hash_seed);
    Ext4::format(volume, &options, now())
}

/// The directory of a path in the tree, made if it is not there.
fn mount_point(path: &str) -> Option<NodeId> {
    let mut tree = fs::tree();
    match tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow) {
        Ok(id) if tree.is_directory(id) => Some(id),
        Ok(_) => None,
        Err(_) => {
            let attributes = unikernel_fs::Attributes::with_permissions(0o755);
            tree.add_directory(path.as_bytes(), attributes).ok()
        }
    }
}

/// Makes all that was written durable (sync(2)).
pub fn sync_all() {
    for mount in all() {
        // sync(2) has no way to tell of errors; they stay for who syncs a file or the filesystem.
        let _ = mount.sync();
    }
}

/// Writes everything back and unmounts; what the app does with its files from now on fails.
pub fn unmount_all() {
    for mount in all() {
        let written = if mount.is_read_only() { Ok(()) } else { flusher::write_back_all(mount) };
        // It is not taken out: that would take 2 KiB of the stack.
        let mut place = mount.ext4.lock();
        let Some(ext4) = place.as_mut() else { continue };
        mount.free_unlinked(ext4, Users::Gone);
        mount.report_unwritten();
        let outcome = ext4.unmount(now());
        *place = None;
        drop(place);
        match (written, outcome) {
            (Ok(()), Ok(())) => log::debug!("{}: unmounted", mount.disk),
            (written, outcome) => {
                let reason = outcome.map_or_else(|error| format!("{error:?}"), |()| format!("{written:?}"));
                log::error!("{}: not all could be written: {reason}", mount.disk);
            }
        }
    }
}
