//! `mount=` and `root=`: which disk's filesystem goes where.

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::error::ParseError;

/// What a disk or partition may be named by, before `=`: its filesystem's UUID and label, or those in the partition table.
pub(crate) const TAGS: [&str; 4] = ["UUID", "LABEL", "PARTUUID", "PARTLABEL"];

/// One disk and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountPoint {
    /// An absolute path; `/` for `root=`.
    pub path: String,
    /// `blk0`, `blk0p1`, or a tag: see [`TAGS`].
    pub disk: String,
    /// `ro` was said.
    pub is_read_only: bool,
}

impl MountPoint {
    /// Reads `/data:blk0[:ext4[:ro]]`.
    pub(crate) fn parse(value: &str) -> Result<Self, ParseError> {
        let expected =
            "a directory and a disk, such as `/data:blk0`, `/data:blk0p1:ext4:ro` or `/data:LABEL=name`";
        let bad = || ParseError::BadValue("mount", value.to_owned(), expected);
        let (path, rest) = value.split_once(':').ok_or_else(bad)?;
        let is_place = path.starts_with('/') && path.bytes().any(|byte| byte != b'/');
        let point = if is_place { Self::of_disk(path.trim_end_matches('/'), rest) } else { None };
        point.ok_or_else(bad)
    }

    /// Reads `blk0[:ext4[:ro]]`.
    pub(crate) fn root(value: &str) -> Result<Self, ParseError> {
        let expected = "a disk, such as `blk0`, `blk0p1:ext4:ro` or `LABEL=name`";
        Self::of_disk("/", value).ok_or_else(|| ParseError::BadValue("root", value.to_owned(), expected))
    }

    fn of_disk(path: &str, value: &str) -> Option<Self> {
        let mut parts = value.split(':');
        let disk = parts.next().filter(|disk| is_disk(disk))?;
        let is_known = parts.next().is_none_or(|kind| kind == "ext4");
        let mode = parts.next();
        let is_good = is_known && matches!(mode, None | Some("ro" | "rw")) && parts.next().is_none();
        is_good.then(|| Self {
            path: path.to_owned(),
            disk: disk.to_owned(),
            is_read_only: mode == Some("ro"),
        })
    }
}

fn is_disk(name: &str) -> bool {
    if let Some((tag, value)) = name.split_once('=') {
        return TAGS.contains(&tag) && !value.is_empty();
    }
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("blk").unwrap_or_default();
    match numbers.split_once('p') {
        Some((disk, partition)) => is_number(disk) && is_number(partition),
        None => is_number(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_name_a_place_a_disk_and_perhaps_more() {
        let point = |path: &str, disk: &str, is_read_only| {
            Ok(MountPoint { path: path.to_owned(), disk: disk.to_owned(), is_read_only })
        };
        assert_eq!(MountPoint::parse("/data:blk0"), point("/data", "blk0", false));
        assert_eq!(MountPoint::parse("/srv/www/:blk12:ext4:ro"), point("/srv/www", "blk12", true));
        assert_eq!(MountPoint::root("blk0:ext4"), point("/", "blk0", false));
        assert_eq!(MountPoint::parse("/data:blk0p12:ext4:ro"), point("/data", "blk0p12", true));
        for disk in ["LABEL=my data", "UUID=0a-1b", "PARTUUID=c0ffee00-01", "PARTLABEL=x=y"] {
            assert_eq!(MountPoint::parse(&["/data", disk].join(":")), point("/data", disk, false));
        }
        assert_eq!(MountPoint::root("blk0:ext4:ro"), point("/", "blk0", true));
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
            "/data:blk0:xfs",
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
