//! The mounts that the app sees: parts of the tree in memory that Linux has as filesystems of their own, and the disks
//! ([`vfs::table`]). Device numbers, `/proc/self/mountinfo` and statfs(2) all ask here.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use linux_raw_sys::general::{
    CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, PROC_SUPER_MAGIC,
    SYSFS_MAGIC, TMPFS_MAGIC,
};
use spin::Once;
use unikernel_cmdline::{MountOptions, MountPoint};
use unikernel_fs::{Attributes, FilesystemId, LastLink};

use super::device;
use super::{FileTree, NodeId, tree};
use crate::abi::Errno;
use crate::vfs::table::FIRST_DEVICE_NUMBER;
use crate::vfs::{self, Mount};

/// A filesystem within the tree.
pub(crate) struct Filesystem {
    /// Where it begins.
    path: Cow<'static, str>,
    /// Its name among Linux's filesystems.
    kind: &'static str,
    /// `f_type` of statfs(2).
    pub magic: u32,
    /// What the app may do with names in it.
    pub edits: Edits,
    /// What is not to be done with its files.
    pub options: MountOptions,
}

/// What the app may do with names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edits {
    /// Make and remove them.
    Allowed,
    /// They are the kernel's. Writing to files is another matter.
    KernelOnly,
    /// Nothing: the mount is read-only.
    ReadOnly,
}

const fn filesystem(path: &'static str, kind: &'static str, magic: u32, edits: Edits) -> Filesystem {
    Filesystem { path: Cow::Borrowed(path), kind, magic, edits, options: USUAL }
}

const USUAL: MountOptions =
    MountOptions { has_no_programs: false, has_no_privileges: false, has_no_devices: false };
/// As init systems mount what only the kernel fills.
const KERNELS: MountOptions =
    MountOptions { has_no_programs: true, has_no_privileges: true, has_no_devices: true };
const DEVICES: MountOptions = MountOptions { has_no_privileges: true, ..USUAL };
const NO_DEVICES: MountOptions = MountOptions { has_no_devices: true, ..DEVICES };

impl Filesystem {
    const fn with(mut self, options: MountOptions) -> Self {
        self.options = options;
        self
    }
}

/// By their [`FilesystemId`].
static IN_MEMORY: [Filesystem; 7] = [
    filesystem("/", "tmpfs", TMPFS_MAGIC, Edits::Allowed),
    filesystem("/proc", "proc", PROC_SUPER_MAGIC, Edits::KernelOnly).with(KERNELS),
    filesystem("/sys", "sysfs", SYSFS_MAGIC, Edits::ReadOnly).with(KERNELS),
    filesystem("/sys/fs/cgroup", "cgroup2", CGROUP2_SUPER_MAGIC, Edits::ReadOnly).with(KERNELS),
    // Linux's devtmpfs says that it is a tmpfs.
    filesystem("/dev", "devtmpfs", TMPFS_MAGIC, Edits::Allowed).with(DEVICES),
    filesystem("/dev/shm", "tmpfs", TMPFS_MAGIC, Edits::Allowed).with(NO_DEVICES),
    filesystem("/dev/pts", "devpts", DEVPTS_SUPER_MAGIC, Edits::KernelOnly)
        .with(MountOptions { has_no_programs: true, ..DEVICES }),
];

/// Those that the command line asks for, by the ids behind.
static FURTHER: Once<Vec<Filesystem>> = Once::new();
/// So many: their numbers come before those of disks.
const MOST_FURTHER: usize = 8;

/// All of them, in the order of their ids.
fn in_memory() -> impl Iterator<Item = &'static Filesystem> {
    IN_MEMORY.iter().chain(FURTHER.get().into_iter().flatten())
}

/// Mount ids of disks come behind those of the tree.
const FIRST_DISK_ID: u64 = 16;

/// Divides the tree, once everything the kernel brings is in it.
pub(super) fn init(tree: &mut FileTree) {
    for (number, filesystem) in IN_MEMORY.iter().enumerate().skip(1) {
        match tree.lookup(NodeId::ROOT, filesystem.path.as_bytes(), LastLink::Keep) {
            Ok(root) if tree.is_directory(root) => tree.set_filesystem(root, FilesystemId(number as u8)),
            _ => log::warn!("{} is no directory: the initrd is in the way", filesystem.path),
        }
    }
}

/// Makes directories filesystems in memory of their own (`mount=/tmp:tmpfs`), which a root on a disk shows. What an initrd has brought
/// there stays. The error is for people.
pub(crate) fn add_in_memory(points: &[&MountPoint], is_root_on_disk: bool) -> Result<(), String> {
    if points.len() > MOST_FURTHER {
        return Err(format!(
            "there can be {MOST_FURTHER} filesystems in memory at most, and `mount=` asks for more"
        ));
    }
    let mut further = Vec::new();
    for point in points {
        let is_top = point.path[1..].bytes().all(|byte| byte != b'/');
        if is_root_on_disk && !is_top {
            return Err(format!(
                "`mount={}:tmpfs`: over a root on a disk it has to be a directory of `/`",
                point.path
            ));
        }
        let root = mount_point(&point.path)
            .ok_or_else(|| format!("`mount={}:tmpfs`: this is no directory", point.path))?;
        let mut tree = tree();
        if tree.is_filesystem_root(root) {
            return Err(format!("`mount={}:tmpfs`: something is mounted there already", point.path));
        }
        let number = IN_MEMORY.len() + further.len();
        tree.set_filesystem(root, FilesystemId(number as u8));
        if point.path == "/tmp" {
            tree.attributes_mut(root).permissions = 0o1777;
        }
        drop(tree);
        let edits = if point.is_read_only { Edits::ReadOnly } else { Edits::Allowed };
        let (path, options) = (Cow::Owned(point.path.clone()), point.options);
        further.push(Filesystem { path, kind: "tmpfs", magic: TMPFS_MAGIC, edits, options });
    }
    FURTHER.call_once(|| further);
    if is_root_on_disk {
        vfs::walk::show(points.iter().map(|point| point.path[1..].into()).collect());
    }
    Ok(())
}

/// The filesystem of a node of the tree.
pub(crate) fn of(tree: &FileTree, id: NodeId) -> &'static Filesystem {
    let number = usize::from(tree.filesystem(id).0);
    let further = || FURTHER.get().and_then(|further| further.get(number - IN_MEMORY.len()));
    // Every id is one of these; the root's is 0.
    IN_MEMORY.get(number).or_else(further).unwrap_or(&IN_MEMORY[0])
}

/// `st_dev` of a node of the tree: a number without a device (major 0), as Linux gives filesystems without a disk.
pub(crate) fn device_number(tree: &FileTree, id: NodeId) -> u64 {
    memory_device(usize::from(tree.filesystem(id).0))
}

/// The names of filesystems within the tree, each once.
pub(crate) fn kinds_in_memory() -> impl Iterator<Item = &'static str> {
    let is_new = |(number, filesystem): &(usize, &Filesystem)| {
        IN_MEMORY[..*number].iter().all(|earlier| earlier.kind != filesystem.kind)
    };
    IN_MEMORY.iter().enumerate().filter(is_new).map(|(_, filesystem)| filesystem.kind)
}

/// Device numbers of filesystems within the tree come before those that `vfs` gives mounts without a disk.
const _: () = assert!(memory_device(IN_MEMORY.len() + MOST_FURTHER - 1) < FIRST_DEVICE_NUMBER);
const _: () = assert!((IN_MEMORY.len() + MOST_FURTHER) < FIRST_DISK_ID as usize);

const fn memory_device(number: usize) -> u64 {
    number as u64 + 1
}

/// The directory of a path in the tree, made if it is not there.
pub(crate) fn mount_point(path: &str) -> Option<NodeId> {
    let mut tree = tree();
    match tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow) {
        Ok(id) if tree.is_directory(id) => Some(id),
        Ok(_) => None,
        Err(_) => {
            let attributes = Attributes::with_permissions(0o755);
            tree.add_directory(path.as_bytes(), attributes).ok()
        }
    }
}

/// Where new names are to be made: `ENOENT` where only the kernel makes them, as nothing else is ever found there.
pub(crate) fn check_create(tree: &FileTree, directory: NodeId) -> Result<(), Errno> {
    match of(tree, directory).edits {
        Edits::Allowed => Ok(()),
        Edits::KernelOnly => Err(Errno::ENOENT),
        Edits::ReadOnly => Err(Errno::EROFS),
    }
}

/// Where a name is to go, or to lead elsewhere.
pub(crate) fn check_remove(tree: &FileTree, directory: NodeId) -> Result<(), Errno> {
    match of(tree, directory).edits {
        Edits::Allowed => Ok(()),
        Edits::KernelOnly => Err(Errno::EPERM),
        Edits::ReadOnly => Err(Errno::EROFS),
    }
}

/// One line of the table.
struct Line {
    id: u64,
    device: u64,
    /// What of the filesystem is shown.
    root: String,
    path: String,
    kind: &'static str,
    source: String,
    is_read_only: bool,
    /// Options of the mount, behind `rw` or `ro`, and of the filesystem.
    options: String,
    own_options: &'static str,
}

/// All mounts, the root first. A disk at `/` covers the tree, of which the directories of the kernel's are seen still.
fn lines() -> Vec<Line> {
    let covered = vfs::table::covered();
    let is_covered = covered.contains(&NodeId::ROOT);
    let mut lines = Vec::new();
    let disk = |(number, mount): (usize, &Mount)| Line {
        id: FIRST_DISK_ID + number as u64,
        device: mount.device_number,
        root: "/".into(),
        path: escape(&tree().path_of(mount.covered).unwrap_or_default()),
        kind: mount.kind.name,
        source: mount.source(),
        is_read_only: mount.is_read_only(),
        options: mount.options.words().concat() + ",relatime",
        own_options: "",
    };
    let is_root = |(_, mount): &(usize, &Mount)| mount.covered == NodeId::ROOT;
    lines.extend(vfs::table::all().iter().enumerate().filter(is_root).map(disk));
    for (number, filesystem) in in_memory().enumerate() {
        // What is left of the tree under a disk at `/` is one more directory of it.
        let (root, path) =
            if is_covered && number == 0 { ("/run", "/run") } else { ("/", &*filesystem.path) };
        lines.push(Line {
            id: number as u64 + 1,
            device: memory_device(number),
            root: root.into(),
            path: path.into(),
            kind: filesystem.kind,
            source: filesystem.kind.into(),
            is_read_only: filesystem.edits == Edits::ReadOnly,
            options: filesystem.options.words().concat(),
            own_options: if filesystem.kind == "devpts" { ",mode=620,ptmxmode=666" } else { "" },
        });
    }
    lines.extend(vfs::table::all().iter().enumerate().filter(|entry| !is_root(entry)).map(disk));
    lines
}

/// Spaces and the like, as the tables of `/proc` write them (getmntent(3)).
fn escape(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().fold(String::new(), |mut text, character| {
        if matches!(character, ' ' | '\t' | '\n' | '\\') {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\{:03o}", u32::from(character));
        } else {
            text.push(character);
        }
        text
    })
}

const fn mode(is_read_only: bool) -> &'static str {
    if is_read_only { "ro" } else { "rw" }
}

/// `/proc/mounts`.
pub(crate) fn render_mounts() -> String {
    let line = |line: &Line| {
        let mode = mode(line.is_read_only);
        let (options, own_options) = (&line.options, line.own_options);
        format!("{} {} {} {mode}{options}{own_options} 0 0\n", line.source, line.path, line.kind)
    };
    lines().iter().map(line).collect()
}

/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(crate) fn render_mountinfo() -> String {
    let lines = lines();
    let line = |line: &Line| {
        let (mode, parent) = (mode(line.is_read_only), parent_of(&lines, line));
        let (major, minor) = device::parts(line.device);
        format!(
            "{} {parent} {major}:{minor} {} {} {mode}{} - {} {} {mode}{}\n",
            line.id, line.root, line.path, line.options, line.kind, line.source, line.own_options,
        )
    };
    lines.iter().map(line).collect()
}

/// The mount that a mount lies in; the root lies in none that is seen.
fn parent_of(lines: &[Line], line: &Line) -> u64 {
    let holds = |other: &&Line| {
        let rest = line.path.strip_prefix(other.path.as_str());
        line.path != "/" && rest.is_some_and(|rest| other.path == "/" || rest.starts_with('/'))
    };
    lines.iter().filter(holds).max_by_key(|other| other.path.len()).map_or(0, |parent| parent.id)
}

/// The id of the mount with a device number (`stx_mnt_id`); what has no name anywhere is in none that is shown.
pub(crate) fn id_of(device: u64) -> Option<u64> {
    let in_memory = (0..in_memory().count()).find(|&number| memory_device(number) == device);
    let on_disk = || vfs::table::all().iter().position(|mount| mount.device_number == device);
    in_memory
        .map(|number| number as u64 + 1)
        .or_else(|| on_disk().map(|number| FIRST_DISK_ID + number as u64))
}

/// The flags of statfs(2) for the filesystem of the tree with a device number.
pub(crate) fn flags_of(device: u64) -> i64 {
    let mut numbered = in_memory().enumerate();
    let found = numbered.find(|(number, _)| memory_device(*number) == device);
    found.map_or(0, |(_, filesystem)| flags(filesystem.edits == Edits::ReadOnly, filesystem.options))
}

/// How statfs(2) tells what is not to be done with a mount (linux/statfs.h: the numbers are those of mount(2)).
pub(crate) fn flags(is_read_only: bool, options: MountOptions) -> i64 {
    let flags = [
        (is_read_only, MS_RDONLY),
        (options.has_no_privileges, MS_NOSUID),
        (options.has_no_devices, MS_NODEV),
        (options.has_no_programs, MS_NOEXEC),
    ];
    flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| i64::from(flag)).sum()
}
