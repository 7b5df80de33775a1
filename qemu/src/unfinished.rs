//! Files and folders that lie under another name, beside the one that they get, until they are whole: nobody finds half of one, and
//! nothing is left of what could not be made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One of them; gone when dropped.
pub(crate) struct Unfinished {
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    /// What will be called `target`. Nothing is there yet.
    pub(crate) fn new(target: &Path) -> Self {
        Self::of_step(target, "new")
    }

    /// The same for one of several steps.
    pub(crate) fn of_step(target: &Path, step: &str) -> Self {
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{}.{step}", std::process::id()));
        Self { path: path.into(), target: target.to_owned() }
    }

    /// Where it is until then.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole. A file that has the name goes; a folder must be gone.
    pub(crate) fn finish(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = if self.path.is_dir() { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
    }
}
