//! The mounted tree: from numbers to fids that lead there.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use unikernel_vfs::{Error, InodeNumber};

use crate::connection::Connection;
use crate::messages::Fid;
use crate::nodes::{Node, Nodes, Place};
use crate::wire::Qid;

/// How many directories up a path is walked again after a move.
const MAX_DEPTH: usize = 128;

/// A mounted tree of a 9P2000.L server. See the [crate](crate).
pub struct P9 {
    pub(crate) connection: Connection,
    pub(crate) root: InodeNumber,
    pub(crate) nodes: Nodes,
    pub(crate) is_read_only: bool,
    /// Who has changes that were not made durable yet.
    pub(crate) unsynced: BTreeSet<InodeNumber>,
    /// How many directories were moved through us.
    pub(crate) moves: u64,
    /// An error of making something durable that nobody was told of yet.
    pub(crate) lost_sync: Option<Error>,
}

impl P9 {
    /// Fails unless changes are allowed.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        if self.is_read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The fid that leads to a file, and notes its use.
    pub(crate) fn resolve(&mut self, number: InodeNumber) -> Result<Fid, Error> {
        if !self.nodes.contains(number) {
            self.find_listed(number)?;
        }
        self.nodes.touch(number);
        if self.is_suspicious(number) {
            self.walk_again(number);
        }
        self.nodes.get(number).map(|node| node.fid)
    }

    /// The same for a directory.
    pub(crate) fn resolve_directory(&mut self, number: InodeNumber) -> Result<Fid, Error> {
        let fid = self.resolve(number)?;
        if self.nodes.get(number)?.is_directory() { Ok(fid) } else { Err(Error::NotADirectory) }
    }

    /// Walks to a file of which only a listing has told.
    fn find_listed(&mut self, number: InodeNumber) -> Result<(), Error> {
        let place = self.nodes.listed().find(number).ok_or(Error::NotFound)?;
        let directory = self.nodes.get(place.directory)?.fid;
        let (fid, qid) = self.connection.walk(directory, &place.name)?;
        if qid.path != number.0 {
            self.connection.discard(fid);
            return Err(Error::NotFound);
        }
        let place = (&*place.name != b"..").then_some(place);
        self.nodes.insert(number, Node::new(fid, qid, place, self.moves));
        self.forget_surplus();
        Ok(())
    }

    /// Takes a fid that was just walked to into the table. It replaces an older one: that may lead by a name that is gone, as fids
    /// of QEMU and diod are names.
    pub(crate) fn adopt(&mut self, fid: Fid, qid: Qid, place: Place) -> InodeNumber {
        let number = InodeNumber(qid.path);
        let moves = self.moves;
        match self.nodes.get_mut(number) {
            Ok(node) if node.sort == qid.sort() => {
                if node.any_handle().is_none() {
                    // While the file is open at the server, its number stays its own. Else it may be another file's now.
                    node.kind = None;
                }
                let old = core::mem::replace(&mut node.fid, fid);
                node.place = Some(place);
                node.walked_at = moves;
                node.is_nameless = false;
                self.connection.discard(old);
                self.nodes.touch(number);
            }
            known => {
                // The number may be another file's now, which who holds it cannot tell.
                let opens = known.map_or(0, |node| node.opens);
                self.forget(number);
                let mut node = Node::new(fid, qid, Some(place), moves);
                node.opens = opens;
                self.nodes.insert(number, node);
                self.forget_surplus();
            }
        }
        number
    }

    /// Forgets files that nobody holds, down to the limit.
    pub(crate) fn forget_surplus(&mut self) {
        while let Some(number) = self.nodes.surplus(|number| self.unsynced.contains(&number)) {
            // `commit` promises to make all changes durable, so what is forgotten must be.
            if let Err(error) = self.sync(number, true) {
                self.lost_sync.get_or_insert(error);
            }
            self.forget(number);
        }
    }

    /// Forgets a file.
    pub(crate) fn forget(&mut self, number: InodeNumber) {
        self.unsynced.remove(&number);
        if let Some(node) = self.nodes.remove(number) {
            self.end(&node);
        }
    }

    /// Closes a file at the server that somebody still holds.
    #[cfg(test)]
    pub(crate) fn forget_handles(&mut self, number: InodeNumber) {
        let node = self.nodes.get_mut(number).expect("a known number");
        for handle in [node.reader.take(), node.writer.take()].into_iter().flatten() {
            self.connection.discard(handle.fid);
        }
    }

    /// Ends the fids of a file that was forgotten.
    pub(crate) fn end(&mut self, node: &Node) {
        for fid in node.fids() {
            self.connection.discard(fid);
        }
    }

    /// True if a directory was moved since a file was walked to, and it may have been below it. QEMU changes the names of its fids then,
    /// and diod does not.
    fn is_suspicious(&self, number: InodeNumber) -> bool {
        number != self.root && self.nodes.get(number).is_ok_and(|node| node.walked_at < self.moves)
    }

    /// Walks again to a file whose fid is suspicious, by the names that are known for it and the directories above it. Where that leads
    /// to something else, or nowhere, the old fid stays.
    fn walk_again(&mut self, number: InodeNumber) {
        let mut chain = Vec::new();
        let mut next = number;
        while self.is_suspicious(next) && chain.len() < MAX_DEPTH {
            chain.push(next);
            match self.nodes.get(next).ok().and_then(|node| node.place.as_ref()) {
                Some(place) => next = place.directory,
                None => break,
            }
        }
        for number in chain.into_iter().rev() {
            self.walk_once_more(number);
        }
    }

    fn walk_once_more(&mut self, number: InodeNumber) {
        let moves = self.moves;
        let Ok(node) = self.nodes.get_mut(number) else { return };
        node.walked_at = moves;
        let Some(place) = node.place.clone() else { return };
        let Ok(directory) = self.nodes.get(place.directory).map(|directory| directory.fid) else { return };
        let Ok((fid, qid)) = self.connection.walk(directory, &place.name) else { return };
        let replaced = match self.nodes.get_mut(number) {
            Ok(node) if qid.path == number.0 => core::mem::replace(&mut node.fid, fid),
            _ => fid,
        };
        self.connection.discard(replaced);
    }
}
