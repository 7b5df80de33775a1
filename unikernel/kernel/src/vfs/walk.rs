//! Paths within a mounted filesystem, and out of it again.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Once;
use unikernel_fs::{LastLink, MAX_NAME_BYTES, NodeId, next_name};
use unikernel_vfs::access::{Credentials, Wanted};
use unikernel_vfs::{Error, FileKind, FileSystem, InodeNumber};

use super::Mount;
use super::file::{self, Opened};
use super::inode::Inode;
use crate::abi::Errno;
use crate::task::credentials;

/// Symbolic links followed on one path, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Where a path leads: a name in a directory of a mounted filesystem, and what has it.
pub(crate) struct InodePlace {
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

impl InodePlace {
    /// What was found, kept open.
    pub(crate) fn open(self) -> Result<Opened, Errno> {
        let inode = self.found.ok_or(Errno::ENOENT)?;
        if self.wants_directory && !inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let has_name = !matches!(self.name.as_slice(), b"" | b"." | b"..");
        let parent = has_name.then_some(self.parent.number);
        Ok(Opened::new(inode, self.path, parent))
    }
}

/// Further directories of the tree in memory that are shown in a root on a disk, by their names.
static SHOWN: Once<Vec<String>> = Once::new();

/// Sets them, before the app starts.
pub(crate) fn show(names: Vec<String>) {
    SHOWN.call_once(|| names);
}

fn is_shown(name: &[u8]) -> bool {
    SHOWN.get().is_some_and(|shown| shown.iter().any(|shown| shown.as_bytes() == name))
}

/// How far a walk goes within one filesystem.
pub(crate) enum InodeWalk {
    /// To its end.
    Here(InodePlace),
    /// Back into the tree in memory, at this directory.
    Leaves(NodeId, Vec<u8>),
}

/// A walk under way.
struct Walker {
    mount: &'static Mount,
    at: Arc<Inode>,
    /// The path of `at`, until the walk ends.
    path: Vec<u8>,
    links: usize,
    wants_directory: bool,
    /// A link at the end is followed, too.
    must_follow: bool,
    /// Who walks, unless all may go everywhere.
    who: Option<Arc<Credentials>>,
}

/// Where a part of a walk ends that follows no link.
enum Step {
    /// The whole walk ends there.
    End(InodeWalk),
    /// At a link: this is left to walk.
    Link(Vec<u8>),
}

/// Walks `path`, which is relative, from the directory `at` whose own path is given.
pub(crate) fn walk(at: Arc<Inode>, at_path: &[u8], path: &[u8], last: LastLink) -> Result<InodeWalk, Errno> {
    let wants_directory = path.ends_with(b"/");
    let must_follow = last == LastLink::Follow || wants_directory;
    // With room for all of it, if no link makes it longer.
    let mut own_path = Vec::with_capacity(at_path.len() + 1 + path.len());
    own_path.extend_from_slice(at_path);
    let who = credentials::restricted();
    let mut walker =
        Walker { mount: at.mount, at, path: own_path, links: 0, wants_directory, must_follow, who };
    let (mut target, mut rest);
    rest = path;
    loop {
        match walker.go(rest)? {
            Step::End(walk) => return Ok(walk),
            Step::Link(left) => target = left,
        }
        rest = &target;
    }
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
    /// True for the name of a directory in memory, in a root on a disk where it is shown.
    fn is_overlaid(&self, name: &[u8]) -> bool {
        self.mount.covered == NodeId::ROOT
            && (matches!(name, b"dev" | b"proc" | b"sys" | b"run") || is_shown(name))
    }

    /// Walks a path up to a link that is to be followed.
    fn go(&mut self, path: &[u8]) -> Result<Step, Errno> {
        let mut rest = path;
        while let Some(name) = next_name(&mut rest) {
            if !self.at.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            if let Some(who) = &self.who {
                self.at.check_for(who, Wanted::EXECUTE)?;
            }
            if let Some(left) = self.leave(name, rest) {
                return Ok(Step::End(left));
            }
            let is_last = rest.iter().all(|&byte| byte == b'/');
            let found = self.step(name)?;
            match found {
                None if !is_last => return Err(Errno::ENOENT),
                Some(link) if link.kind() == FileKind::Symlink && (self.must_follow || !is_last) => {
                    return self.follow(&link, rest);
                }
                found if is_last => return Ok(self.end(name, found)),
                Some(found) => {
                    extend(&mut self.path, name);
                    self.at = found;
                }
                None => {}
            }
        }
        let start = Arc::clone(&self.at);
        Ok(self.end(b"", Some(start)))
    }

    /// The end of the walk, at a name.
    fn end(&mut self, name: &[u8], found: Option<Arc<Inode>>) -> Step {
        let mut path = core::mem::take(&mut self.path);
        if !name.is_empty() {
            extend(&mut path, name);
        }
        let (parent, wants_directory) = (Arc::clone(&self.at), self.wants_directory);
        Step::End(InodeWalk::Here(InodePlace { parent, name: name.to_vec(), found, wants_directory, path }))
    }

    /// How the walk leaves the filesystem, if it does so with this name.
    fn leave(&self, name: &[u8], rest: &[u8]) -> Option<InodeWalk> {
        if self.at.number != self.mount.root {
            return None;
        }
        if name == b".." {
            return Some(InodeWalk::Leaves(self.mount.covered, [b"../", rest].concat()));
        }
        // A slash at the end would say that it has to be a directory, which these are.
        self.is_overlaid(name).then(|| InodeWalk::Leaves(NodeId::ROOT, [name, b"/", rest].concat()))
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

    /// Goes on with a link's target, and what is left behind the link.
    fn follow(&mut self, link: &Inode, rest: &[u8]) -> Result<Step, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let mut target = file::link_target(link)?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if !rest.is_empty() {
            target.push(b'/');
            target.extend_from_slice(rest);
        }
        let is_absolute = target.starts_with(b"/");
        Ok(if is_absolute { Step::End(InodeWalk::Leaves(NodeId::ROOT, target)) } else { Step::Link(target) })
    }
}

impl Mount {
    /// The number that a name leads to, for who has the filesystem in hand; it is remembered.
    pub(super) fn look_up(
        &self,
        filesystem: &mut dyn FileSystem,
        directory: InodeNumber,
        name: &[u8],
    ) -> Result<Option<InodeNumber>, Error> {
        if let Some(number) = self.remembered(directory, name) {
            return Ok(Some(number));
        }
        match filesystem.lookup(directory, name) {
            Ok(number) => {
                if name != b".." {
                    self.remember(directory, name, number);
                }
                Ok(Some(number))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a name in a directory leads to.
    pub(crate) fn child(&'static self, directory: &Inode, name: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
        if let Some(inode) = self.remembered_inode(directory.number, name) {
            return Ok(Some(inode));
        }
        let found = self.with(|filesystem| {
            let number = self.look_up(filesystem, directory.number, name)?;
            number.map(|number| self.inode_in(filesystem, number)).transpose()
        })?;
        if let Some(inode) = &found {
            inode.revalidate()?;
        }
        Ok(found)
    }
}
