//! Content: files are opened at the server when they are first read or written, and stay open while they are held or remembered.

use unikernel_vfs::{ByteStorage, Error, FileKind, InodeNumber, Sync};

use crate::P9;
use crate::connection::{CallError, Handle};
use crate::messages::{Fsync, Read, Write, open};
use crate::wire::Data;

/// The greatest size of a file: offsets are signed at the server.
pub(crate) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

impl P9 {
    /// Fails unless an inode is a regular file: the server would wait for the other end of a pipe, or open a device of its own.
    pub(crate) fn check_file(&mut self, number: InodeNumber) -> Result<(), Error> {
        match self.kind(number)? {
            FileKind::File => Ok(()),
            FileKind::Directory => Err(Error::IsADirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// The handle to read a file with.
    pub(crate) fn reader(&mut self, number: InodeNumber) -> Result<Handle, Error> {
        self.resolve(number)?;
        let node = self.nodes.get(number)?;
        if let Some(handle) = node.for_reading().filter(|_| !node.is_directory()) {
            return Ok(handle);
        }
        self.check_file(number)?;
        let handle = self.open_handle(number, open::READ_ONLY)?;
        self.nodes.get_mut(number)?.reader = Some(handle);
        Ok(handle)
    }

    /// The handle to write a file with. It reads, too, if the server lets us.
    pub(crate) fn writer(&mut self, number: InodeNumber) -> Result<Handle, Error> {
        self.writable()?;
        self.resolve(number)?;
        if let Some(handle) = self.nodes.get(number)?.writer {
            return Ok(handle);
        }
        self.check_file(number)?;
        let (handle, reads) = match self.open_handle(number, open::READ_WRITE) {
            Err(Error::Denied) => (self.open_handle(number, open::WRITE_ONLY)?, false),
            opened => (opened?, true),
        };
        let node = self.nodes.get_mut(number)?;
        node.writer = Some(handle);
        node.writer_reads = reads;
        let superfluous = if reads { node.reader.take() } else { None };
        if let Some(handle) = superfluous {
            self.connection.discard(handle.fid);
        }
        Ok(handle)
    }

    /// Opens what a number stands for, which may have been replaced at the server.
    pub(crate) fn open_handle(&mut self, number: InodeNumber, flags: u32) -> Result<Handle, Error> {
        let fid = self.resolve(number)?;
        let (handle, qid) = self.connection.open(fid, flags | open::LARGE_FILE)?;
        if qid.path != number.0 {
            self.connection.discard(handle.fid);
            return Err(Error::NotFound);
        }
        Ok(handle)
    }

    /// Makes what was written to an inode durable, or, for a directory, what was done to its names.
    pub(crate) fn sync(&mut self, number: InodeNumber, data_only: bool) -> Result<(), Error> {
        self.resolve(number)?;
        let node = self.nodes.get(number)?;
        if node.is_nameless && node.any_handle().is_none() {
            // It is out of reach: nothing can be written, and nothing is left to find after a crash.
            self.unsynced.remove(&number);
            return Ok(());
        }
        let handle = match self.kind(number)? {
            FileKind::Directory => self.directory_reader(number)?,
            FileKind::File => match self.nodes.get(number)?.any_handle() {
                Some(handle) => handle,
                None => match self.reader(number).or_else(|_| self.writer(number)) {
                    // Then nothing was written, either.
                    Err(Error::Denied | Error::NotPermitted) => {
                        self.unsynced.remove(&number);
                        return Ok(());
                    }
                    opened => opened?,
                },
            },
            // The server cannot open these, and they have no content.
            _ => {
                self.unsynced.remove(&number);
                return Ok(());
            }
        };
        match self
            .connection
            .call(&Fsync { fid: handle.fid, data_only: data_only.into() })
            .map_err(Error::from)
        {
            // Not every filesystem at the server can do this to a directory.
            Ok(()) | Err(Error::Invalid | Error::Unsupported) => {
                self.unsynced.remove(&number);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// [`FileSystem::sync_inode`](unikernel_vfs::FileSystem::sync_inode)
    pub(crate) fn sync_file(&mut self, number: InodeNumber, what: Sync) -> Result<(), Error> {
        if self.is_read_only {
            return self.resolve(number).map(drop);
        }
        self.sync(number, what == Sync::Data)
    }

    /// Makes all changes durable, and tells of those that could not be made so earlier.
    pub(crate) fn sync_all(&mut self) -> Result<(), Error> {
        let mut result = self.lost_sync.take().map_or(Ok(()), Err);
        for number in core::mem::take(&mut self.unsynced) {
            match self.sync(number, false) {
                // Somebody else removed it.
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => {
                    self.unsynced.insert(number);
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    /// Notes that a file's content was changed.
    pub(crate) fn note_content(&mut self, number: InodeNumber, size: impl FnOnce(u64) -> u64) {
        self.unsynced.insert(number);
        if let Ok(node) = self.nodes.get_mut(number)
            && let Some(known) = &mut node.known
        {
            known.size = size(known.size);
        }
    }

    /// Writes as much as one message takes; answers how much the server took.
    fn write_piece(&mut self, handle: Handle, offset: u64, bytes: &[u8]) -> Result<usize, Error> {
        let piece = &bytes[..bytes.len().min(handle.piece_bytes as usize)];
        let count = self.connection.call(&Write { fid: handle.fid, offset, data: Data(piece) })? as usize;
        match count {
            0 => Err(Error::Device),
            count if count > piece.len() => Err(Error::Corrupt("9p: more written than sent")),
            count => Ok(count),
        }
    }
}

impl ByteStorage for P9 {
    fn read(&mut self, inode: InodeNumber, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let handle = self.reader(inode)?;
        let room = MAX_FILE_BYTES.saturating_sub(offset);
        let wanted = into.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < wanted {
            let count = (wanted - done).min(handle.piece_bytes as usize);
            let read = Read { fid: handle.fid, offset: offset + done as u64, count: count as u32 };
            let Data(data) = self.connection.call(&read)?;
            if data.len() > count {
                return Err(CallError::Malformed("9p: more read than asked for").into());
            }
            if data.is_empty() {
                break;
            }
            into[done..done + data.len()].copy_from_slice(data);
            done += data.len();
        }
        Ok(done)
    }

    fn write(&mut self, inode: InodeNumber, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let handle = self.writer(inode)?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > MAX_FILE_BYTES) {
            return Err(Error::TooLarge);
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            done += self.write_piece(handle, at, &bytes[done..])?;
            self.note_content(inode, |size| size.max(offset + done as u64));
        }
        Ok(())
    }
}
