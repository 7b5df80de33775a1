//! Walks that may not lead everywhere (openat2(2), `RESOLVE_*`): name by name, each by a walk of its own that follows no
//! link, so that every step can be refused.
//!
//! A walk below a root keeps the directories that it came through and goes back by them: `..` then leads to where it came
//! from, whoever renames directories meanwhile, and never above the root.

use alloc::vec::Vec;

use bitflags::bitflags;
use linux_raw_sys::general as raw;
use unikernel_fs::{LastLink, Node};
use unikernel_vfs::access::Wanted;

use super::{Located, Walked, current_directory, find, listing, locate, permission, tree, walk};
use crate::abi::Errno;
use crate::file;
use crate::vfs;

/// Symbolic links followed on one path, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

bitflags! {
    /// What a walk may not do; the bits are Linux's own.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Limits: u64 {
        /// Cross from one mount to another.
        const NO_XDEV = raw::RESOLVE_NO_XDEV as u64;
        /// Follow links that lead to something open rather than along a path.
        const NO_MAGICLINKS = raw::RESOLVE_NO_MAGICLINKS as u64;
        /// Follow any link.
        const NO_SYMLINKS = raw::RESOLVE_NO_SYMLINKS as u64;
        /// Leave the directory where it starts: that is an error.
        const BENEATH = raw::RESOLVE_BENEATH as u64;
        /// The same, but that directory is `/`.
        const IN_ROOT = raw::RESOLVE_IN_ROOT as u64;
        /// Wait for a disk.
        const CACHED = raw::RESOLVE_CACHED as u64;
    }
}

impl Limits {
    /// The walk has a root of its own.
    fn is_scoped(self) -> bool {
        self.intersects(Self::BENEATH.union(Self::IN_ROOT))
    }
}

/// Where a walk has ended.
pub(crate) enum Resolved {
    /// At one name in a directory, which is no link or one that is to be kept. Perhaps nothing has it; then it ends
    /// with a slash if only a directory would do.
    Name(Located, Vec<u8>),
    /// At what a descriptor has open.
    Descriptor(i32),
}

struct Walker {
    limits: Limits,
    root: Located,
    at: Located,
    /// The directories between the root and `at`, the root first.
    above: Vec<Located>,
    rest: Vec<u8>,
    links: usize,
}

/// What a link leads to.
enum Target {
    Path(Vec<u8>),
    Descriptor(i32),
}

/// Walks a path from `base` to its last name.
pub(crate) fn resolve(base: Located, path: &[u8], last: LastLink, limits: Limits) -> Result<Resolved, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut walker =
        Walker { limits, root: base.clone(), at: base, above: Vec::new(), rest: path.to_vec(), links: 0 };
    if path.starts_with(b"/") {
        walker.jump_to_root(true)?;
    }
    if !walker.at.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    while let Some(name) = walker.next_name() {
        let wants_directory = !walker.rest.is_empty();
        let is_last = walker.rest.iter().all(|&byte| byte == b'/');
        match name.as_slice() {
            b"." => continue,
            b".." => walker.go_up()?,
            _ => match walker.step(&name)? {
                None if is_last && wants_directory => {
                    return Ok(Resolved::Name(walker.at, [&name, &b"/"[..]].concat()));
                }
                None if is_last => return Ok(Resolved::Name(walker.at, name)),
                None => return Err(Errno::ENOENT),
                Some(found) if is_link(&found) && (wants_directory || last == LastLink::Follow) => {
                    if let Some(descriptor) = walker.follow(&found, is_last)? {
                        return Ok(Resolved::Descriptor(descriptor));
                    }
                }
                Some(_) if is_last && !wants_directory => return Ok(Resolved::Name(walker.at, name)),
                Some(found) => walker.enter(found)?,
            },
        }
    }
    Ok(Resolved::Name(walker.at, b".".to_vec()))
}

fn is_link(found: &Located) -> bool {
    match found {
        Located::Memory(handle) => matches!(tree().node(handle.id), Node::Symlink(_)),
        Located::Inode(opened) => opened.inode.kind() == unikernel_vfs::FileKind::Symlink,
    }
}

impl Walker {
    fn next_name(&mut self) -> Option<Vec<u8>> {
        let start = self.rest.iter().position(|&byte| byte != b'/')?;
        let named = &self.rest[start..];
        let end = named.iter().position(|&byte| byte == b'/').unwrap_or(named.len());
        let name = named[..end].to_vec();
        self.rest.drain(..start + end);
        Some(name)
    }

    /// What a name in the directory leads to; links are not followed.
    fn step(&self, name: &[u8]) -> Result<Option<Located>, Errno> {
        if let Located::Inode(opened) = &self.at
            && self.limits.contains(Limits::CACHED)
            && !opened.inode.mount.has_in_memory(opened.inode.number, name)
        {
            return Err(Errno::EAGAIN);
        }
        let walked = walk(&self.at, name, LastLink::Keep)?;
        let is_there = match &walked {
            Walked::Memory(_, place) => place.found.is_some(),
            Walked::Inode(place) => place.found.is_some(),
            Walked::Descriptor(_) => true,
        };
        if !is_there {
            return Ok(None);
        }
        let found = locate(walked)?;
        self.check_mount(&found)?;
        Ok(Some(found))
    }

    /// `EXDEV` if that is in another mount.
    fn check_mount(&self, other: &Located) -> Result<(), Errno> {
        let crosses = || other.metadata().device != self.at.metadata().device;
        if self.limits.contains(Limits::NO_XDEV) && crosses() { Err(Errno::EXDEV) } else { Ok(()) }
    }

    fn enter(&mut self, directory: Located) -> Result<(), Errno> {
        if !directory.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let before = core::mem::replace(&mut self.at, directory);
        if self.limits.is_scoped() {
            self.above.push(before);
        }
        Ok(())
    }

    fn go_up(&mut self) -> Result<(), Errno> {
        permission::check(&self.at, Wanted::EXECUTE)?;
        let parent = match self.above.pop() {
            Some(parent) => parent,
            None if self.limits.contains(Limits::BENEATH) => return Err(Errno::EXDEV),
            None if self.limits.contains(Limits::IN_ROOT) => return Ok(()),
            None => find(&self.at, b"..", LastLink::Keep)?,
        };
        self.check_mount(&parent)?;
        self.at = parent;
        Ok(())
    }

    /// Goes on from `/`. At the beginning of the path, that may be anywhere.
    fn jump_to_root(&mut self, is_start: bool) -> Result<(), Errno> {
        if self.limits.contains(Limits::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = if self.limits.contains(Limits::IN_ROOT) {
            self.root.clone()
        } else {
            find(&current_directory(), b"/", LastLink::Follow)?
        };
        if !is_start {
            self.check_mount(&root)?;
        }
        self.at = root;
        self.above.clear();
        Ok(())
    }

    /// Follows a link. Answers the descriptor at which the whole walk ends, if it is the last link and one of those.
    fn follow(&mut self, link: &Located, is_last: bool) -> Result<Option<i32>, Errno> {
        self.links += 1;
        if self.limits.contains(Limits::NO_SYMLINKS) || self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = match target_of(link)? {
            (_, true) if self.limits.contains(Limits::NO_MAGICLINKS) => return Err(Errno::ELOOP),
            // Who holds a directory open elsewhere could lead out of the root.
            (_, true) if self.limits.is_scoped() => return Err(Errno::EXDEV),
            (Target::Descriptor(descriptor), _) => {
                let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
                let behind = Located::of(&*opened.file);
                if self.limits.contains(Limits::NO_XDEV) {
                    behind.as_ref().map_or(Err(Errno::EXDEV), |behind| self.check_mount(behind))?;
                }
                if is_last && self.rest.is_empty() {
                    return Ok(Some(descriptor));
                }
                return self.enter(behind.ok_or(Errno::ENOTDIR)?).map(|()| None);
            }
            (Target::Path(path), _) => path,
        };
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.starts_with(b"/") {
            self.jump_to_root(false)?;
        }
        let rest = core::mem::replace(&mut self.rest, target);
        if !rest.is_empty() {
            self.rest.push(b'/');
            self.rest.extend_from_slice(&rest);
        }
        Ok(None)
    }
}

/// What a link leads to, and whether it is a magic one (proc_pid_fd(5)).
fn target_of(link: &Located) -> Result<(Target, bool), Errno> {
    let handle = match link {
        Located::Inode(opened) => return Ok((Target::Path(vfs::file::link_target(&opened.inode)?), false)),
        Located::Memory(handle) => handle,
    };
    if let Some(descriptor) = listing::descriptor_of(handle) {
        return Ok((Target::Descriptor(descriptor), true));
    }
    let made = listing::link_target(handle.id);
    let tree = tree();
    let Node::Symlink(kept) = tree.node(handle.id) else { return Err(Errno::EINVAL) };
    let target = made.unwrap_or_else(|| kept.to_vec());
    Ok((Target::Path(target), listing::is_magic(handle)))
}
