//! Paths within a filesystem of a disk, and out of it again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_ext4::{Error, InodeNumber};
use unikernel_fs::{LastLink, MAX_NAME_BYTES};

use super::Mount;
use super::file::{self, Opened};
use super::inode::Inode;
use crate::fs::NodeId;
use crate::syscall::Errno;

/// Symbolic links followed on one path, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Where a path leads: a name in a directory of a disk, and what has it.
pub struct DiskPlace {
    /// The directory that the last name is in.
    pub parent: Arc<Inode>,
    /// The last name; `.` or `..` if the path ends so, empty if it is the filesystem's root.
    pub name: Vec<u8>,
    /// What has the name.
    pub found: Option<Arc<Inode>>,
    /// The path ends with a slash: only a directory will do.
    pub wants_directory: bool,
    /// The whole path, without links.
    pub path: Vec<u8>,
}

impl DiskPlace {
    /// What was found, kept open.
    pub fn open(self) -> Result<Opened, Errno> {
        let inode = self.found.ok_or(Errno::ENOENT)?;
        if self.wants_directory && !inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let has_name = !matches!(self.name.as_slice(), b"" | b"." | b"..");
        let parent = has_name.then_some(self.parent.number);
        Ok(Opened::new(inode, self.path, parent))
    }
}

/// How far a walk goes within one filesystem.
pub enum DiskWalk {
    /// To its end.
    Here(DiskPlace),
    /// Back into the tree in memory, at this directory.
    Leaves(NodeId, Vec<u8>),
}

/// A walk under way.
struct Walker {
    mount: &'static Mount,
    at: Arc<Inode>,
    path: Vec<u8>,
    rest: Vec<u8>,
    links: usize,
}

/// Walks `path`, which is relative, from the directory `at` whose own path is given.
pub fn walk(at: Arc<Inode>, at_path: &[u8], path: &[u8], last: LastLink) -> Result<DiskWalk, Errno> {
    let wants_directory = path.ends_with(b"/");
    let must_follow = last == LastLink::Follow || wants_directory;
    let mut walker = Walker { mount: at.mount, path: at_path.to_vec(), rest: path.to_vec(), links: 0, at };
    let (parent, here) = (Arc::clone(&walker.at), walker.path.clone());
    let mut place =
        DiskPlace { found: Some(Arc::clone(&parent)), parent, name: Vec::new(), wants_directory, path: here };
    while let Some(name) = walker.next_name() {
        if !walker.at.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if name == b".." && walker.at.number == InodeNumber::ROOT {
            let mut rest = b"../".to_vec();
            rest.extend_from_slice(&walker.rest);
            return Ok(DiskWalk::Leaves(walker.mount.covered, rest));
        }
        if walker.is_overlaid(&name) {
            let mut rest = name;
            rest.push(b'/');
            rest.extend_from_slice(&walker.rest);
            // A slash at the end would say that it has to be a directory, which these are.
            return Ok(DiskWalk::Leaves(NodeId::ROOT, rest));
        }
        let is_last = walker.rest.iter().all(|&byte| byte == b'/');
        let found = walker.step(&name)?;
        let parent = Arc::clone(&walker.at);
        let mut path = walker.path.clone();
        extend(&mut path, &name);
        place = DiskPlace { parent, name, found: found.clone(), wants_directory, path };
        let Some(found) = found else {
            return if is_last { Ok(DiskWalk::Here(place)) } else { Err(Errno::ENOENT) };
        };
        if found.kind() == unikernel_ext4::FileKind::Symlink && (must_follow || !is_last) {
            if let Some(target) = walker.follow(&found)? {
                return Ok(DiskWalk::Leaves(NodeId::ROOT, target));
            }
            continue;
        }
        walker.at = found;
        walker.path.clone_from(&place.path);
    }
    Ok(DiskWalk::Here(place))
}

/// Appends a name to a path, or takes one off for `..`.
fn extend(path: &mut Vec<u8>, name: &[u8]) {
    match name {
        b"." => {}
        b".." => {
            let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path.truncate(end.max(1));
        }
        _ => {
            if !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
    }
}

impl Walker {
    /// True for a directory of the kernel's that is shown in a root on a disk.
    fn is_overlaid(&self, name: &[u8]) -> bool {
        self.at.number == InodeNumber::ROOT
            && self.mount.covered == NodeId::ROOT
            && matches!(name, b"dev" | b"proc" | b"sys" | b"run")
    }

    fn next_name(&mut self) -> Option<Vec<u8>> {
        let start = self.rest.iter().position(|&byte| byte != b'/')?;
        let named = &self.rest[start..];
        let end = named.iter().position(|&byte| byte == b'/').unwrap_or(named.len());
        let name = named[..end].to_vec();
        self.rest.drain(..start + end);
        Some(name)
    }

    /// One name further; `None` if nothing has it.
    fn step(&self, name: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
        if name == b"." {
            return Ok(Some(Arc::clone(&self.at)));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(Errno::ENAMETOOLONG);
        }
        self.mount.child(&self.at, name)
    }

    /// Goes on with a link's target. Answers the whole path that is left if it leads out of here.
    fn follow(&mut self, link: &Inode) -> Result<Option<Vec<u8>>, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let mut target = file::link_target(link)?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if !self.rest.is_empty() {
            target.push(b'/');
            target.append(&mut self.rest);
        }
        if target.starts_with(b"/") {
            return Ok(Some(target));
        }
        self.rest = target;
        Ok(None)
    }
}

impl Mount {
    /// What a name in a directory leads to.
    pub fn child(&'static self, directory: &Inode, name: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
        if let Some(number) = self.remembered(directory.number, name) {
            return self.inode(number).map(Some);
        }
        self.with(|ext4| match ext4.lookup(directory.number, name) {
            Ok(number) => {
                let inode = self.inode_in(ext4, number)?;
                if name != b".." {
                    self.remember(directory.number, name, number);
                }
                Ok(Some(inode))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        })
    }
}
