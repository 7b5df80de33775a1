//! Listing. A directory that has an index, or could get one, is listed in the order of its hashes, so that a
//! listing in pieces goes on at the right place whatever was added, removed or split meanwhile. One of several
//! blocks without an index is listed as it lies; its names do not move.
//!
//! Cookies: 0 is `.`, 1 is `..`, others are a name's hash or place plus 2.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::inode::Inode;
use crate::layout::directory::{Entries, RawEntry, kind_of};
use crate::{BlockDevice, Entry, Error, Ext4, FileKind, InodeNumber};

type Each<'a> = &'a mut dyn FnMut(Entry<'_>) -> ControlFlow<()>;

/// The first cookie that is not `.` or `..`.
const FIRST_NAME: u64 = 2;

/// A name that waits for its turn.
struct Listed {
    key: u64,
    name: Vec<u8>,
    inode: u32,
    kind: u8,
}

impl<D: BlockDevice> Ext4<D> {
    /// Calls `each` for the names in a directory, `.` and `..` first, from `cookie` on: 0, or
    /// [`Entry::next_cookie`] of an entry. Names that are there all the time are told once.
    pub fn entries(
        &mut self,
        directory: InodeNumber,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let directory = self.directory(directory)?;
        for (place, name) in [b".".as_slice(), b".."].into_iter().enumerate().skip(cookie.min(2) as usize) {
            let Some(found) = self.find_name(&directory, name)? else { continue };
            let inode = InodeNumber(found.inode);
            let entry = Entry { name, inode, kind: Some(FileKind::Directory), next_cookie: place as u64 + 1 };
            if each(entry).is_break() {
                return Ok(());
            }
        }
        let from = cookie.max(FIRST_NAME) - FIRST_NAME;
        if self.is_indexed(&directory) {
            self.list_by_index(&directory, from, each)
        } else if self.geometry.has_directory_index && self.directory_blocks(&directory)? == 1 {
            let version = self.geometry.hash_version;
            let mut names = Vec::new();
            self.gather(&directory, 0, version, from, &mut names)?;
            let _ = tell(names, each);
            Ok(())
        } else {
            self.list_as_it_lies(&directory, from, each)
        }
    }

    fn list_by_index(&mut self, directory: &Inode, from: u64, each: Each<'_>) -> Result<(), Error> {
        let version = self.hash_version(directory)?;
        let mut path = self.walk_index(directory, (from >> 31 << 1) as u32)?;
        let mut is_end = false;
        while !is_end {
            let mut names = Vec::new();
            self.gather(directory, path.leaf, version, from, &mut names)?;
            // Names with one hash may go on in the next leaf, and must be told together.
            loop {
                match self.next_leaf(directory, &mut path)? {
                    None => is_end = true,
                    Some(hash) if hash & 1 != 0 => {
                        self.gather(directory, path.leaf, version, from, &mut names)?;
                        continue;
                    }
                    Some(_) => {}
                }
                break;
            }
            if tell(names, each).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds a leaf's names from the hash `from` on.
    fn gather(
        &mut self,
        directory: &Inode,
        file_block: u32,
        version: u8,
        from: u64,
        names: &mut Vec<Listed>,
    ) -> Result<(), Error> {
        let (_, leaf) = self.leaf(directory, file_block)?;
        for entry in Entries::new(&leaf) {
            let entry = checked(entry)?;
            if entry.inode == 0 || matches!(entry.name, b"." | b"..") {
                continue;
            }
            let hash = self.name_hash(version, entry.name)?;
            let key = u64::from(hash.major >> 1) << 31 | u64::from(hash.minor >> 1);
            if key >= from {
                names.push(Listed { key, name: entry.name.to_vec(), inode: entry.inode, kind: entry.kind });
            }
        }
        Ok(())
    }

    fn list_as_it_lies(&mut self, directory: &Inode, from: u64, each: Each<'_>) -> Result<(), Error> {
        let block_bytes = self.geometry.block_bytes as u64;
        let first = u32::try_from(from / block_bytes).map_err(|_| Error::NotFound)?;
        for file_block in first..self.directory_blocks(directory)? {
            let (_, leaf) = self.leaf(directory, file_block)?;
            let start = u64::from(file_block) * block_bytes;
            for entry in Entries::new(&leaf) {
                let entry = checked(entry)?;
                let at = start + entry.at as u64;
                if entry.inode == 0 || at < from || matches!(entry.name, b"." | b"..") {
                    continue;
                }
                let entry = Entry {
                    name: entry.name,
                    inode: InodeNumber(entry.inode),
                    kind: kind_of(entry.kind),
                    next_cookie: at + 1 + FIRST_NAME,
                };
                if each(entry).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The entry, if what is in use has a name that is one: whoever is told one with a slash makes a path of it that leads elsewhere
/// (Linux: `verify_dirent_name`).
fn checked(entry: Option<RawEntry<'_>>) -> Result<RawEntry<'_>, Error> {
    let is_name = |name: &[u8]| !name.is_empty() && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
    if entry.inode == 0 || is_name(entry.name) {
        Ok(entry)
    } else {
        Err(Error::Corrupt("name in a directory"))
    }
}

/// Tells names in the order of their hashes.
fn tell(mut names: Vec<Listed>, each: Each<'_>) -> ControlFlow<()> {
    names.sort_unstable_by(|one, other| (one.key, &one.name).cmp(&(other.key, &other.name)));
    for listed in names {
        each(Entry {
            name: &listed.name,
            inode: InodeNumber(listed.inode),
            kind: kind_of(listed.kind),
            next_cookie: listed.key + 1 + FIRST_NAME,
        })?;
    }
    ControlFlow::Continue(())
}
