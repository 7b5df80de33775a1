//! Making, removing and renaming (open(2), mkdir(2), link(2), unlink(2), rmdir(2), rename(2)). Every
//! call names a directory and a name in it; [`Tree::lookup_parent`](crate::Tree::lookup_parent) finds
//! both for a path.

use super::{Attributes, Directory, Node, NodeId, Tree};

/// Why a name cannot be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditError {
    /// There is something with that name.
    Exists,
    /// There is nothing with that name, or the directory was removed.
    NotFound,
    /// A directory is needed.
    NotADirectory,
    /// Anything but a directory is needed.
    IsADirectory,
    /// The directory has names in it.
    NotEmpty,
    /// A directory would end up inside itself.
    IntoItself,
    /// There is no memory for one more node.
    OutOfMemory,
    /// The two names are in different filesystems.
    OtherFilesystem,
    /// A filesystem begins with the directory.
    Busy,
}

/// What a rename does if the new name is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// It replaces what is there.
    Replace,
    /// It fails (`RENAME_NOREPLACE`).
    KeepExisting,
    /// The two change places (`RENAME_EXCHANGE`).
    Exchange,
}

/// Whether a node that is made without a name may get one (open(2): `O_TMPFILE` without `O_EXCL`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Future {
    /// Once.
    MayBeNamed,
    /// Never.
    StaysUnnamed,
}

impl<F, S> Tree<F, S> {
    /// Makes a node under a new name.
    pub fn create(
        &mut self,
        parent: NodeId,
        name: &[u8],
        node: Node<F, S>,
        attributes: Attributes,
    ) -> Result<NodeId, EditError> {
        if self.linked_directory(parent)?.get(name).is_some() {
            return Err(EditError::Exists);
        }
        let id = self.insert(node, attributes, self.filesystem(parent))?;
        self.attach(parent, name, id);
        self.touch(parent, attributes.changed_ns);
        Ok(id)
    }

    /// Makes a directory under a new name.
    pub fn create_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<NodeId, EditError> {
        self.create(parent, name, Node::Directory(Directory::new(parent)), attributes)
    }

    /// Makes a node without any name in the filesystem of `beside`. It lives while it is open, and is returned
    /// opened once.
    pub fn create_unnamed(
        &mut self,
        beside: NodeId,
        node: Node<F, S>,
        attributes: Attributes,
        future: Future,
    ) -> Result<NodeId, EditError> {
        let id = self.insert(node, attributes, self.filesystem(beside))?;
        self.slot_mut(id).is_nameable = future == Future::MayBeNamed;
        self.open(id);
        Ok(id)
    }

    /// Gives a node that is not a directory one more name. One that has lost its names gets none (link(2): `ENOENT`).
    pub fn link(&mut self, parent: NodeId, name: &[u8], id: NodeId, now_ns: u64) -> Result<(), EditError> {
        if matches!(self.node(id), Node::Directory(_)) {
            return Err(EditError::IsADirectory);
        }
        if self.linked_directory(parent)?.get(name).is_some() {
            return Err(EditError::Exists);
        }
        if self.filesystem(parent) != self.filesystem(id) {
            return Err(EditError::OtherFilesystem);
        }
        let slot = self.slot_mut(id);
        if slot.names == 0 && !slot.is_nameable {
            return Err(EditError::NotFound);
        }
        slot.is_nameable = false;
        self.attach(parent, name, id);
        self.touch(parent, now_ns.into());
        self.attributes_mut(id).changed_ns = now_ns.into();
        Ok(())
    }

    /// Takes a name away from a node that is not a directory. Answers the node if nothing keeps it
    /// alive.
    pub fn unlink(
        &mut self,
        parent: NodeId,
        name: &[u8],
        now_ns: u64,
    ) -> Result<Option<Node<F, S>>, EditError> {
        let id = self.directory(parent)?.get(name).ok_or(EditError::NotFound)?;
        if matches!(self.node(id), Node::Directory(_)) {
            return Err(EditError::IsADirectory);
        }
        Ok(self.detach(parent, name, id, now_ns))
    }

    /// Removes an empty directory. Answers the node if nothing keeps it alive.
    pub fn remove_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        now_ns: u64,
    ) -> Result<Option<Node<F, S>>, EditError> {
        let id = self.directory(parent)?.get(name).ok_or(EditError::NotFound)?;
        let directory = self.directory(id)?;
        if self.is_filesystem_root(id) {
            return Err(EditError::Busy);
        }
        if !directory.links.is_empty() {
            return Err(EditError::NotEmpty);
        }
        Ok(self.detach(parent, name, id, now_ns))
    }

    /// Moves a name. Answers the node that was replaced, if nothing keeps it alive.
    pub fn rename(
        &mut self,
        (from, old_name): (NodeId, &[u8]),
        (to, new_name): (NodeId, &[u8]),
        mode: RenameMode,
        now_ns: u64,
    ) -> Result<Option<Node<F, S>>, EditError> {
        if self.filesystem(from) != self.filesystem(to) {
            return Err(EditError::OtherFilesystem);
        }
        let moved = self.directory(from)?.get(old_name).ok_or(EditError::NotFound)?;
        let target = self.linked_directory(to)?.get(new_name);
        if [Some(moved), target].into_iter().flatten().any(|id| self.is_filesystem_root(id)) {
            return Err(EditError::Busy);
        }
        if mode == RenameMode::Exchange {
            let target = target.ok_or(EditError::NotFound)?;
            return self.exchange((from, old_name, moved), (to, new_name, target), now_ns);
        }
        if self.is_within(to, moved) {
            return Err(EditError::IntoItself);
        }
        let mut replaced = None;
        if let Some(target) = target {
            if mode == RenameMode::KeepExisting {
                return Err(EditError::Exists);
            }
            // Two names of one file: rename(2) does nothing.
            if target == moved {
                return Ok(None);
            }
            self.check_replace(moved, target)?;
            replaced = self.detach(to, new_name, target, now_ns);
        }
        self.directory_mut(from).remove(old_name);
        self.directory_mut(to).set(new_name, moved);
        if let Node::Directory(directory) = &mut self.slot_mut(moved).node {
            directory.parent = to;
        }
        self.touch(from, now_ns.into());
        self.touch(to, now_ns.into());
        self.attributes_mut(moved).changed_ns = now_ns.into();
        Ok(replaced)
    }

    fn exchange(
        &mut self,
        (from, old_name, moved): (NodeId, &[u8], NodeId),
        (to, new_name, target): (NodeId, &[u8], NodeId),
        now_ns: u64,
    ) -> Result<Option<Node<F, S>>, EditError> {
        if self.is_within(to, moved) || self.is_within(from, target) {
            return Err(EditError::IntoItself);
        }
        self.directory_mut(from).set(old_name, target);
        self.directory_mut(to).set(new_name, moved);
        for (id, parent) in [(moved, to), (target, from)] {
            if let Node::Directory(directory) = &mut self.slot_mut(id).node {
                directory.parent = parent;
            }
            self.attributes_mut(id).changed_ns = now_ns.into();
            self.touch(parent, now_ns.into());
        }
        Ok(None)
    }

    /// A directory replaces an empty directory only, and nothing else replaces one.
    fn check_replace(&self, moved: NodeId, target: NodeId) -> Result<(), EditError> {
        match (self.node(moved), self.node(target)) {
            (Node::Directory(_), Node::Directory(directory)) if directory.links.is_empty() => Ok(()),
            (Node::Directory(_), Node::Directory(_)) => Err(EditError::NotEmpty),
            (Node::Directory(_), _) => Err(EditError::NotADirectory),
            (_, Node::Directory(_)) => Err(EditError::IsADirectory),
            _ => Ok(()),
        }
    }

    /// True if `id` is `ancestor` or lies somewhere in it.
    fn is_within(&self, id: NodeId, ancestor: NodeId) -> bool {
        let mut at = id;
        loop {
            if at == ancestor {
                return true;
            }
            match self.node(at) {
                Node::Directory(directory) if at != NodeId::ROOT => at = directory.parent,
                _ => return false,
            }
        }
    }

    pub(super) fn attach(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        self.directory_mut(parent).set(name, id);
        self.slot_mut(id).names += 1;
    }

    fn detach(&mut self, parent: NodeId, name: &[u8], id: NodeId, now_ns: u64) -> Option<Node<F, S>> {
        self.directory_mut(parent).remove(name);
        self.touch(parent, now_ns.into());
        let slot = self.slot_mut(id);
        slot.names -= 1;
        slot.attributes.changed_ns = now_ns.into();
        if let Node::Directory(directory) = &mut slot.node {
            directory.is_linked = false;
        }
        self.reclaim(id)
    }

    /// The names in a directory have changed.
    fn touch(&mut self, directory: NodeId, now_ns: i128) {
        let attributes = self.attributes_mut(directory);
        attributes.modified_ns = now_ns;
        attributes.changed_ns = now_ns;
    }

    pub(super) fn directory(&self, id: NodeId) -> Result<&Directory, EditError> {
        match self.node(id) {
            Node::Directory(directory) => Ok(directory),
            _ => Err(EditError::NotADirectory),
        }
    }

    fn linked_directory(&self, id: NodeId) -> Result<&Directory, EditError> {
        let directory = self.directory(id)?;
        if directory.is_linked { Ok(directory) } else { Err(EditError::NotFound) }
    }

    /// A node that has been found to be a directory.
    fn directory_mut(&mut self, id: NodeId) -> &mut Directory {
        match &mut self.slot_mut(id).node {
            Node::Directory(directory) => directory,
            _ => unreachable!("checked by `directory`"),
        }
    }
}
