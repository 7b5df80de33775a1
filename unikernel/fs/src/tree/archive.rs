//! Filling a tree: from cpio archives, and one node at a time under its whole path.

use alloc::collections::BTreeMap;

use super::{Attributes, DIRECTORY_PERMISSIONS, EditError, Node, NodeId, Tree};
use crate::MAX_NAME_BYTES;
use crate::cpio::{ArchiveEntry, ArchiveError, Entries, Problem};

/// `st_mode`: the bits of the type, and the types (inode(7)).
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

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

/// Files of an archive that have several names, by identity.
type HardLinks = BTreeMap<(u32, u32, u32), NodeId>;

impl<F, S> Tree<F, S> {
    /// Adds a node under a path, making the directories on the way. What had the name is replaced,
    /// unless it is a directory.
    pub fn add(&mut self, path: &[u8], node: Node<F, S>, attributes: Attributes) -> Result<NodeId, AddError> {
        let (parent, name) = self.make_parents(path)?;
        self.clear_name(parent, name)?;
        self.create(parent, name, node, attributes).map_err(|_| AddError::NotADirectory)
    }

    /// Adds a directory under a path, and those on the way. One that is there gets the attributes.
    pub fn add_directory(&mut self, path: &[u8], attributes: Attributes) -> Result<NodeId, AddError> {
        let mut at = NodeId::ROOT;
        for name in names_of(path) {
            at = self.enter(at, name?)?;
        }
        *self.attributes_mut(at) = attributes;
        Ok(at)
    }

    /// Adds all entries of one or several concatenated archives; `make_file` makes the content of a
    /// file from its bytes. Later entries replace earlier ones, as in Linux. Device nodes, pipes and
    /// sockets are passed over.
    ///
    /// On an error the tree holds what came before it.
    pub fn add_archive<'a>(
        &mut self,
        bytes: &'a [u8],
        mut make_file: impl FnMut(&'a [u8]) -> F,
    ) -> Result<(), ArchiveError> {
        let mut linked = HardLinks::new();
        for entry in Entries::new(bytes) {
            let entry = entry?;
            self.add_entry(&entry, &mut linked, &mut make_file).map_err(|error| {
                let problem = match error {
                    AddError::BadName => Problem::BadName,
                    AddError::NotADirectory | AddError::IsADirectory => Problem::Conflict,
                };
                ArchiveError { offset: entry.offset, problem }
            })?;
        }
        Ok(())
    }

    fn add_entry<'a>(
        &mut self,
        entry: &ArchiveEntry<'a>,
        linked: &mut HardLinks,
        make_file: &mut impl FnMut(&'a [u8]) -> F,
    ) -> Result<(), AddError> {
        let modified_ns = u64::from(entry.modified_s) * NANOS_PER_SECOND;
        let attributes = Attributes {
            user: entry.user,
            group: entry.group,
            ..Attributes::new((entry.mode & !TYPE_MASK) as u16, modified_ns)
        };
        match entry.mode & TYPE_MASK {
            TYPE_DIRECTORY => drop(self.add_directory(entry.name, attributes)?),
            TYPE_SYMLINK => drop(self.add(entry.name, Node::Symlink(entry.content.into()), attributes)?),
            TYPE_FILE if entry.links > 1 => self.add_hard_link(entry, attributes, linked, make_file)?,
            TYPE_FILE => drop(self.add(entry.name, Node::File(make_file(entry.content)), attributes)?),
            _ => {}
        }
        Ok(())
    }

    /// Of the names of one file, only the last one in the archive comes with the content.
    fn add_hard_link<'a>(
        &mut self,
        entry: &ArchiveEntry<'a>,
        attributes: Attributes,
        linked: &mut HardLinks,
        make_file: &mut impl FnMut(&'a [u8]) -> F,
    ) -> Result<(), AddError> {
        let Some(&id) = linked.get(&entry.identity) else {
            let id = self.add(entry.name, Node::File(make_file(entry.content)), attributes)?;
            linked.insert(entry.identity, id);
            return Ok(());
        };
        let (parent, name) = self.make_parents(entry.name)?;
        self.clear_name(parent, name)?;
        let now_ns = u64::from(entry.modified_s) * NANOS_PER_SECOND;
        self.link(parent, name, id, now_ns).map_err(|_| AddError::NotADirectory)?;
        if !entry.content.is_empty() {
            self.slot_mut(id).node = Node::File(make_file(entry.content));
        }
        Ok(())
    }

    fn clear_name(&mut self, parent: NodeId, name: &[u8]) -> Result<(), AddError> {
        match self.unlink(parent, name, 0) {
            Ok(_) | Err(EditError::NotFound) => Ok(()),
            Err(EditError::IsADirectory) => Err(AddError::IsADirectory),
            Err(_) => Err(AddError::NotADirectory),
        }
    }

    /// The directory that is to hold the last name of `path`, and that name.
    fn make_parents<'p>(&mut self, path: &'p [u8]) -> Result<(NodeId, &'p [u8]), AddError> {
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
    fn enter(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, AddError> {
        let existing = self.directory(parent).map_err(|_| AddError::NotADirectory)?.get(name);
        if let Some(id) = existing {
            return self.directory(id).map(|_| id).map_err(|_| AddError::NotADirectory);
        }
        let attributes = Attributes::with_permissions(DIRECTORY_PERMISSIONS);
        self.create_directory(parent, name, attributes).map_err(|_| AddError::NotADirectory)
    }
}

/// The names of a path that is to be added: nothing leads upwards.
fn names_of(path: &[u8]) -> impl Iterator<Item = Result<&[u8], AddError>> {
    let named = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    named.map(|name| {
        let is_good = name != b".." && name.len() <= MAX_NAME_BYTES && !name.contains(&0);
        if is_good { Ok(name) } else { Err(AddError::BadName) }
    })
}
