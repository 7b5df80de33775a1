//! Which filesystems are mounted: made at boot from the command line, unmade at the end.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;
use unikernel_cmdline::{HashPlace, MountPoint, VerityOptions};
use unikernel_fs::NodeId;
use unikernel_vfs::cache::{Reservations, Shared};
use unikernel_vfs::{FileKind, FileSystem, Identity, Storage};

use super::filesystem_type::{Access, FilesystemType, Format, MountError, Source};
use super::{Mount, Users, flusher, now};
use crate::block::device::SECTOR_BYTES;
use crate::block::verity::Verity;
use crate::block::{self, Device};
use crate::file::MAX_FILE_BYTES;
use crate::kmem::PAGE_BYTES;
use crate::sync::SpinLock;
use crate::task::mutex::Mutex;
use crate::trust;

static MOUNTS: Once<Vec<Mount>> = Once::new();
static COVERED: Once<Vec<NodeId>> = Once::new();
/// Which kinds of filesystems there are.
static KINDS: Once<&'static [&'static FilesystemType]> = Once::new();

/// Says which kinds of filesystems there are, before anything is mounted.
pub(crate) fn set_kinds(kinds: &'static [&'static FilesystemType]) {
    KINDS.call_once(|| kinds);
}

fn kinds() -> &'static [&'static FilesystemType] {
    KINDS.get().copied().unwrap_or_default()
}

/// All mounted filesystems.
pub(crate) fn all() -> &'static [Mount] {
    MOUNTS.get().map_or(&[], Vec::as_slice)
}

/// The directories of the tree that they cover.
pub(crate) fn covered() -> &'static [NodeId] {
    COVERED.get().map_or(&[], Vec::as_slice)
}

/// The filesystem that covers a directory.
pub(crate) fn on(node: NodeId) -> Option<&'static Mount> {
    all().iter().find(|mount| mount.covered == node)
}

/// Why something cannot be mounted, for people.
pub(crate) enum TableError {
    /// There is no such disk or partition.
    NoDisk(String),
    /// A tag is that of several.
    Several(String, [String; 2]),
    /// Two filesystems would be over the same sectors.
    Shared([String; 2]),
    /// The disk has no filesystem but partitions.
    Partitioned(String),
    /// This kernel knows no filesystems of this kind.
    UnknownKind(String),
    /// The disk holds no filesystem of the kind that was said, or of none that is known.
    Unformatted(String, &'static FilesystemType),
    /// The filesystem cannot be used.
    Mount(String, String),
    /// A new filesystem cannot be made.
    Format(String, String),
    /// The directory cannot be made or is covered already.
    Place(String),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDisk(disk) => {
                write!(f, "there is no disk `{disk}`: the machine has ")?;
                let all = block::all();
                match &all[..] {
                    [] => f.write_str("none"),
                    [device] => write!(f, "one, `{}`", device.name),
                    [first, .., last] => {
                        write!(f, "{}, `{}` to `{}`", all.len(), first.name, last.name)
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
            Self::UnknownKind(kind) => {
                write!(f, "this kernel knows no filesystem `{kind}`, but")?;
                kinds().iter().try_for_each(|kind| write!(f, " {}", kind.name))
            }
            Self::Unformatted(disk, kind) => {
                write!(f, "`{disk}` has no {} filesystem", kind.name)?;
                let Source::Device { format: Some(Format { command, .. }), .. } = kind.source else {
                    return Ok(());
                };
                write!(f, "; make one with `{command}`, or let the kernel do it with `format={disk}`")
            }
            Self::Mount(disk, reason) => write!(f, "`{disk}` cannot be mounted: {reason}"),
            Self::Format(disk, reason) => write!(f, "`{disk}` cannot be formatted: {reason}"),
            Self::Place(path) => write!(f, "nothing can be mounted at `{path}`"),
        }
    }
}

/// Mounts what the command line says, formatting the disks of `formatted` if they have no filesystem. `place` finds the
/// directory of a path in the tree, or makes it.
pub(crate) fn mount_all(
    wanted: &[MountPoint],
    formatted: &[String],
    place: fn(&str) -> Option<NodeId>,
) -> Result<(), TableError> {
    let mut mounts = Vec::new();
    for (point, device) in wanted.iter().zip(devices_of(wanted)?) {
        mounts.push(mount(point, device.as_deref(), formatted.contains(&point.disk), place)?);
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
    Ok(())
}

/// True if what is on the filesystem with this `st_dev` may be executed: if only what is signed may be, the tree in memory, which came with the image or was
/// signed, and disks whose blocks are checked.
pub(crate) fn may_execute(device: u64) -> bool {
    !trust::is_required() || all().iter().all(|mount| mount.device_number != device || mount.is_trusted)
}

/// The first number without a device (major 0) that is a mount's.
pub(crate) const FIRST_DEVICE_NUMBER: u64 = 16;

/// `st_dev` of a mount that is on no disk: the next number without a device.
fn new_device_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(FIRST_DEVICE_NUMBER);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The disks and partitions of mount points, as far as they are of such; no two filesystems may be over one.
fn devices_of(wanted: &[MountPoint]) -> Result<Vec<Option<Arc<Device>>>, TableError> {
    let find = |point: &MountPoint| match kind_of(point)?.map(|kind| &kind.source) {
        Some(Source::Name(_)) => Ok(None),
        Some(Source::Device { .. }) | None => device_of(&point.disk).map(Some),
    };
    let devices: Vec<_> = wanted.iter().map(find).collect::<Result<_, _>>()?;
    let all: Vec<&Arc<Device>> = devices.iter().flatten().collect();
    for (index, device) in all.iter().enumerate() {
        if let Some(other) = all[..index].iter().find(|other| other.volume.overlaps(&device.volume)) {
            return Err(TableError::Shared([other, device].map(|device| device.name.clone())));
        }
    }
    Ok(devices)
}

/// True if there is a disk or partition with a name or tag.
pub(crate) fn has(name: &str) -> bool {
    !matches!(device_of(name), Err(TableError::NoDisk(_)))
}

/// The disk or partition with a name, or with a tag: the UUID or label of its filesystem or in its table.
fn device_of(name: &str) -> Result<Arc<Device>, TableError> {
    let Some((tag, value)) = name.split_once('=') else {
        return block::find(name).ok_or_else(|| TableError::NoDisk(name.into()));
    };
    let is_meant = |device: &Arc<Device>| match (tag, &device.partition) {
        ("PARTUUID", Some((uuid, _))) => uuid.eq_ignore_ascii_case(value),
        ("PARTLABEL", Some((_, label))) => label == value,
        ("UUID" | "LABEL", _) if !device.has_table => identities(device).any(|identity| match tag {
            "UUID" => identity.uuid.eq_ignore_ascii_case(value),
            _ => identity.label == value,
        }),
        _ => false,
    };
    let mut found = block::all().into_iter().filter(is_meant);
    let device = found.next().ok_or_else(|| TableError::NoDisk(name.into()))?;
    match found.next() {
        Some(other) => Err(TableError::Several(name.into(), [&device, &other].map(|it| it.name.clone()))),
        None => Ok(device),
    }
}

/// The kind that a mount point names.
fn kind_of(point: &MountPoint) -> Result<Option<&'static FilesystemType>, TableError> {
    let Some(name) = &point.kind else { return Ok(None) };
    let kind = kinds().iter().find(|kind| kind.name == name);
    kind.map(|kind| Some(*kind)).ok_or_else(|| TableError::UnknownKind(name.clone()))
}

/// Mounts what a mount point says.
fn mount(
    point: &MountPoint,
    device: Option<&Device>,
    may_format: bool,
    place: fn(&str) -> Option<NodeId>,
) -> Result<Mount, TableError> {
    let is_read_only = point.is_read_only || point.verity.is_some();
    let access = if is_read_only { Access::ReadOnly } else { Access::ReadWrite };
    hold(device)?;
    let checked = point.verity.as_ref().map(|verity| with_checks(point, verity, device)).transpose()?;
    let device = checked.as_ref().or(device);
    let (kind, mut filesystem) = match device {
        Some(device) => mount_device(point, device, access, may_format && checked.is_none())?,
        None => mount_name(point, access)?,
    };
    let root = filesystem.root();
    let refused = |reason: &str| TableError::Mount(point.disk.clone(), reason.into());
    let is_directory = filesystem.attributes(root).is_ok_and(|root| root.kind == FileKind::Directory);
    let block_bytes = filesystem.block_bytes() as usize;
    if !is_directory {
        return Err(refused("its root directory cannot be read"));
    }
    if !block_bytes.is_power_of_two() || !(SECTOR_BYTES as usize..=PAGE_BYTES).contains(&block_bytes) {
        return Err(refused("its blocks have no size that fits pages"));
    }
    let covered = place(&point.path).ok_or_else(|| TableError::Place(point.path.clone()))?;
    let disk = device.map_or(&point.disk, |device| &device.name);
    let is_read_only = filesystem.is_read_only();
    log::info!("{disk}: {} at {}{}", kind.name, point.path, if is_read_only { ", read-only" } else { "" });
    let has_blocks = matches!(filesystem.storage(), Storage::Blocks(_));
    let mount = Mount {
        disk: disk.clone(),
        path: point.path.clone(),
        device_number: device.map_or_else(new_device_number, |device| device.number),
        root,
        covered,
        kind,
        max_file_bytes: filesystem.max_file_bytes().min(MAX_FILE_BYTES),
        blocks: device.filter(|_| has_blocks).map(|device| device.volume.clone()),
        is_read_only: AtomicBool::new(is_read_only),
        is_mounted_read_only: is_read_only,
        is_trusted: checked.is_some(),
        options: point.options,
        is_shared: filesystem.is_shared(),
        inodes: SpinLock::default(),
        names: SpinLock::default(),
        dirty: SpinLock::default(),
        mapped: SpinLock::default(),
        unlinked: SpinLock::default(),
        shared: Shared { block_bytes, has_blocks, reservations: Reservations::new() },
        errors: SpinLock::default(),
        filesystem: Mutex::new(None),
    };
    mount.note_space(&mut *filesystem);
    *mount.filesystem.lock() = Some(filesystem);
    Ok(mount)
}

/// Keeps a disk from being taken away.
fn hold(device: Option<&Device>) -> Result<(), TableError> {
    match device.filter(|device| !device.volume.hold()) {
        Some(device) => Err(TableError::NoDisk(device.name.clone())),
        None => Ok(()),
    }
}

const UNSIGNED_ROOT: &str = "`verity=`: no key of the image's has signed this root hash; `cargo unikernel sign --root ROOT --key KEY` shows \
                             the word that does";

/// The disk or partition of a mount point with blocks that are checked as `verity=` says.
fn with_checks(
    point: &MountPoint,
    options: &VerityOptions,
    device: Option<&Device>,
) -> Result<Device, TableError> {
    let refused = |reason: String| TableError::Mount(point.disk.clone(), reason);
    if !trust::is_root_good(&options.root, options.signature.as_ref()) {
        return Err(refused(UNSIGNED_ROOT.into()));
    }
    let device = device.ok_or_else(|| refused("`verity=` is for disks, and this is none".into()))?;
    let of_hashes;
    let hashes = match &options.place {
        HashPlace::Offset(offset) => (&device.volume, *offset),
        HashPlace::Disk(name) => {
            of_hashes = device_of(name)?;
            hold(Some(&of_hashes))?;
            (&of_hashes.volume, 0)
        }
    };
    let verity = Verity::open(&device.name, &device.volume, hashes, &options.root, options.on_corruption)
        .map_err(|error| refused(format!("`verity=`: {error}")))?;
    Ok(Device {
        name: device.name.clone(),
        number: device.number,
        volume: device.volume.checked_by(verity),
        partition: None,
        has_table: device.has_table,
    })
}

/// A filesystem, and which kind it is of.
type Mounted = (&'static FilesystemType, Box<dyn FileSystem>);

/// Mounts a disk or partition: as the kind that was said, or the first that it has.
fn mount_device(
    point: &MountPoint,
    device: &Device,
    access: Access,
    may_format: bool,
) -> Result<Mounted, TableError> {
    let disk = &device.name;
    // The first kind that it has not: the one that was said, or the usual one.
    let mut missing = None;
    for kind in
        kinds().iter().copied().filter(|kind| point.kind.as_deref().is_none_or(|said| said == kind.name))
    {
        let Source::Device { mount, format, .. } = kind.source else { continue };
        let mut outcome = mount(&device.volume, access, disk);
        if let (Err(MountError::NotFound), Some(format), true) = (&outcome, format, may_format)
            && !device.has_table
            && !has_other(device, kind)
        {
            (format.make)(&device.volume).map_err(|reason| TableError::Format(disk.clone(), reason))?;
            outcome = mount(&device.volume, access, disk);
        }
        match outcome {
            Ok(filesystem) => return Ok((kind, filesystem)),
            Err(MountError::NotFound) => missing = missing.or(Some(kind)),
            Err(MountError::Refused(reason)) => return Err(TableError::Mount(disk.clone(), reason)),
        }
    }
    // What the partitions hold would be lost if it was formatted.
    Err(match missing {
        _ if device.has_table => TableError::Partitioned(disk.clone()),
        Some(kind) => TableError::Unformatted(disk.clone(), kind),
        None => TableError::NoDisk(disk.clone()),
    })
}

/// Mounts what is no disk.
fn mount_name(point: &MountPoint, access: Access) -> Result<Mounted, TableError> {
    let no_disk = || TableError::NoDisk(point.disk.clone());
    let kind = kind_of(point)?.ok_or_else(no_disk)?;
    let Source::Name(mount) = kind.source else { return Err(no_disk()) };
    match mount(&point.disk, access) {
        Ok(filesystem) => Ok((kind, filesystem)),
        Err(MountError::NotFound) => {
            Err(TableError::Mount(point.disk.clone(), "nothing has this name".into()))
        }
        Err(MountError::Refused(reason)) => Err(TableError::Mount(point.disk.clone(), reason)),
    }
}

/// True if a disk or partition has a filesystem of another kind, which must not be lost, even if it is damaged.
fn has_other(device: &Device, kind: &FilesystemType) -> bool {
    let mut others = kinds().iter().filter(|other| other.name != kind.name);
    others.any(|other| match other.source {
        Source::Device { mount, .. } => {
            !matches!(mount(&device.volume, Access::ReadOnly, &device.name), Err(MountError::NotFound))
        }
        Source::Name(_) => false,
    })
}

/// How the filesystems on a disk or partition are told from others.
fn identities(device: &Device) -> impl Iterator<Item = Identity> {
    let identify = |kind: &&FilesystemType| match kind.source {
        Source::Device { identify, .. } => identify(&device.volume),
        Source::Name(_) => None,
    };
    kinds().iter().filter_map(identify)
}

/// Makes all that was written durable (sync(2)).
pub(crate) fn sync_all() {
    for mount in all() {
        // sync(2) has no way to tell of errors; they stay for who syncs a file or the filesystem.
        let _ = mount.sync();
    }
}

/// Writes everything back and unmounts; what the app does with its files from now on fails.
pub(crate) fn unmount_all() {
    for mount in all() {
        let written = if mount.is_read_only() { Ok(()) } else { flusher::write_back_all(mount) };
        // It is not taken out: that would take 2 KiB of the stack.
        let mut place = mount.filesystem.lock();
        let Some(filesystem) = place.as_deref_mut() else { continue };
        mount.free_unlinked(filesystem, Users::Gone);
        mount.report_unwritten();
        let outcome = filesystem.unmount(now());
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
