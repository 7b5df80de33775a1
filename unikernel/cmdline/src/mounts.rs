//! `mount=` and `root=`: which disk's filesystem goes where.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ParseError;
use crate::verity::VerityOptions;

/// What a disk or partition may be named by, before `=`: its filesystem's UUID and label, or those in the partition table.
pub(crate) const TAGS: [&str; 4] = ["UUID", "LABEL", "PARTUUID", "PARTLABEL"];

/// One disk and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountPoint {
    /// An absolute path; `/` for `root=`.
    pub path: String,
    /// `blk0`, `blk0p1`, `nvme0n1`, or a tag: see [`TAGS`]. With a kind that is on no disk, the name that the filesystem has at its source.
    pub disk: String,
    /// The kind of the filesystem, if it was said. Which there are is for the kernel to know.
    pub kind: Option<String>,
    /// `ro` was said.
    pub is_read_only: bool,
    /// What else was said.
    pub options: MountOptions,
    /// `verity=`: its blocks are checked.
    pub verity: Option<VerityOptions>,
}

/// The kind that is on no disk and has no name.
const TMPFS: &str = "tmpfs";

impl MountPoint {
    /// True for a filesystem in memory.
    pub fn is_in_memory(&self) -> bool {
        self.kind.as_deref() == Some(TMPFS)
    }
}

/// What is not to be done with the files of a mount (mount(8)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MountOptions {
    /// `noexec`: execute them.
    pub has_no_programs: bool,
    /// `nosuid`: give a program privileges.
    pub has_no_privileges: bool,
    /// `nodev`: take them for devices.
    pub has_no_devices: bool,
}

impl MountOptions {
    /// As `/proc/mounts` has them, behind `ro` or `rw`.
    pub const fn words(self) -> [&'static str; 3] {
        [
            if self.has_no_privileges { ",nosuid" } else { "" },
            if self.has_no_devices { ",nodev" } else { "" },
            if self.has_no_programs { ",noexec" } else { "" },
        ]
    }
}

impl MountPoint {
    /// Reads `/data:blk0[:KIND][:ro][:noexec][:nosuid][:nodev]`.
    pub(crate) fn parse(value: &str) -> Result<Self, ParseError> {
        let expected = "a directory and what to mount there, such as `/data:blk0`, `/data:blk0p1:ext4:ro`, `/data:LABEL=name` or `/host:TAG:9p`";
        let bad = || ParseError::BadValue("mount", value.to_owned(), expected);
        let (path, rest) = value.split_once(':').ok_or_else(bad)?;
        let is_place = path.starts_with('/') && path.bytes().any(|byte| byte != b'/');
        let point = if is_place { Self::of_disk(path.trim_end_matches('/'), rest) } else { None };
        point.ok_or_else(bad)
    }

    /// Reads `blk0[:KIND][:verity=...][:ro][:noexec][:nosuid][:nodev]`.
    pub(crate) fn root(value: &str) -> Result<Self, ParseError> {
        let expected = "a disk, such as `blk0`, `blk0p1:ext4:ro` or `LABEL=name`";
        Self::of_disk("/", value).ok_or_else(|| ParseError::BadValue("root", value.to_owned(), expected))
    }

    fn of_disk(path: &str, value: &str) -> Option<Self> {
        let mut parts: Vec<&str> = value.split(':').collect();
        let (mut is_read_only, mut options) = (false, MountOptions::default());
        while parts.len() > 1 && take_words(parts[parts.len() - 1], &mut is_read_only, &mut options) {
            parts.pop();
        }
        let verity = match parts.pop_if(|last| last.starts_with(VerityOptions::KEY)) {
            Some(word) => Some(VerityOptions::parse(word)?),
            None => None,
        };
        let (disk, kind) = match parts[..] {
            [disk] => (disk, None),
            [disk, kind] => (disk, Some(kind)),
            _ => return None,
        };
        // What is on no disk may have any name.
        // A filesystem in memory is on nothing at all.
        let (disk, kind) = if (disk, kind) == (TMPFS, None) { (disk, Some(TMPFS)) } else { (disk, kind) };
        let is_named = if kind.is_some() { !disk.is_empty() } else { is_disk(disk) };
        let is_kind = |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_named && kind.is_none_or(is_kind)).then(|| Self {
            path: path.to_owned(),
            disk: disk.to_owned(),
            kind: kind.map(str::to_owned),
            is_read_only: is_read_only || verity.is_some(),
            options,
            verity,
        })
    }
}

/// Takes the words of a part, which are divided by commas; false if they are none.
fn take_words(part: &str, is_read_only: &mut bool, options: &mut MountOptions) -> bool {
    part.split(',').all(|word| {
        match word {
            "ro" => *is_read_only = true,
            "rw" => {}
            "noexec" => options.has_no_programs = true,
            "nosuid" => options.has_no_privileges = true,
            "nodev" => options.has_no_devices = true,
            _ => return false,
        }
        true
    })
}

pub(crate) fn is_disk(name: &str) -> bool {
    if let Some((tag, value)) = name.split_once('=') {
        return TAGS.contains(&tag) && !value.is_empty();
    }
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // `blk0`, or `nvme0n1`: a controller and its namespace. Then perhaps a partition.
    let numbers = match name.strip_prefix("nvme").and_then(|rest| rest.split_once('n')) {
        Some((controller, namespace)) if is_number(controller) => namespace,
        _ => name.strip_prefix("blk").unwrap_or_default(),
    };
    match numbers.split_once('p') {
        Some((disk, partition)) => is_number(disk) && is_number(partition),
        None => is_number(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_modules_have_the_names_that_linux_gives_them() {
        for name in ["nvme0n1", "nvme12n3", "nvme0n1p2"] {
            assert_eq!(MountPoint::root(name).map(|point| point.disk).as_deref(), Ok(name));
        }
        for name in [
            "nvme",
            "nvme0",
            "nvmen1",
            "nvme0n",
            "nvme0n1p",
            "nvme0p1",
            "nvme0n1p1p2",
            "nvmex0n1",
            "xnvme0n1",
        ] {
            assert!(MountPoint::root(name).is_err(), "{name}");
        }
    }

    #[test]
    fn mounts_name_a_place_a_disk_and_perhaps_more() {
        let point = |path: &str, disk: &str, kind: Option<&str>, is_read_only| {
            let (path, disk, kind) = (path.to_owned(), disk.to_owned(), kind.map(str::to_owned));
            Ok(MountPoint { path, disk, kind, is_read_only, options: MountOptions::default(), verity: None })
        };
        let ext4 = Some("ext4");
        assert_eq!(MountPoint::parse("/data:blk0"), point("/data", "blk0", None, false));
        assert_eq!(MountPoint::parse("/srv/www/:blk12:ext4:ro"), point("/srv/www", "blk12", ext4, true));
        assert_eq!(MountPoint::root("blk0:ext4"), point("/", "blk0", ext4, false));
        assert_eq!(MountPoint::parse("/data:blk0p12:ext4:ro"), point("/data", "blk0p12", ext4, true));
        assert_eq!(MountPoint::parse("/data:blk0:ro"), point("/data", "blk0", None, true));
        assert_eq!(MountPoint::parse("/data:blk0:ext4:rw"), point("/data", "blk0", ext4, false));
        assert_eq!(MountPoint::parse("/host:my-folder:9p"), point("/host", "my-folder", Some("9p"), false));
        for disk in ["LABEL=my data", "UUID=0a-1b", "PARTUUID=c0ffee00-01", "PARTLABEL=x=y"] {
            assert_eq!(MountPoint::parse(&["/data", disk].join(":")), point("/data", disk, None, false));
        }
        assert_eq!(MountPoint::root("blk0:ext4:ro"), point("/", "blk0", ext4, true));
    }

    #[test]
    fn what_is_not_to_be_done_is_said_behind() {
        let options = |text| MountPoint::parse(text).map(|point| (point.is_read_only, point.options));
        let (no_programs, none) = (MountOptions { has_no_programs: true, ..none() }, none());
        assert_eq!(options("/data:blk0:noexec"), Ok((false, no_programs)));
        assert_eq!(options("/data:blk0:ext4:noexec:ro"), Ok((true, no_programs)));
        let all = MountOptions { has_no_programs: true, has_no_privileges: true, has_no_devices: true };
        assert_eq!(options("/data:blk0:ro,noexec,nosuid,nodev"), Ok((true, all)));
        assert_eq!(all.words().concat(), ",nosuid,nodev,noexec");
        assert_eq!(options("/data:blk0:rw"), Ok((false, none)));
        let in_memory =
            MountPoint::parse("/tmp:tmpfs:noexec").map(|point| (point.is_in_memory(), point.options));
        assert_eq!(in_memory, Ok((true, no_programs)));
        assert!(options("/data:blk0:noexec:ext4").is_err());
        assert!(options("/data:blk0:ext4:sync").is_err());
        assert!(options("/data:blk0:ext4:ro,").is_err());
    }

    fn none() -> MountOptions {
        MountOptions::default()
    }

    #[test]
    fn malformed_mounts_are_refused() {
        for value in [
            "",
            "blk0",
            "data:blk0",
            "/:blk0",
            "/data:vda",
            "/data:blk",
            "/data:blk0:",
            "/data:blk0::ro",
            "/data::9p",
            "/data:ro",
            "/data:blk0:a b",
            "/data:blk0:ext4:x",
            "/data:blk0p",
            "/data:blkp1",
            "/data:blk0p1p2",
            "/data:LABEL=",
            "/data:TYPE=ext4",
        ] {
            assert!(MountPoint::parse(value).is_err(), "{value}");
        }
        assert!(MountPoint::root("/dev/vda").is_err());
    }
}
