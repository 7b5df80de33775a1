//! Files and folders that lie under another name, beside the one that they get, until they are whole: nobody finds half of one, and
//! nothing is left of what could not be made.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

/// What is to be in a file.
pub(crate) struct NewText<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    /// Its mode; None is the one that it has, or that new files get.
    pub(crate) mode: Option<u32>,
}

/// Writes files, in folders that are made for them where they are missing. All of them are written under other names before the
/// first gets its own: if one cannot be, each is what it was, and no new folder is left.
pub(crate) fn write_all<'a>(files: impl IntoIterator<Item = NewText<'a>>) -> Result<()> {
    // Dropped last: a folder must be empty to go.
    let mut folders = NewFolders::default();
    let mut written = Vec::new();
    for file in files {
        let mut write = || -> io::Result<()> {
            folders.make(file.path.parent().unwrap_or(Path::new("")))?;
            written.extend(write_beside(&file)?);
            Ok(())
        };
        in_context(write(), file.path)?;
    }
    for new in written {
        let target = new.target.clone();
        in_context(new.finish(), &target)?;
    }
    Ok(())
}

fn in_context(outcome: io::Result<()>, path: &Path) -> Result<()> {
    outcome.with_context(|| format!("cannot write {}", path.display()))
}

/// The file under another name; None if it has no other, and is written.
fn write_beside(file: &NewText) -> io::Result<Option<Unfinished>> {
    let known = fs::metadata(file.path).ok();
    // A terminal or a pipe; and a folder, which says what it is.
    if known.as_ref().is_some_and(|known| !known.is_file()) {
        return fs::write(file.path, file.text).map(|()| None);
    }
    // A link stays, and leads to the new file.
    let target = if known.is_some() { fs::canonicalize(file.path)? } else { file.path.to_owned() };
    let new = Unfinished::new(&target);
    fs::write(new.path(), file.text)?;
    if let Some(mode) = file.mode.or(known.map(|known| known.permissions().mode())) {
        fs::set_permissions(new.path(), fs::Permissions::from_mode(mode))?;
    }
    Ok(Some(new))
}

/// Folders made on the way; gone when dropped, if nothing is in them.
#[derive(Default)]
struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    fn make(&mut self, folder: &Path) -> io::Result<()> {
        let missing = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(&folder)?;
            self.0.push(folder);
        }
        Ok(())
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of a test's own, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("unfinished-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// What is in it, with files' texts.
        fn content(&self) -> Vec<(String, Option<String>)> {
            let entry = |entry: io::Result<fs::DirEntry>| {
                let path = entry.unwrap().path();
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).ok())
            };
            let mut content: Vec<_> = fs::read_dir(&self.0).unwrap().map(entry).collect();
            content.sort();
            content
        }

        fn write(&self, files: &[(&str, &str)]) -> Result<()> {
            let paths: Vec<PathBuf> = files.iter().map(|(name, _)| self.0.join(name)).collect();
            let files = files.iter().zip(&paths);
            write_all(files.map(|((_, text), path)| NewText { path, text, mode: None }))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn none_is_written_if_one_cannot_be() {
        let folder = Folder::new("none");
        fs::write(folder.0.join("old"), "before").unwrap();
        fs::create_dir(folder.0.join("folder")).unwrap();
        let before = folder.content();
        // Below a file there is no file; a folder is none.
        for last in ["old/below", "folder"] {
            let error =
                folder.write(&[("old", "x"), ("new", "x"), ("a/b/deep", "x"), (last, "x")]).unwrap_err();
            assert!(error.to_string().ends_with(last), "{error}");
            assert_eq!(folder.content(), before);
        }
        folder.write(&[("old", "after"), ("a/b/deep", "x")]).unwrap();
        assert_eq!(fs::read_to_string(folder.0.join("a/b/deep")).unwrap(), "x");
        assert_eq!(folder.content()[2], ("old".to_owned(), Some("after".to_owned())));
        assert_eq!(folder.content().len(), 3);
    }

    #[test]
    fn links_and_modes_stay() {
        let folder = Folder::new("links");
        let (file, link) = (folder.0.join("file"), folder.0.join("link"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        folder.write(&[("link", "after")]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        write_all([NewText { path: &file, text: "x", mode: Some(0o755) }]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
        // Devices are written to.
        write_all([NewText { path: Path::new("/dev/null"), text: "x", mode: None }]).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
