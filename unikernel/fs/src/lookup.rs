//! From a path to a node (path_resolution(7)).

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::MAX_NAME_BYTES;
use crate::tree::{Attributes, Directory, Node, NodeId, Tree};

/// Symbolic links followed on one path, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Whether a symbolic link at the end of the path is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastLink {
    /// As `stat` does.
    Follow,
    /// As `lstat` does, unless the path ends with a slash.
    Keep,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LookupError {
    /// A name is not there, or the path is empty.
    NotFound,
    /// Something in the middle of the path is not a directory.
    NotADirectory,
    /// More symbolic links than anybody needs: a loop.
    TooManyLinks,
    /// A name is longer than a name can be.
    NameTooLong,
    /// A directory on the way may not be searched.
    Denied,
}

/// Where a path leads: a name in a directory, and what has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The directory that the last name is in.
    pub parent: NodeId,
    /// The last name; `.` or `..` if the path ends so, empty if the path is the root.
    pub name: Vec<u8>,
    /// What has the name.
    pub found: Option<NodeId>,
    /// The path ends with a slash: only a directory will do.
    pub wants_directory: bool,
}

/// How far a walk goes within one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Walk {
    /// To its end.
    Here(Place),
    /// To a directory that another filesystem covers, or another node at which the caller decides; from there, the
    /// rest of the path goes on. The rest is empty if the path ends there.
    Covered(NodeId, Vec<u8>),
}

/// What is left to walk: the given path, and the targets of the links on the way to it.
type Pending<'p> = ArrayVec<&'p [u8], { MAX_LINKS + 1 }>;

impl<F, S> Tree<F, S> {
    /// Walks `path` from the directory `base`, or from the root if it is absolute, to a node.
    pub fn lookup(&self, base: NodeId, path: &[u8], last: LastLink) -> Result<NodeId, LookupError> {
        let place = self.walk(base, path, last)?;
        let found = place.found.ok_or(LookupError::NotFound)?;
        if place.wants_directory {
            self.as_directory(found)?;
        }
        Ok(found)
    }

    /// Walks to the last name of `path`, whether something has it or not.
    pub fn walk(&self, base: NodeId, path: &[u8], last: LastLink) -> Result<Place, LookupError> {
        match self.walk_to_cover(base, path, last, &[], |_| true)? {
            Walk::Here(place) => Ok(place),
            Walk::Covered(..) => Err(LookupError::NotFound),
        }
    }

    /// The same in a tree of which some directories are covered, and some may perhaps not be searched. A walk that begins in a covered
    /// directory begins below the cover.
    pub fn walk_to_cover(
        &self,
        base: NodeId,
        path: &[u8],
        last: LastLink,
        covered: &[NodeId],
        may_search: impl Fn(&Attributes) -> bool,
    ) -> Result<Walk, LookupError> {
        if path.is_empty() {
            return Err(LookupError::NotFound);
        }
        let wants_directory = path.ends_with(b"/");
        let must_follow = last == LastLink::Follow || wants_directory;
        let mut pending = Pending::new();
        pending.push(path);
        let mut links = 0;
        let mut at = if path.starts_with(b"/") { NodeId::ROOT } else { base };
        if path.starts_with(b"/") && covered.contains(&at) {
            return Ok(Walk::Covered(at, path.to_vec()));
        }
        while let Some(name) = next_pending(&mut pending) {
            let directory = self.as_directory(at)?;
            if !may_search(self.attributes_of(at)) {
                return Err(LookupError::Denied);
            }
            let found = self.step(directory, at, name)?;
            let is_last = pending.iter().all(|rest| rest.iter().all(|&byte| byte == b'/'));
            let place = |parent| Place { parent, name: name.to_vec(), found, wants_directory };
            let Some(next) = found else {
                return if is_last { Ok(Walk::Here(place(at))) } else { Err(LookupError::NotFound) };
            };
            if next != at && covered.contains(&next) {
                return Ok(Walk::Covered(next, rest_of(&pending)));
            }
            match self.node(next) {
                Node::Symlink(target) if must_follow || !is_last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LookupError::TooManyLinks);
                    }
                    if target.is_empty() {
                        return Err(LookupError::NotFound);
                    }
                    if target.starts_with(b"/") {
                        at = NodeId::ROOT;
                        if covered.contains(&at) {
                            pending.push(target);
                            return Ok(Walk::Covered(at, rest_of(&pending)));
                        }
                    }
                    pending.push(target);
                }
                _ if is_last => return Ok(Walk::Here(place(at))),
                _ => at = next,
            }
        }
        // The path was the root, or a link to it.
        Ok(Walk::Here(Place { parent: at, name: Vec::new(), found: Some(at), wants_directory }))
    }

    /// One name further; inner `None` if nothing has it.
    fn step(&self, directory: &Directory, at: NodeId, name: &[u8]) -> Result<Option<NodeId>, LookupError> {
        match name {
            b"." => Ok(Some(at)),
            b".." => Ok(Some(directory.parent())),
            _ if name.len() > MAX_NAME_BYTES => Err(LookupError::NameTooLong),
            _ => Ok(directory.get(name)),
        }
    }

    fn as_directory(&self, id: NodeId) -> Result<&Directory, LookupError> {
        match self.node(id) {
            Node::Directory(directory) => Ok(directory),
            _ => Err(LookupError::NotADirectory),
        }
    }
}

/// All that is left to walk, as one path.
fn rest_of(pending: &Pending<'_>) -> Vec<u8> {
    if let [rest] = pending.as_slice() {
        return rest.to_vec();
    }
    let left = pending.iter().rev().filter(|rest| !rest.is_empty());
    left.fold(Vec::new(), |mut path, rest| {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(rest);
        path
    })
}

/// Takes the next name off what is left to walk.
fn next_pending<'p>(pending: &mut Pending<'p>) -> Option<&'p [u8]> {
    while let Some(rest) = pending.last_mut() {
        if let Some(name) = next_name(rest) {
            return Some(name);
        }
        pending.pop();
    }
    None
}

/// Takes the first name off a path, with the slashes before it.
pub fn next_name<'p>(path: &mut &'p [u8]) -> Option<&'p [u8]> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let named = &path[start..];
    let end = named.iter().position(|&byte| byte == b'/').unwrap_or(named.len());
    let (name, after) = named.split_at(end);
    *path = after;
    Some(name)
}
