//! A folder of the test's own, and what is in it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use guest_tests::{check, check_eq};

use crate::call;

const HERE: u64 = libc::AT_FDCWD as u64;

/// A path as system calls take it.
pub(crate) struct Name(CString);

impl Name {
    pub(crate) fn new(path: &Path) -> Self {
        Self(CString::new(path.as_os_str().as_bytes()).expect("no zero"))
    }

    pub(crate) fn at(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// Its bytes, with the zero.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes_with_nul()
    }
}

/// The folder.
pub(crate) struct Folder {
    path: PathBuf,
    /// It is on a disk, where there are extended attributes.
    pub(crate) is_on_disk: bool,
}

impl Folder {
    /// Makes it: on a disk if the argument says so, where the runner has mounted one.
    pub(crate) fn new() -> Self {
        let is_on_disk = std::env::args().any(|argument| argument == "disk");
        let named = std::env::var_os("DATA").map(PathBuf::from);
        let above = match is_on_disk {
            true => named.unwrap_or_else(std::env::temp_dir),
            // In memory on Linux, too.
            false => PathBuf::from("/dev/shm"),
        };
        let path = above.join(format!("permissions-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a folder for such things");
        let folder = Self { path, is_on_disk };
        folder.own(&folder.path, 0, 0, 0o755);
        folder
    }

    pub(crate) fn remove(&self) {
        std::fs::remove_dir_all(&self.path).expect("it is ours");
    }

    pub(crate) fn name(&self, path: &str) -> Name {
        Name::new(&self.path.join(path))
    }

    /// Owner, then mode, so that this loses no bits.
    fn own(&self, path: &Path, user: u32, group: u32, mode: u32) {
        let name = Name::new(path);
        check_eq!(call(libc::SYS_lchown, &[name.at(), user.into(), group.into()]), 0);
        check_eq!(call(libc::SYS_chmod, &[name.at(), mode.into()]), 0);
    }

    /// Makes a file anew.
    pub(crate) fn file(&self, path: &str, (user, group): (u32, u32), mode: u32) -> Name {
        let path = self.path.join(path);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, b"#!/bin/false\n").expect("root may");
        self.own(&path, user, group, mode);
        Name::new(&path)
    }

    /// Makes a directory anew, without anything in it.
    pub(crate) fn directory(&self, path: &str, (user, group): (u32, u32), mode: u32) -> Name {
        let path = self.path.join(path);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("root may");
        self.own(&path, user, group, mode);
        Name::new(&path)
    }

    /// Gives what is there its owner and mode.
    pub(crate) fn restore(&self, path: &str, (user, group): (u32, u32), mode: u32) -> Name {
        let path = self.path.join(path);
        self.own(&path, user, group, mode);
        Name::new(&path)
    }

    /// Mode, owner and group, as they are now.
    pub(crate) fn state(&self, path: &str) -> String {
        use std::os::unix::fs::MetadataExt;
        match std::fs::symlink_metadata(self.path.join(path)) {
            Ok(found) => format!("{:o}/{}/{}", found.mode() & 0o7777, found.uid(), found.gid()),
            Err(error) => format!("{}", -error.raw_os_error().unwrap_or(0)),
        }
    }
}

/// openat(2); what is opened is closed again.
pub(crate) fn open(name: &Name, flags: i32, mode: u32) -> i64 {
    let fd = call(libc::SYS_openat, &[HERE, name.at(), flags as u64, mode.into()]);
    if fd >= 0 {
        check!(call(libc::SYS_close, &[fd as u64]) == 0);
    }
    fd
}
