//! What a kind of filesystem is: a name, and how one is mounted. Which kinds there are is `fs::registry`'s matter.

use alloc::boxed::Box;
use alloc::string::String;

use unikernel_vfs::{FileSystem, Identity};

use crate::block::volume::Volume;

/// A kind of filesystem.
pub(crate) struct FilesystemType {
    /// Its name: in `mount=`, `/proc/filesystems` and `/proc/mounts`.
    pub name: &'static str,
    /// `f_type` of statfs(2).
    pub magic: u32,
    /// What it is mounted from, and how.
    pub source: Source,
}

/// What a kind of filesystem is mounted from, and how.
pub(crate) enum Source {
    /// A disk or a partition.
    Device {
        /// Mounts one.
        mount: fn(&Volume, Access, &str) -> MountResult,
        /// Finds out how a filesystem is told from others of its kind.
        identify: fn(&Volume) -> Option<Identity>,
        /// Makes a new one, if the kernel can do that.
        format: Option<Format>,
    },
    /// What has a name of its own: mounts it.
    Name(fn(&str, Access) -> MountResult),
}

/// A filesystem, mounted.
pub(crate) type MountResult = Result<Box<dyn FileSystem>, MountError>;

/// How a new filesystem is made.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Makes one; the error is for people.
    pub make: fn(&Volume) -> Result<(), String>,
    /// How people make one, on Linux.
    pub command: &'static str,
}

/// What the app may do with files of a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Read them.
    ReadOnly,
    /// Change them, too.
    ReadWrite,
}

/// Why something was not mounted.
pub(crate) enum MountError {
    /// There is no filesystem of this kind.
    NotFound,
    /// There is one, which cannot be used: why, for people, to be read after "cannot be mounted: ".
    Refused(String),
}
