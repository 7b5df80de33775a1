//! The files of a container image, in memory: layers go over each other here, and nothing of the host's is touched or looked at,
//! wherever a name or a link in them leads.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::cpio::{Archive, Entry};

/// Links on the way to a file (Linux: `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
/// The longest name and path (Linux: `NAME_MAX`, `PATH_MAX`).
const MOST_NAME_BYTES: usize = 255;
pub(super) const MOST_PATH_BYTES: usize = 4095;
/// Folders in folders; through links, a path can lead deeper than it is long.
const MOST_DEPTH: u32 = 1000;
/// What `cpio` can tell of a file's length.
const MOST_FILE_BYTES: usize = u32::MAX as usize;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const PERMISSIONS: u32 = 0o7777;

/// A file or folder, by number.
pub(super) type NodeId = usize;

/// What is at a place.
#[derive(Debug)]
pub(super) enum Kind {
    Folder(BTreeMap<Vec<u8>, Name>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// A file or folder, which may have several names.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) owner: Owner,
    /// How many names lead to it.
    names: u32,
    /// How many folders it is in.
    depth: u32,
}

/// What is known of a file besides its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    pub(super) permissions: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) modified_s: u32,
}

impl Owner {
    /// Of folders that nobody described.
    const ROOT: Self = Self { permissions: 0o755, user: 0, group: 0, modified_s: 0 };
}

/// A name in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    node: NodeId,
    /// The layer that it came with.
    layer: usize,
}

/// The tree; node 0 is its root.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

/// The parts of a path, without those that mean nothing. One that leads upwards is refused.
pub(super) fn parts(path: &[u8]) -> Result<Vec<&[u8]>> {
    ensure!(path.len() <= MOST_PATH_BYTES, "a path of {} bytes", path.len());
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| check_name(part).map(|()| part)).collect()
}

fn check_name(name: &[u8]) -> Result<()> {
    ensure!(name != b"..", "it leads upwards (`..`)");
    ensure!(name.len() <= MOST_NAME_BYTES, "a name of {} bytes", name.len());
    ensure!(!name.contains(&0), "a zero in a name");
    Ok(())
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node { kind: Kind::Folder(BTreeMap::new()), owner: Owner::ROOT, names: 1, depth: 0 }],
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    fn names(&mut self, folder: NodeId) -> Option<&mut BTreeMap<Vec<u8>, Name>> {
        match &mut self.nodes[folder].kind {
            Kind::Folder(names) => Some(names),
            _ => None,
        }
    }

    fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[folder].kind {
            Kind::Folder(names) => names.get(name).map(|name| name.node),
            _ => None,
        }
    }

    /// What is at a path, links followed within the tree, as a process whose root it is would find it.
    pub(super) fn find(&self, path: &[u8]) -> Option<NodeId> {
        self.walk(path).ok().flatten().map(|(found, _)| found)
    }

    /// The same, and whether a link wanted to lead above the root, which is the root.
    fn walk(&self, path: &[u8]) -> Result<Option<(NodeId, bool)>> {
        let mut rest: Vec<Vec<u8>> = split_reversed(path);
        let (mut way, mut links, mut climbs) = (vec![0], 0, false);
        while let Some(part) = rest.pop() {
            if part == b".." {
                if way.len() > 1 {
                    way.pop();
                } else {
                    climbs = true;
                }
                continue;
            }
            let Some(next) = self.child(way[way.len() - 1], &part) else { return Ok(None) };
            let Kind::Link(target) = &self.nodes[next].kind else {
                way.push(next);
                continue;
            };
            links += 1;
            ensure!(links <= MOST_LINKS, "too many links on the way");
            if target.starts_with(b"/") {
                way.truncate(1);
            }
            rest.extend(split_reversed(target));
        }
        Ok(way.pop().map(|found| (found, climbs)))
    }

    /// The folder at a path, made if it is missing; links on the way are followed within the tree.
    pub(super) fn make_folder(&mut self, path: &[&[u8]], layer: usize) -> Result<NodeId> {
        let mut at = 0;
        for end in 1..=path.len() {
            let known = self.child(at, path[end - 1]);
            at = match known.map(|id| (id, &self.nodes[id].kind)) {
                Some((id, Kind::Folder(_))) => id,
                Some((_, Kind::Link(_))) => {
                    let found = self.walk(&path[..end].join(&b'/'))?;
                    let (found, climbs) = found.context("it goes through a link that leads nowhere")?;
                    ensure!(!climbs, "it goes through a link that leads out of the root");
                    found
                }
                Some((_, Kind::File(_))) => bail!("it goes through a file"),
                None => self.put(at, path[end - 1], Kind::Folder(BTreeMap::new()), Owner::ROOT, layer)?,
            };
            ensure!(matches!(self.nodes[at].kind, Kind::Folder(_)), "it goes through a file");
        }
        Ok(at)
    }

    /// Gives a folder of `parent` what is known of it. What it has stays, if it was one before.
    pub(super) fn add_folder(
        &mut self,
        parent: NodeId,
        name: &[u8],
        owner: Owner,
        layer: usize,
    ) -> Result<()> {
        match self.child(parent, name) {
            Some(id) if matches!(self.nodes[id].kind, Kind::Folder(_)) => {
                self.nodes[id].owner = owner;
                self.add_name(parent, name, id, layer);
            }
            _ => drop(self.put(parent, name, Kind::Folder(BTreeMap::new()), owner, layer)?),
        }
        Ok(())
    }

    /// Puts something new at a place, over what is there.
    pub(super) fn put(
        &mut self,
        parent: NodeId,
        name: &[u8],
        kind: Kind,
        owner: Owner,
        layer: usize,
    ) -> Result<NodeId> {
        let (id, depth) = (self.nodes.len(), self.nodes[parent].depth + 1);
        ensure!(depth <= MOST_DEPTH, "it is in more than {MOST_DEPTH} folders");
        self.nodes.push(Node { kind, owner, names: 0, depth });
        self.add_name(parent, name, id, layer);
        Ok(id)
    }

    /// What is known of the root.
    pub(super) fn set_root(&mut self, owner: Owner) {
        self.nodes[0].owner = owner;
    }

    /// A further name of a file (a hard link).
    pub(super) fn add_link(
        &mut self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        layer: usize,
    ) -> Result<()> {
        let target = parts(target).context("its target")?;
        let (last, way) = target.split_last().context("a hard link to the root")?;
        let folder = self.walk(&way.join(&b'/'))?;
        let node = folder.and_then(|(folder, _)| self.child(folder, last));
        let node = node.context("a hard link to what is not in the image")?;
        ensure!(!matches!(self.nodes[node].kind, Kind::Folder(_)), "a hard link to a folder");
        self.add_name(parent, name, node, layer);
        Ok(())
    }

    fn add_name(&mut self, parent: NodeId, name: &[u8], node: NodeId, layer: usize) {
        self.nodes[node].names += 1;
        let names = self.names(parent);
        if let Some(old) = names.and_then(|names| names.insert(name.to_vec(), Name { node, layer })) {
            self.let_go(old.node);
        }
    }

    /// A name is gone; with the last one, its content.
    fn let_go(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        node.names -= 1;
        if node.names != 0 {
            return;
        }
        if let Kind::Folder(names) = std::mem::replace(&mut node.kind, Kind::File(Vec::new())) {
            names.values().for_each(|name| self.let_go(name.node));
        }
    }

    /// Takes away what lower layers have at a name.
    pub(super) fn take_away(&mut self, parent: NodeId, name: &[u8], layer: usize) {
        let Some(id) = self.child(parent, name) else { return };
        self.empty(id, layer);
        let is_left = match &self.nodes[id].kind {
            Kind::Folder(names) => !names.is_empty(),
            _ => false,
        };
        let Some(names) = self.names(parent) else { return };
        if !is_left && names.get(name).is_some_and(|name| name.layer < layer) {
            names.remove(name);
            self.let_go(id);
        }
    }

    /// Takes away what lower layers have in a folder.
    pub(super) fn empty(&mut self, folder: NodeId, layer: usize) {
        let names: Vec<Vec<u8>> =
            self.names(folder).map(|names| names.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.take_away(folder, &name, layer);
        }
    }

    /// The whole tree as an archive.
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        self.write(&mut archive, 0, &mut Vec::new())?;
        Ok(archive.finish())
    }

    fn write(&self, archive: &mut Archive, folder: NodeId, path: &mut Vec<u8>) -> Result<()> {
        let Kind::Folder(names) = &self.nodes[folder].kind else { return Ok(()) };
        for (name, &Name { node, .. }) in names {
            let len = path.len();
            if len != 0 {
                path.push(b'/');
            }
            path.extend(name);
            ensure!(path.len() <= MOST_PATH_BYTES, "a path of {} bytes", path.len());
            let Node { kind, owner, names: count, .. } = &self.nodes[node];
            let (mode, content): (_, &[u8]) = match kind {
                Kind::Folder(_) => (S_IFDIR, &[]),
                Kind::File(content) => (S_IFREG, content),
                Kind::Link(target) => (S_IFLNK, target),
            };
            ensure!(content.len() <= MOST_FILE_BYTES, "a file of {} bytes", content.len());
            archive.add_entry(&Entry {
                name: path,
                mode: mode | owner.permissions & PERMISSIONS,
                user: owner.user,
                group: owner.group,
                modified: owner.modified_s,
                hard_link: (mode == S_IFREG && *count > 1).then_some((node as u32, *count)),
                content,
            });
            self.write(archive, node, path)?;
            path.truncate(len);
        }
        Ok(())
    }
}

/// The parts of a path, the first one last.
fn split_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}
