//! Making files, directories, links and special files.

use unikernel_vfs::{AttributeChange, Error, FileKind, InodeNumber, NewKind, NewNode};

use crate::P9;
use crate::connection::Handle;
use crate::messages::{Fid, Lcreate, Mkdir, Mknod, Symlink, mode, open};
use crate::names::{MAX_TARGET_BYTES, check_own_name};
use crate::wire::Qid;

fn check_target(target: &[u8]) -> Result<(), Error> {
    match target {
        [] => Err(Error::NotFound),
        target if target.len() > MAX_TARGET_BYTES => Err(Error::NameTooLong),
        target if target.contains(&0) => Err(Error::Invalid),
        _ => Ok(()),
    }
}

/// Major and minor number of a `dev_t` of Linux.
fn device_numbers(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

impl P9 {
    pub(crate) fn make(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        node: &NewNode<'_>,
    ) -> Result<InodeNumber, Error> {
        self.writable()?;
        let fid = self.resolve_directory(directory)?;
        check_own_name(name, Error::Exists)?;
        let (made, handle) = self.make_at(fid, name, node)?;
        self.unsynced.insert(directory);
        let found = self.find_made(directory, name, made, handle).and_then(|number| {
            self.own(number, node)?;
            Ok(number)
        });
        if found.is_err() {
            // It was made, but nobody will know of it.
            if self.remove_name(fid, name, node.kind == NewKind::Directory).is_ok() {
                self.forget(InodeNumber(made.path));
            }
        }
        found
    }

    /// Asks the server to make a node; answers what it is, and the handle that is open on it.
    fn make_at(
        &mut self,
        directory: Fid,
        name: &[u8],
        node: &NewNode<'_>,
    ) -> Result<(Qid, Option<Handle>), Error> {
        let permissions = u32::from(node.permissions & 0o7777);
        let group = node.group;
        let (kind, device) = match node.kind {
            NewKind::File => {
                let (qid, handle) = self.make_file(directory, name, permissions, group)?;
                return Ok((qid, Some(handle)));
            }
            NewKind::Directory => {
                let request = Mkdir { directory, name, mode: permissions, group };
                return Ok((self.connection.call(&request)?, None));
            }
            NewKind::Symlink(target) => {
                check_target(target)?;
                let request = Symlink { directory, name, target, group };
                return Ok((self.connection.call(&request)?, None));
            }
            NewKind::Fifo => (mode::FIFO, 0),
            NewKind::Socket => (mode::SOCKET, 0),
            NewKind::CharacterDevice(device) => (mode::CHARACTER_DEVICE, device),
            NewKind::BlockDevice(device) => (mode::BLOCK_DEVICE, device),
        };
        let (major, minor) = device_numbers(device);
        let request = Mknod { directory, name, mode: kind | permissions, major, minor, group };
        Ok((self.connection.call(&request)?, None))
    }

    fn make_file(
        &mut self,
        directory: Fid,
        name: &[u8],
        mode: u32,
        group: u32,
    ) -> Result<(Qid, Handle), Error> {
        let fid = self.connection.duplicate(directory)?;
        let flags = open::READ_WRITE | open::CREATE | open::EXCLUSIVE | open::LARGE_FILE;
        match self.connection.call(&Lcreate { fid, name, flags, mode, group }) {
            // The fid is the new file's now.
            Ok((qid, unit_bytes)) => Ok((qid, self.connection.handle(fid, unit_bytes))),
            Err(failure) => {
                self.connection.discard_unless_silent(fid, failure);
                Err(failure.into())
            }
        }
    }

    /// Takes what was just made into the table, with the handle that is open on it.
    fn find_made(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        made: Qid,
        handle: Option<Handle>,
    ) -> Result<InodeNumber, Error> {
        // Whoever had this number before is gone.
        let number = InodeNumber(made.path);
        if self.nodes.get(number).is_ok_and(|node| node.opens == 0) {
            self.forget(number);
        }
        let found = match self.find(directory, name) {
            // Somebody else replaced it already.
            Ok(found) if found != number => Err(Error::NotFound),
            found => found,
        };
        match (found, handle) {
            (Ok(number), Some(handle)) => {
                let node = self.nodes.get_mut(number)?;
                let old = node.writer.replace(handle).into_iter().chain(node.reader.take());
                node.writer_reads = true;
                node.kind = Some(FileKind::File);
                for handle in old {
                    self.connection.discard(handle.fid);
                }
            }
            (Err(_), Some(handle)) => self.connection.discard(handle.fid),
            (_, None) => {}
        }
        found
    }

    /// Gives what was just made the owner and permissions that it shall have: a server makes everything its user's, and may have a
    /// mask of its own. What it does not allow stays as it is.
    fn own(&mut self, number: InodeNumber, node: &NewNode<'_>) -> Result<(), Error> {
        let now = self.stat(number)?;
        let permissions = node.permissions & 0o7777;
        let owner = AttributeChange {
            user: (now.user != node.user).then_some(node.user),
            group: (now.group != node.group).then_some(node.group),
            ..AttributeChange::default()
        };
        let is_owner_changed = owner != AttributeChange::default();
        // A change of the owner may take the set-id bits away.
        let is_mode_changed = now.kind != FileKind::Symlink
            && (now.permissions != permissions || is_owner_changed && permissions & 0o6000 != 0);
        let permissions = AttributeChange {
            permissions: is_mode_changed.then_some(permissions),
            ..AttributeChange::default()
        };
        for change in [owner, permissions] {
            if change != AttributeChange::default() {
                match self.change_attributes(number, &change) {
                    Ok(()) | Err(Error::Denied | Error::NotPermitted | Error::Unsupported) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::device_numbers;

    #[test]
    fn device_numbers_are_those_of_linux() {
        // As `makedev` of Linux makes them, with numbers that need all bits.
        assert_eq!(device_numbers(0x0103), (1, 3));
        assert_eq!(device_numbers(0x1234_5678), (0x456, 0x1_2378));
        assert_eq!(device_numbers(u32::MAX), (0xfff, 0xf_ffff));
    }
}
