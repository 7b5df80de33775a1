//! Listings of directories.

use unikernel_vfs::{EachEntry, Entry, Error, FileKind, InodeNumber};

use crate::P9;
use crate::connection::Handle;
use crate::messages::{EntryRecord, Readdir, open};
use crate::names::MAX_NAME_BYTES;
use crate::nodes::Place;
use crate::wire::{Data, Reader};

/// Continues after `.`. Programs seek by cookies as signed numbers, so they shall be positive; nobody's offsets are seen there: ext4
/// ends at 2^63 - 1 and has none between that and 2^63 - 2^32, others count from below.
const AFTER_DOT: u64 = i64::MAX as u64 - 2;

/// Continues after `..`.
const AFTER_DOT_DOT: u64 = i64::MAX as u64 - 1;

/// Stands for the server's offset [`AFTER_DOT`], [`AFTER_DOT_DOT`] being the next: offsets are signed at the server, so these are none.
const SPARE: u64 = 1 << 63;

/// How many entries one call looks at, at most: a server may list forever.
const MAX_ENTRIES: u32 = 1 << 20;

/// The cookie of an offset of the server's, or nothing if it cannot be one.
fn cookie_of(offset: u64) -> Option<u64> {
    match offset {
        // It would start over.
        0 => None,
        AFTER_DOT | AFTER_DOT_DOT => Some(SPARE + (offset - AFTER_DOT)),
        _ if offset & SPARE != 0 => None,
        offset => Some(offset),
    }
}

/// The server's offset of a cookie.
fn offset_of(cookie: u64) -> u64 {
    match cookie {
        AFTER_DOT | AFTER_DOT_DOT => 0,
        _ if cookie & SPARE != 0 => AFTER_DOT + (cookie & 1),
        cookie => cookie,
    }
}

/// The kind of a `DT_*`.
fn kind_of_type(kind: u8) -> Option<FileKind> {
    Some(match kind {
        1 => FileKind::Fifo,
        2 => FileKind::CharacterDevice,
        4 => FileKind::Directory,
        6 => FileKind::BlockDevice,
        8 => FileKind::File,
        10 => FileKind::Symlink,
        12 => FileKind::Socket,
        _ => return None,
    })
}

fn check_listed_name(name: &[u8]) -> Result<(), Error> {
    let is_sound = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0);
    if is_sound { Ok(()) } else { Err(Error::Corrupt("9p: a name in a directory")) }
}

/// Notices that a listing does not come to an end: its offsets repeat (Brent's algorithm, which remembers one of them).
struct Progress {
    remembered: u64,
    steps: u32,
    next_memory: u32,
    entries: u32,
}

impl Progress {
    fn new(start: u64) -> Self {
        Self { remembered: start, steps: 0, next_memory: 1, entries: 0 }
    }

    fn count_entry(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES { Err(Error::Corrupt("9p: a directory without end")) } else { Ok(()) }
    }

    fn reach(&mut self, offset: u64) -> Result<(), Error> {
        if offset == self.remembered {
            return Err(Error::Corrupt("9p: a listing that goes in circles"));
        }
        self.steps += 1;
        if self.steps == self.next_memory {
            self.next_memory = self.next_memory.saturating_mul(2);
            self.remembered = offset;
        }
        Ok(())
    }
}

impl P9 {
    /// The handle to list a directory with.
    pub(crate) fn directory_reader(&mut self, directory: InodeNumber) -> Result<Handle, Error> {
        self.resolve_directory(directory)?;
        if let Some(handle) = self.nodes.get(directory)?.reader {
            return Ok(handle);
        }
        let handle = self.open_handle(directory, open::READ_ONLY | open::DIRECTORY)?;
        self.nodes.get_mut(directory)?.reader = Some(handle);
        Ok(handle)
    }

    pub(crate) fn list(
        &mut self,
        directory: InodeNumber,
        cookie: u64,
        each: EachEntry<'_>,
    ) -> Result<(), Error> {
        let handle = self.directory_reader(directory)?;
        let mut dot = |name: &[u8], inode, next_cookie| {
            each(Entry { name, inode, kind: Some(FileKind::Directory), next_cookie }).is_break()
        };
        if cookie == 0 && dot(b".", directory, AFTER_DOT) {
            return Ok(());
        }
        if matches!(cookie, 0 | AFTER_DOT) {
            let parent = self.listed_parent(directory)?;
            if dot(b"..", parent, AFTER_DOT_DOT) {
                return Ok(());
            }
        }
        self.list_names(directory, handle, offset_of(cookie), each)
    }

    /// The number of the directory above.
    fn listed_parent(&mut self, directory: InodeNumber) -> Result<InodeNumber, Error> {
        let known = self.nodes.get(directory)?.place.as_ref().map(|place| place.directory);
        match known.filter(|parent| self.nodes.contains(*parent)) {
            Some(parent) => Ok(parent),
            None => self.find_parent(directory),
        }
    }

    fn list_names(
        &mut self,
        directory: InodeNumber,
        handle: Handle,
        start: u64,
        each: EachEntry<'_>,
    ) -> Result<(), Error> {
        let mut offset = start;
        let mut progress = Progress::new(start);
        loop {
            let request = Readdir { fid: handle.fid, offset, count: handle.piece_bytes };
            let Data(data) = self.connection.call(&request)?;
            if data.is_empty() {
                return Ok(());
            }
            if data.len() > handle.piece_bytes as usize {
                return Err(Error::Corrupt("9p: more names than asked for"));
            }
            let mut reader = Reader::new(data);
            while !reader.is_empty() {
                let entry: EntryRecord<'_> =
                    reader.take().map_err(|_| Error::Corrupt("9p: an entry of a directory"))?;
                check_listed_name(entry.name)?;
                let next_cookie =
                    cookie_of(entry.offset).ok_or(Error::Corrupt("9p: an offset in a directory"))?;
                progress.count_entry()?;
                offset = entry.offset;
                if matches!(entry.name, b"." | b"..") {
                    continue;
                }
                let inode = InodeNumber(entry.qid.path);
                self.nodes.listed().add(inode, Place::new(directory, entry.name));
                let entry = Entry { name: entry.name, inode, kind: kind_of_type(entry.kind), next_cookie };
                if each(entry).is_break() {
                    return Ok(());
                }
            }
            progress.reach(offset)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER_DOT, AFTER_DOT_DOT, cookie_of, offset_of};

    #[test]
    fn cookies_are_offsets_and_back() {
        let last = i64::MAX as u64;
        for offset in (1..2000).chain(last - 2000..=last) {
            let cookie = cookie_of(offset).expect("an offset of a server");
            assert_eq!(offset_of(cookie), offset);
            assert!(![0, AFTER_DOT, AFTER_DOT_DOT].contains(&cookie));
        }
        for offset in [0, 1 << 63, u64::MAX] {
            assert_eq!(cookie_of(offset), None);
        }
        for cookie in [0, AFTER_DOT, AFTER_DOT_DOT] {
            assert_eq!(offset_of(cookie), 0);
        }
    }
}
