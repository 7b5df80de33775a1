//! FAT as the kernel sees every filesystem ([`unikernel_vfs`]).

use alloc::vec::Vec;
use core::ops::ControlFlow;

use unikernel_vfs::{
    Attributes, ByteStorage, EachEntry, Entry, Error, FileKind, FileSystem, InodeNumber, Statistics, Storage,
};

use crate::Fat;
use crate::directory::ROOT;
use crate::geometry::Place;
use crate::name::is_same;

/// A block is no larger than a page.
const MAX_BLOCK_BYTES: u32 = 4096;
/// What Linux shows without options (`umask=022`), and of what is marked read-only.
const PERMISSIONS: u16 = 0o755;
const READ_ONLY_PERMISSIONS: u16 = 0o555;
/// Cookies: of what comes after `.` and `..`, and of the first slot.
const AFTER_SELF: u64 = 1;
const FIRST_SLOT: u64 = 2;

impl FileSystem for Fat<'_> {
    fn root(&self) -> InodeNumber {
        ROOT
    }

    fn block_bytes(&self) -> u32 {
        self.geometry.cluster_bytes.min(MAX_BLOCK_BYTES)
    }

    fn max_file_bytes(&self) -> u64 {
        u32::MAX.into()
    }

    fn storage(&mut self) -> Storage<'_> {
        Storage::Bytes(self)
    }

    /// In any case of letters, by the long name or the short one.
    fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error> {
        let place = self.directory(directory)?;
        match name {
            b"." => return Ok(directory),
            b".." => return self.parent(place),
            b"" => return Err(Error::NotFound),
            _ => {}
        }
        let name = core::str::from_utf8(name).map_err(|_| Error::NotFound)?;
        let is_it = |own: Option<&str>| own.is_some_and(|own| is_same(own, name));
        let found = self.scan(place, 0, |found| match is_it(found.long_name) || is_it(found.short_name) {
            true => ControlFlow::Break(found.inode),
            false => ControlFlow::Continue(()),
        })?;
        found.ok_or(Error::NotFound)
    }

    fn attributes(&mut self, inode: InodeNumber) -> Result<Attributes, Error> {
        let entry = self.entry(inode)?;
        let is_directory = entry.is_none_or(|entry| entry.is_directory);
        let size = match (entry, is_directory) {
            (Some(entry), false) => entry.bytes,
            (Some(entry), true) => self.directory_bytes(Place::Chain(entry.first_cluster))?,
            (None, _) => self.directory_bytes(self.geometry.root)?,
        };
        let size = u64::from(size);
        let is_read_only = entry.is_some_and(|entry| entry.is_read_only) && !is_directory;
        let modified = entry.and_then(|entry| entry.modified).unwrap_or_default();
        Ok(Attributes {
            kind: if is_directory { FileKind::Directory } else { FileKind::File },
            permissions: if is_read_only { READ_ONLY_PERMISSIONS } else { PERMISSIONS },
            user: 0,
            group: 0,
            size,
            links: 1,
            blocks_512: size.next_multiple_of(self.geometry.cluster_bytes.into()) / 512,
            device: 0,
            accessed: entry.and_then(|entry| entry.accessed).unwrap_or(modified),
            modified,
            changed: modified,
            born: entry.and_then(|entry| entry.born).unwrap_or(modified),
            generation: 0,
            is_mappable: true,
        })
    }

    fn read_link(&mut self, inode: InodeNumber) -> Result<Vec<u8>, Error> {
        self.entry(inode)?;
        Err(Error::Invalid)
    }

    fn entries(&mut self, directory: InodeNumber, cookie: u64, each: EachEntry<'_>) -> Result<(), Error> {
        let place = self.directory(directory)?;
        let mut dot = |name: &[u8], inode, next_cookie| {
            each(Entry { name, inode, kind: Some(FileKind::Directory), next_cookie })
        };
        if cookie < AFTER_SELF && dot(b".", directory, AFTER_SELF).is_break() {
            return Ok(());
        }
        if cookie < FIRST_SLOT && dot(b"..", self.parent(place)?, FIRST_SLOT).is_break() {
            return Ok(());
        }
        let first = u32::try_from(cookie.max(FIRST_SLOT) - FIRST_SLOT).unwrap_or(u32::MAX);
        if first >= self.max_slots() {
            return Ok(());
        }
        self.scan(place, first, |found| {
            let kind = if found.entry.is_directory { FileKind::Directory } else { FileKind::File };
            let name = found.long_name.or(found.short_name).unwrap_or_default();
            each(Entry {
                name: name.as_bytes(),
                inode: found.inode,
                kind: Some(kind),
                next_cookie: FIRST_SLOT + u64::from(found.slot) + 1,
            })
        })?;
        Ok(())
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        let block_bytes = self.block_bytes();
        let cluster_blocks = u64::from(self.geometry.cluster_bytes / block_bytes);
        let free_blocks = u64::from(self.free_clusters()?) * cluster_blocks;
        let mut uuid = [0; 16];
        uuid[..4].copy_from_slice(&self.geometry.serial.to_be_bytes());
        Ok(Statistics {
            block_bytes,
            blocks: u64::from(self.geometry.clusters) * cluster_blocks,
            free_blocks,
            available_blocks: free_blocks,
            inodes: 0,
            free_inodes: 0,
            uuid,
        })
    }
}

impl ByteStorage for Fat<'_> {
    fn read(&mut self, inode: InodeNumber, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let entry = self.entry(inode)?.filter(|entry| !entry.is_directory).ok_or(Error::IsADirectory)?;
        let rest = u64::from(entry.bytes).saturating_sub(offset);
        let len = rest.min(into.len() as u64) as usize;
        self.read_chain(entry.first_cluster, offset, &mut into[..len])?;
        Ok(len)
    }
}
