//! Folders as initrd archives, in cpio's "newc" format (cpio(5)): a header of ASCII hexadecimal
//! fields, the name, the content, each padded to four bytes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    /// Files with several names of which the first is in.
    linked: HashSet<u32>,
}

/// What an archive says of a file.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) modified: u32,
    /// Which file it is, of those with several names, and how many it has.
    pub(crate) hard_link: Option<(u32, u32)>,
    pub(crate) content: &'a [u8],
}

impl Archive {
    /// Adds one entry of root's.
    pub(crate) fn add(&mut self, name: &str, mode: u32, modified: u32, content: &[u8]) {
        let name = name.as_bytes();
        self.add_entry(&Entry { name, mode, user: 0, group: 0, modified, hard_link: None, content });
    }

    /// Adds one entry.
    pub(crate) fn add_entry(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        let &Entry { name, mode, user, group, modified, hard_link, content } = entry;
        let usual = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        // Devices tell numbers of files from numbers of entries.
        let (device, inode, links) =
            hard_link.map_or((0, self.entries, usual), |(number, links)| (1, number, links));
        let is_again = hard_link.is_some_and(|(number, _)| !self.linked.insert(number));
        let content = if is_again { &[] } else { content };
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        let fields = [inode, mode, user, group, links, modified, size, 0, device, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds what is in a folder, in the order of names, so that equal folders make equal archives.
    pub(crate) fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        self.add_folder_if(folder, prefix, &|_| true)
    }

    /// Adds what is in a folder and wanted.
    pub(crate) fn add_folder_if(
        &mut self,
        folder: &Path,
        prefix: &str,
        is_wanted: &impl Fn(&Path) -> bool,
    ) -> Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries.into_iter().filter(|entry| is_wanted(&entry.path())) {
            let (path, name) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
            let metadata = fs::symlink_metadata(&path)?;
            let (mode, modified) = (metadata.mode(), metadata.mtime() as u32);
            match mode & S_IFMT {
                S_IFDIR => {
                    self.add(&name, mode, modified, &[]);
                    self.add_folder_if(&path, &format!("{name}/"), is_wanted)?;
                }
                S_IFLNK => {
                    let target = fs::read_link(&path)?;
                    self.add(&name, mode, modified, target.to_string_lossy().as_bytes());
                }
                _ => self.add(&name, mode, modified, &fs::read(&path)?),
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_padded_and_ends_with_the_trailer() {
        let mut archive = Archive::default();
        archive.add("a", 0o100_644, 0, b"hello");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
        // 110 bytes of header, the name with its NUL, padding to four: the content comes at 112.
        assert_eq!(&bytes[112..117], b"hello");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
