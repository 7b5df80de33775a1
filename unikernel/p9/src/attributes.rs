//! Attributes of inodes, and of the whole.

use unikernel_vfs::{AttributeChange, Attributes, Error, FileKind, InodeNumber, Statistics, Timestamp};

use crate::P9;
use crate::content::MAX_FILE_BYTES;
use crate::messages::{
    AttributeRecord, Fid, FilesystemRecord, Getattr, Setattr, Statfs, getattr, mode, setattr,
};

/// The block size that is told, whatever the server's is (QEMU's depends on the length of messages).
pub(crate) const BLOCK_BYTES: u32 = 4096;

impl P9 {
    /// What an inode is.
    pub(crate) fn kind(&mut self, number: InodeNumber) -> Result<FileKind, Error> {
        let node = self.nodes.get(number)?;
        if node.is_directory() {
            return Ok(FileKind::Directory);
        }
        if node.is_symlink() {
            return Ok(FileKind::Symlink);
        }
        match node.kind {
            Some(kind) => Ok(kind),
            None => self.stat(number).map(|attributes| attributes.kind),
        }
    }

    /// Asks the server about an inode.
    pub(crate) fn stat(&mut self, number: InodeNumber) -> Result<Attributes, Error> {
        match self.stat_by_fids(number) {
            Err(Error::NotFound) => self.stat_of_lost(number),
            outcome => outcome,
        }
    }

    /// The same of what the server finds.
    ///
    /// The handles are tried first: some servers find the file by them even when its name is gone, or another's. What answers may be
    /// another file: then the fid is no use for this one.
    fn stat_by_fids(&mut self, number: InodeNumber) -> Result<Attributes, Error> {
        let fid = self.resolve(number)?;
        let node = self.nodes.get(number)?;
        let handle = node.any_handle().filter(|_| !node.is_directory());
        for fid in handle.map(|handle| handle.fid).into_iter().chain([fid]) {
            match self.connection.call(&attributes_of(fid)).map_err(Error::from) {
                Ok(record) if record.qid.path == number.0 => {
                    let attributes = attributes(&record)?;
                    let node = self.nodes.get_mut(number)?;
                    node.kind = Some(attributes.kind);
                    node.known = Some(attributes);
                    return Ok(attributes);
                }
                // Or a directory above it was, too, and its name is a file's now.
                Ok(_) | Err(Error::NotFound | Error::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::NotFound)
    }

    /// What is known of an inode that the server does not find any more, though somebody holds it.
    fn stat_of_lost(&self, number: InodeNumber) -> Result<Attributes, Error> {
        let node = self.nodes.get(number)?;
        let lives = node.opens > 0 && (node.is_nameless || node.any_handle().is_some());
        node.known.filter(|_| lives).ok_or(Error::NotFound)
    }

    /// The fid by which attributes of an inode can be changed: the one that walks start at, if it leads to the inode still. An open one is
    /// none: servers go by the name that a fid was walked by (QEMU 7.2 truncates and changes modes so, while it tells of what is open), which
    /// may be gone, or another file's.
    ///
    /// Answers the type bits of its mode, too.
    fn fid_for_change(&mut self, number: InodeNumber) -> Result<(Fid, u32), Error> {
        let fid = self.resolve(number)?;
        match self.connection.call(&attributes_of(fid)).map_err(Error::from) {
            Ok(record) if record.qid.path == number.0 => Ok((fid, record.mode & mode::TYPE)),
            Ok(_) | Err(Error::NotADirectory) => Err(Error::NotFound),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn change_attributes(
        &mut self,
        number: InodeNumber,
        change: &AttributeChange,
    ) -> Result<(), Error> {
        self.writable()?;
        let (fid, kind) = self.fid_for_change(number)?;
        let node = self.nodes.get(number)?;
        if change.permissions.is_some() && node.is_symlink() {
            // diod would change what the link leads to.
            return Err(Error::Unsupported);
        }
        if *change == AttributeChange::default() {
            return Ok(());
        }
        let request = change_request(fid, kind, change)?;
        self.connection.call(&request)?;
        self.unsynced.insert(number);
        if let Some(known) = &mut self.nodes.get_mut(number)?.known {
            known.permissions = change.permissions.map_or(known.permissions, |bits| bits & 0o7777);
            known.user = change.user.unwrap_or(known.user);
            known.group = change.group.unwrap_or(known.group);
            known.accessed = change.accessed.unwrap_or(known.accessed);
            known.modified = change.modified.unwrap_or(known.modified);
        }
        Ok(())
    }

    pub(crate) fn change_size(&mut self, number: InodeNumber, size: u64) -> Result<(), Error> {
        self.writable()?;
        self.resolve(number)?;
        self.check_file(number)?;
        if size > MAX_FILE_BYTES {
            return Err(Error::TooLarge);
        }
        let (fid, _) = self.fid_for_change(number)?;
        self.connection.call(&Setattr { size, ..no_change(fid, setattr::SIZE) })?;
        self.note_content(number, |_| size);
        Ok(())
    }

    pub(crate) fn whole(&mut self) -> Result<Statistics, Error> {
        let fid = self.resolve(self.root)?;
        let record = self.connection.call(&Statfs { fid })?;
        Ok(statistics(&record))
    }
}

fn attributes_of(fid: Fid) -> Getattr {
    Getattr { fid, request_mask: getattr::BASIC | getattr::BORN | getattr::GENERATION }
}

/// A request that changes what `valid` says, and has zeros in it.
fn no_change(fid: Fid, valid: u32) -> Setattr {
    Setattr {
        fid,
        valid,
        mode: 0,
        user: 0,
        group: 0,
        size: 0,
        accessed_seconds: 0,
        accessed_nanoseconds: 0,
        modified_seconds: 0,
        modified_nanoseconds: 0,
    }
}

/// `kind` is the type bits of the mode.
fn change_request(fid: Fid, kind: u32, change: &AttributeChange) -> Result<Setattr, Error> {
    let mut request = no_change(fid, 0);
    if let Some(permissions) = change.permissions {
        request.valid |= setattr::MODE;
        // With `security_model=mapped-xattr` QEMU keeps the mode as it comes, so it needs the type, too.
        request.mode = kind | u32::from(permissions & 0o7777);
    }
    if let Some(user) = change.user {
        request.valid |= setattr::USER;
        request.user = user;
    }
    if let Some(group) = change.group {
        request.valid |= setattr::GROUP;
        request.group = group;
    }
    if let Some(accessed) = change.accessed {
        request.valid |= setattr::ACCESSED | setattr::ACCESSED_TO;
        (request.accessed_seconds, request.accessed_nanoseconds) = time_fields(accessed)?;
    }
    if let Some(modified) = change.modified {
        request.valid |= setattr::MODIFIED | setattr::MODIFIED_TO;
        (request.modified_seconds, request.modified_nanoseconds) = time_fields(modified)?;
    }
    Ok(request)
}

/// `UTIME_NOW` and the like are nanoseconds of 2^30 - 1 to a server, so these must be some.
fn time_fields(time: Timestamp) -> Result<(u64, u64), Error> {
    if time.nanoseconds >= 1_000_000_000 {
        return Err(Error::Invalid);
    }
    Ok((time.seconds as u64, time.nanoseconds.into()))
}

fn timestamp((seconds, nanoseconds): (u64, u64)) -> Result<Timestamp, Error> {
    match u32::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds < 1_000_000_000 => {
            Ok(Timestamp { seconds: seconds as i64, nanoseconds })
        }
        _ => Err(Error::Corrupt("9p: a time of a file")),
    }
}

fn kind_of_mode(bits: u32) -> Option<FileKind> {
    Some(match bits & mode::TYPE {
        mode::FILE => FileKind::File,
        mode::DIRECTORY => FileKind::Directory,
        mode::SYMLINK => FileKind::Symlink,
        mode::FIFO => FileKind::Fifo,
        mode::SOCKET => FileKind::Socket,
        mode::CHARACTER_DEVICE => FileKind::CharacterDevice,
        mode::BLOCK_DEVICE => FileKind::BlockDevice,
        _ => return None,
    })
}

fn attributes(record: &AttributeRecord) -> Result<Attributes, Error> {
    if record.valid & (getattr::MODE | getattr::SIZE) != getattr::MODE | getattr::SIZE {
        return Err(Error::Corrupt("9p: attributes without mode or size"));
    }
    let kind = kind_of_mode(record.mode).ok_or(Error::Corrupt("9p: the mode of a file"))?;
    if record.size > MAX_FILE_BYTES {
        return Err(Error::Corrupt("9p: the size of a file"));
    }
    let has_device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
    Ok(Attributes {
        kind,
        permissions: (record.mode & 0o7777) as u16,
        user: record.user,
        group: record.group,
        size: record.size,
        links: u32::try_from(record.links).unwrap_or(u32::MAX),
        blocks_512: record.blocks_512,
        // Major numbers above 4095, which only fit the server's 64 bits, are cut off as Linux does.
        device: if has_device { record.device as u32 } else { 0 },
        accessed: timestamp(record.accessed)?,
        modified: timestamp(record.modified)?,
        changed: timestamp(record.changed)?,
        born: if record.valid & getattr::BORN != 0 { timestamp(record.born)? } else { Timestamp::default() },
        generation: if record.valid & getattr::GENERATION != 0 { record.generation as u32 } else { 0 },
        is_mappable: true,
    })
}

fn statistics(record: &FilesystemRecord) -> Statistics {
    let scale = |blocks: u64| {
        let bytes = u128::from(blocks) * u128::from(record.block_bytes.max(1));
        u64::try_from(bytes / u128::from(BLOCK_BYTES)).unwrap_or(u64::MAX)
    };
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&record.identity.to_le_bytes());
    Statistics {
        block_bytes: BLOCK_BYTES,
        blocks: scale(record.blocks),
        free_blocks: scale(record.free_blocks),
        available_blocks: scale(record.available_blocks),
        inodes: record.inodes,
        free_inodes: record.free_inodes,
        uuid,
    }
}
