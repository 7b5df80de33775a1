//! Names: looking up, linking, removing, renaming.

use unikernel_vfs::{Error, InodeNumber, RenameMode};

use crate::P9;
use crate::connection::CallError;
use crate::errno::is_unknown_request;
use crate::messages::{Fid, Link, REMOVE_DIRECTORY, Readlink, Rename, Renameat, Unlinkat};
use crate::nodes::{Node, Place};
use crate::wire::Qid;

/// The longest name, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// The longest target of a symbolic link, in bytes (`PATH_MAX`, less the zero byte).
pub(crate) const MAX_TARGET_BYTES: usize = 4095;

/// Fails if a server could take a name for another one: a zero byte ends it there.
fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        [] => Err(Error::NotFound),
        name if name.len() > MAX_NAME_BYTES => Err(Error::NameTooLong),
        name if name.contains(&b'/') || name.contains(&0) => Err(Error::Invalid),
        _ => Ok(()),
    }
}

/// Fails unless a name can be given to something new, or be removed; `.` and `..` cannot.
pub(crate) fn check_own_name(name: &[u8], dots: Error) -> Result<(), Error> {
    check_name(name)?;
    if matches!(name, b"." | b"..") { Err(dots) } else { Ok(()) }
}

impl P9 {
    pub(crate) fn find(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error> {
        let fid = self.resolve_directory(directory)?;
        check_name(name)?;
        match name {
            b"." => return Ok(directory),
            b".." => return self.find_parent(directory),
            _ => {}
        }
        let (fid, qid) = self.connection.walk(fid, name)?;
        Ok(self.adopt(fid, qid, Place::new(directory, name)))
    }

    /// The directory above. Its fid, if it is new, leads there by way of the one below (`a/..`), so an older fid is the better one.
    pub(crate) fn find_parent(&mut self, directory: InodeNumber) -> Result<InodeNumber, Error> {
        if directory == self.root {
            return Ok(self.root);
        }
        let fid = self.resolve_directory(directory)?;
        let (fid, qid) = self.connection.walk(fid, b"..")?;
        let number = InodeNumber(qid.path);
        if self.nodes.contains(number) {
            self.connection.discard(fid);
            self.nodes.touch(number);
            return Ok(number);
        }
        self.nodes.insert(number, Node::new(fid, qid, None, self.moves));
        self.forget_surplus();
        Ok(number)
    }

    pub(crate) fn target(&mut self, number: InodeNumber) -> Result<alloc::vec::Vec<u8>, Error> {
        let fid = self.resolve(number)?;
        if !self.nodes.get(number)?.is_symlink() {
            return Err(Error::Invalid);
        }
        let target = self.connection.call(&Readlink { fid })?;
        if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains(&0) {
            return Err(Error::Corrupt("9p: the target of a symbolic link"));
        }
        Ok(target.to_vec())
    }

    pub(crate) fn make_link(
        &mut self,
        number: InodeNumber,
        directory: InodeNumber,
        name: &[u8],
    ) -> Result<(), Error> {
        self.writable()?;
        let directory_fid = self.resolve_directory(directory)?;
        let fid = self.resolve(number)?;
        check_own_name(name, Error::Exists)?;
        if self.nodes.get(number)?.is_directory() {
            return Err(Error::IsADirectory);
        }
        self.connection.call(&Link { directory: directory_fid, fid, name })?;
        self.unsynced.extend([directory, number]);
        Ok(())
    }

    pub(crate) fn remove(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        wants_directory: bool,
    ) -> Result<(), Error> {
        self.writable()?;
        self.resolve_directory(directory)?;
        let dots = match name {
            b".." if wants_directory => Error::NotEmpty,
            _ if wants_directory => Error::Invalid,
            _ => Error::IsADirectory,
        };
        check_own_name(name, dots)?;
        let number = self.find(directory, name)?;
        match (self.nodes.get(number)?.is_directory(), wants_directory) {
            (true, false) => return Err(Error::IsADirectory),
            (false, true) => return Err(Error::NotADirectory),
            _ => {}
        }
        self.prepare_loss(number);
        let fid = self.resolve_directory(directory)?;
        self.remove_name(fid, name, wants_directory)?;
        self.unsynced.insert(directory);
        self.lose_name(number, &Place::new(directory, name));
        Ok(())
    }

    /// Removes a name at the server.
    pub(crate) fn remove_name(
        &mut self,
        directory: Fid,
        name: &[u8],
        wants_directory: bool,
    ) -> Result<(), Error> {
        let flags = if wants_directory { REMOVE_DIRECTORY } else { 0 };
        match self.connection.call(&Unlinkat { directory, name, flags }) {
            Err(CallError::Refused(number)) if is_unknown_request(number) => {}
            result => return Ok(result?),
        }
        // diod before 1.1, for one. It would remove an empty directory like a file.
        let (fid, qid) = self.connection.walk(directory, name)?;
        let is_directory = qid.kind & Qid::DIRECTORY != 0;
        if is_directory != wants_directory {
            self.connection.discard(fid);
            return Err(if is_directory { Error::IsADirectory } else { Error::NotADirectory });
        }
        self.connection.remove(fid)
    }

    /// Moves a name at the server.
    fn move_name(
        &mut self,
        (from_directory, from): (Fid, &[u8]),
        (to_directory, to): (Fid, &[u8]),
    ) -> Result<(), Error> {
        match self.connection.call(&Renameat { from_directory, from, to_directory, to }) {
            Err(CallError::Refused(number)) if is_unknown_request(number) => {}
            result => return Ok(result?),
        }
        let (fid, _) = self.connection.walk(from_directory, from)?;
        let result = self.connection.call(&Rename { fid, directory: to_directory, name: to });
        if result != Err(CallError::Silent) {
            self.connection.discard(fid);
        }
        Ok(result?)
    }

    /// Before a name of an inode goes: what somebody holds must be open at the server, or its content is out of reach after.
    fn prepare_loss(&mut self, number: InodeNumber) {
        if self.nodes.get(number).is_ok_and(|node| node.opens > 0) {
            // What cannot be opened is lost without its name, and is not worth keeping the name for.
            let _ = self.stat(number);
            if self.check_file(number).is_ok() && self.writer(number).is_err() {
                let _ = self.reader(number);
            }
        }
    }

    /// After a name of an inode has gone.
    fn lose_name(&mut self, number: InodeNumber, place: &Place) {
        let Ok(node) = self.nodes.get_mut(number) else { return };
        if node.opens == 0 {
            return self.forget(number);
        }
        if node.place.as_ref() == Some(place) {
            node.place = None;
        }
        let is_directory = node.is_directory();
        let links = match &mut node.known {
            Some(known) => {
                known.links = if is_directory { 0 } else { known.links.saturating_sub(1) };
                known.links
            }
            None => 0,
        };
        node.is_nameless = links == 0;
    }

    pub(crate) fn give_name(
        &mut self,
        (from_directory, from): (InodeNumber, &[u8]),
        (to_directory, to): (InodeNumber, &[u8]),
        rename_mode: RenameMode,
    ) -> Result<(), Error> {
        self.writable()?;
        for (directory, name) in [(from_directory, from), (to_directory, to)] {
            self.resolve_directory(directory)?;
            check_own_name(name, Error::Invalid)?;
        }
        if rename_mode == RenameMode::Exchange {
            return Err(Error::Unsupported);
        }
        let moved = self.find(from_directory, from)?;
        let replaced = match self.find(to_directory, to) {
            Ok(_) if rename_mode == RenameMode::NoReplace => return Err(Error::Exists),
            Ok(number) => Some(number).filter(|number| *number != moved),
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        if let Some(number) = replaced {
            self.prepare_loss(number);
        }
        let from_fid = self.resolve_directory(from_directory)?;
        let to_fid = self.resolve_directory(to_directory)?;
        self.move_name((from_fid, from), (to_fid, to))?;
        self.unsynced.extend([from_directory, to_directory]);
        if let Some(number) = replaced {
            self.lose_name(number, &Place::new(to_directory, to));
        }
        self.follow(moved, Place::new(to_directory, to));
        Ok(())
    }

    /// After an inode has got another name: finds it by that, as diod's fids are names that do not change.
    fn follow(&mut self, moved: InodeNumber, place: Place) {
        let Ok(node) = self.nodes.get_mut(moved) else { return };
        node.place = Some(place.clone());
        if node.is_directory() {
            self.moves += 1;
        }
        let Ok(directory) = self.resolve_directory(place.directory) else { return };
        match self.connection.walk(directory, &place.name) {
            Ok((fid, qid)) if qid.path == moved.0 => {
                self.adopt(fid, qid, place);
            }
            Ok((fid, _)) => self.connection.discard(fid),
            Err(_) => {}
        }
    }
}
