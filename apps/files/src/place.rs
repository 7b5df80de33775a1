//! From a path in a request to a file below the root, and to nothing else.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::condition::Validators;

/// What is served in a folder's place.
const INDEX: &str = "index.html";

/// The folder whose files are served.
pub(crate) struct Root {
    folder: PathBuf,
}

/// What a path leads to.
pub(crate) enum Found {
    File(Opened),
    /// A folder, whose names are to be listed.
    Folder(PathBuf),
    /// A folder, whose path lacks the slash at its end.
    NeedsSlash,
}

/// An open file.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    pub(crate) validators: Validators,
}

impl Root {
    /// Takes a folder.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        folder.read_dir()?;
        Ok(Self { folder })
    }

    /// Looks a path up. A link that leads out of the root leads nowhere.
    ///
    /// # Errors
    ///
    /// Those of the file system; `NotFound` for what is outside or neither file nor folder.
    pub(crate) fn find(&self, path: &str) -> io::Result<Found> {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let relative = decode(path).and_then(|bytes| below(&bytes)).ok_or_else(not_found)?;
        let place = self.inside(&self.folder.join(relative))?;
        let metadata = place.metadata()?;
        let has_slash = path.ends_with('/');
        match (metadata.is_dir(), has_slash) {
            (true, false) => Ok(Found::NeedsSlash),
            (true, true) => match self.inside(&place.join(INDEX)).and_then(|index| open(&index)) {
                Ok(index) => Ok(Found::File(index)),
                Err(_) => Ok(Found::Folder(place)),
            },
            (false, true) => Err(not_found()),
            (false, false) => open(&place).map(Found::File),
        }
    }

    /// Where a path ends when its links are followed.
    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let place = path.canonicalize()?;
        if place.starts_with(&self.folder) { Ok(place) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Opens a regular file; a FIFO would hold us up for ever.
fn open(path: &Path) -> io::Result<Opened> {
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let validators = validators(&metadata)?;
    Ok(Opened { len: metadata.len(), path: path.to_owned(), validators, file })
}

/// Another file, another time or another length is another tag. The time has nanoseconds: nobody writes twice in the
/// same one.
fn validators(metadata: &Metadata) -> io::Result<Validators> {
    let (inode, len) = (metadata.ino(), metadata.len());
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let tag = format!("\"{inode:x}-{seconds:x}.{nanoseconds:x}-{len:x}\"");
    Ok(Validators { tag, modified: metadata.modified()? })
}

/// Takes `%41` and its like back; `None` if one is cut short.
fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(decoded)
}

/// The names of a path, which may not lead upwards.
fn below(path: &[u8]) -> Option<PathBuf> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return None;
    }
    let mut relative = PathBuf::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return None,
            name => relative.push(std::ffi::OsString::from_vec(name.to_vec())),
        }
    }
    Some(relative)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(root: &Root, path: &str) -> String {
        match root.find(path) {
            Ok(Found::File(opened)) => opened.path.strip_prefix(&root.folder).unwrap().display().to_string(),
            Ok(Found::Folder(_)) => "folder".into(),
            Ok(Found::NeedsSlash) => "slash".into(),
            Err(error) => error.kind().to_string(),
        }
    }

    #[test]
    fn nothing_outside_is_found() {
        let base = std::env::temp_dir().join(format!("files-place-{}", std::process::id()));
        let root = base.join("root");
        fs::create_dir_all(root.join("sub dir")).unwrap();
        fs::create_dir_all(root.join("site")).unwrap();
        fs::write(base.join("secret"), "secret").unwrap();
        for name in ["a.txt", "sub dir/b%.txt", "site/index.html", "..."] {
            fs::write(root.join(name), name).unwrap();
        }
        symlink("../secret", root.join("out")).unwrap();
        symlink("a.txt", root.join("in")).unwrap();
        symlink("/", root.join("top")).unwrap();
        let root = Root::open(&root).unwrap();
        for (path, wanted) in [
            ("/a.txt", "a.txt"),
            ("//./a.txt", "a.txt"),
            ("/in", "a.txt"),
            ("/sub%20dir/b%25.txt", "sub dir/b%.txt"),
            ("/...", "..."),
            ("/sub%20dir", "slash"),
            ("/sub%20dir/", "folder"),
            ("/site/", "site/index.html"),
        ] {
            assert_eq!(found(&root, path), wanted, "{path}");
        }
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/.%2E/secret",
            "/sub%20dir/../../secret",
            "/sub%20dir%2f..%2f..%2fsecret",
            "/out",
            "/top/etc/passwd",
            "/a.txt/",
            "/a.txt%00",
            "/a.txt%2",
            "/a.txt%zz",
            "secret",
            "",
            "*",
        ] {
            assert_ne!(found(&root, path), "secret", "{path}");
            assert!(root.find(path).is_err(), "{path} is found");
        }
        fs::remove_dir_all(&base).unwrap();
    }
}
