//! The tree itself: nodes in one vector, directories as ordered maps of names to nodes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::MAX_NAME_BYTES;
use crate::cpio::{ArchiveEntry, ArchiveError, Entries, Problem};

#[cfg(test)]
mod tests;

/// `st_mode`: the bits of the type, and the types (inode(7)).
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
/// Permissions of directories that no archive mentions.
const DIRECTORY_PERMISSIONS: u16 = 0o755;

/// A node's place in its tree. Ids of different trees are not to be mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory of every tree.
    pub const ROOT: Self = Self(0);

    /// A number that is unique in the tree and never 0, as an inode number must be.
    pub const fn inode(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// What a node is.
#[derive(Debug)]
pub enum Node<'a, S> {
    /// Names.
    Directory(Directory<'a>),
    /// Bytes.
    File(&'a [u8]),
    /// Another path.
    Symlink(&'a [u8]),
    /// Something that the kernel knows: a device, a file made on demand.
    Special(S),
}

/// The names in a directory, and its own place.
#[derive(Debug)]
pub struct Directory<'a> {
    entries: BTreeMap<&'a [u8], NodeId>,
    parent: NodeId,
    name: &'a [u8],
}

/// Owner, permissions, time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// The lower twelve bits of `st_mode`.
    pub permissions: u16,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Last change, in seconds since 1970.
    pub modified_s: u64,
}

impl Attributes {
    /// Owned by root, of 1970.
    pub const fn with_permissions(permissions: u16) -> Self {
        Self { permissions, user: 0, group: 0, modified_s: 0 }
    }
}

/// Why a node cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// The path names the root, leads upwards, or has too long a name in it.
    BadName,
    /// The path goes through something that is not a directory.
    NotADirectory,
    /// There is a directory with that name already.
    IsADirectory,
}

/// One line of a directory listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'t> {
    /// The name.
    pub name: &'t [u8],
    /// What it names.
    pub id: NodeId,
}

#[derive(Debug)]
struct Slot<'a, S> {
    node: Node<'a, S>,
    attributes: Attributes,
    /// Names of a node that is not a directory.
    links: u32,
}

/// A tree of files.
#[derive(Debug)]
pub struct Tree<'a, S> {
    slots: Vec<Slot<'a, S>>,
}

impl<'a, S> Tree<'a, S> {
    /// Makes a tree with an empty root.
    pub fn new() -> Self {
        let mut tree = Self { slots: Vec::new() };
        tree.push(empty_directory(NodeId::ROOT, b""), Attributes::with_permissions(DIRECTORY_PERMISSIONS));
        tree
    }

    /// How many nodes there are, the root included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if there is only the root.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 1
    }

    /// What a node is.
    pub fn node(&self, id: NodeId) -> &Node<'a, S> {
        &self.slots[id.0 as usize].node
    }

    /// A node's owner, permissions and time.
    pub fn attributes(&self, id: NodeId) -> Attributes {
        self.slots[id.0 as usize].attributes
    }

    /// How many names a node has. A directory has its own, `.`, and the `..` of each directory
    /// in it.
    pub fn links(&self, id: NodeId) -> u32 {
        match self.node(id) {
            Node::Directory(directory) => {
                let is_directory = |id: &&NodeId| matches!(self.node(**id), Node::Directory(_));
                2 + directory.entries.values().filter(is_directory).count() as u32
            }
            _ => self.slots[id.0 as usize].links,
        }
    }

    /// The listing of a directory from a position on: `.`, `..`, then the names in order. `None`
    /// if the node is not a directory.
    pub fn list(&self, id: NodeId, position: usize) -> Option<impl Iterator<Item = Entry<'_>>> {
        let Node::Directory(directory) = self.node(id) else { return None };
        let dots = [Entry { name: b".", id }, Entry { name: b"..", id: directory.parent }];
        let named = directory.entries.iter().map(|(name, id)| Entry { name, id: *id });
        Some(dots.into_iter().chain(named).skip(position))
    }

    /// The absolute path of a directory; `None` if the node is not one.
    pub fn path_of(&self, id: NodeId) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let Node::Directory(directory) = self.node(at) else { return None };
            names.push(directory.name);
            at = directory.parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }

    /// Adds a node under a path, making the directories on the way. What had the name is replaced,
    /// unless it is a directory.
    pub fn add(
        &mut self,
        path: &'a [u8],
        node: Node<'a, S>,
        attributes: Attributes,
    ) -> Result<NodeId, AddError> {
        let (parent, name) = self.make_parents(path)?;
        let id = self.push(node, attributes);
        if let Err(error) = self.link(parent, name, id) {
            self.slots.pop();
            return Err(error);
        }
        Ok(id)
    }

    /// Adds a directory under a path, and those on the way. One that is there gets the attributes.
    pub fn add_directory(&mut self, path: &'a [u8], attributes: Attributes) -> Result<NodeId, AddError> {
        let mut at = NodeId::ROOT;
        for name in names_of(path) {
            at = self.enter(at, name?)?;
        }
        self.slots[at.0 as usize].attributes = attributes;
        Ok(at)
    }

    /// Adds all entries of one or several concatenated archives. Later entries replace earlier
    /// ones, as in Linux. Device nodes, pipes and sockets are passed over.
    ///
    /// On an error the tree holds what came before it.
    pub fn add_archive(&mut self, bytes: &'a [u8]) -> Result<(), ArchiveError> {
        let mut linked = BTreeMap::new();
        for entry in Entries::new(bytes) {
            let entry = entry?;
            self.add_entry(&entry, &mut linked).map_err(|error| {
                let problem = match error {
                    AddError::BadName => Problem::BadName,
                    AddError::NotADirectory | AddError::IsADirectory => Problem::Conflict,
                };
                ArchiveError { offset: entry.offset, problem }
            })?;
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &ArchiveEntry<'a>, linked: &mut HardLinks) -> Result<(), AddError> {
        let attributes = Attributes {
            permissions: (entry.mode & !TYPE_MASK) as u16,
            user: entry.user,
            group: entry.group,
            modified_s: u64::from(entry.modified_s),
        };
        match entry.mode & TYPE_MASK {
            TYPE_DIRECTORY => drop(self.add_directory(entry.name, attributes)?),
            TYPE_SYMLINK => drop(self.add(entry.name, Node::Symlink(entry.content), attributes)?),
            TYPE_FILE if entry.links > 1 => self.add_hard_link(entry, attributes, linked)?,
            TYPE_FILE => drop(self.add(entry.name, Node::File(entry.content), attributes)?),
            _ => {}
        }
        Ok(())
    }

    /// Of the names of one file, only the last one in the archive comes with the content.
    fn add_hard_link(
        &mut self,
        entry: &ArchiveEntry<'a>,
        attributes: Attributes,
        linked: &mut HardLinks,
    ) -> Result<(), AddError> {
        let Some(&id) = linked.get(&entry.identity) else {
            let id = self.add(entry.name, Node::File(entry.content), attributes)?;
            linked.insert(entry.identity, id);
            return Ok(());
        };
        let (parent, name) = self.make_parents(entry.name)?;
        self.link(parent, name, id)?;
        if !entry.content.is_empty() {
            self.slots[id.0 as usize].node = Node::File(entry.content);
        }
        Ok(())
    }

    /// The directory that is to hold the last name of `path`, and that name.
    fn make_parents(&mut self, path: &'a [u8]) -> Result<(NodeId, &'a [u8]), AddError> {
        let mut names = names_of(path).peekable();
        let mut at = NodeId::ROOT;
        while let Some(name) = names.next() {
            let name = name?;
            if names.peek().is_none() {
                return Ok((at, name));
            }
            at = self.enter(at, name)?;
        }
        Err(AddError::BadName)
    }

    /// The directory `name` in `parent`, made if need be.
    fn enter(&mut self, parent: NodeId, name: &'a [u8]) -> Result<NodeId, AddError> {
        if let Some(&id) = self.directory(parent)?.entries.get(name) {
            return self.directory(id).map(|_| id);
        }
        let attributes = Attributes::with_permissions(DIRECTORY_PERMISSIONS);
        let id = self.push(empty_directory(parent, name), attributes);
        self.link(parent, name, id)?;
        Ok(id)
    }

    /// Gives a node a name.
    fn link(&mut self, parent: NodeId, name: &'a [u8], id: NodeId) -> Result<(), AddError> {
        let before = self.directory(parent)?.entries.get(name).copied();
        if let Some(before) = before {
            if matches!(self.node(before), Node::Directory(_)) {
                return Err(AddError::IsADirectory);
            }
            self.slots[before.0 as usize].links -= 1;
        }
        self.directory(parent)?.entries.insert(name, id);
        self.slots[id.0 as usize].links += 1;
        Ok(())
    }

    fn directory(&mut self, id: NodeId) -> Result<&mut Directory<'a>, AddError> {
        match &mut self.slots[id.0 as usize].node {
            Node::Directory(directory) => Ok(directory),
            _ => Err(AddError::NotADirectory),
        }
    }

    fn push(&mut self, node: Node<'a, S>, attributes: Attributes) -> NodeId {
        let id = NodeId(self.slots.len() as u32);
        self.slots.push(Slot { node, attributes, links: 0 });
        id
    }
}

impl<S> Default for Tree<'_, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory<'_> {
    /// What a name in it leads to; `.` and `..` are not looked at here.
    pub fn get(&self, name: &[u8]) -> Option<NodeId> {
        self.entries.get(name).copied()
    }

    /// The directory that it is in; the root is in itself.
    pub const fn parent(&self) -> NodeId {
        self.parent
    }
}

/// Files of an archive that have several names, by identity.
type HardLinks = BTreeMap<(u32, u32, u32), NodeId>;

fn empty_directory<'a, S>(parent: NodeId, name: &'a [u8]) -> Node<'a, S> {
    Node::Directory(Directory { entries: BTreeMap::new(), parent, name })
}

/// The names of a path that is to be added: nothing leads upwards.
fn names_of(path: &[u8]) -> impl Iterator<Item = Result<&[u8], AddError>> {
    let named = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    named.map(|name| {
        let is_good = name != b".." && name.len() <= MAX_NAME_BYTES && !name.contains(&0);
        if is_good { Ok(name) } else { Err(AddError::BadName) }
    })
}
