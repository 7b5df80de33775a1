//! The tree of files in memory: nodes in slots, directories as maps of names to nodes.
//!
//! A node lives as long as it has a name or somebody has it open ([`Tree::open`]); so a file that was
//! unlinked stays readable through its descriptors, as Unix has it. What a file's content and a
//! special node are is the user's business (`F`, `S`).
//!
//! - here: nodes, attributes, listings; `edit`: everything that changes names; `archive`: what an
//!   initrd brings. Walking a path is [`lookup`](crate::lookup).

mod archive;
mod edit;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub use archive::AddError;
pub use edit::{EditError, Future, RenameMode};

/// Permissions of directories that no archive mentions.
pub(crate) const DIRECTORY_PERMISSIONS: u16 = 0o755;

/// A node's place in its tree. It names the node as long as that has a name or is open; ids of
/// different trees are not to be mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory of every tree.
    pub const ROOT: Self = Self(0);
}

/// Which of the filesystems that a tree holds. The root's is 0; every node is in that of its directory, unless
/// [`Tree::set_filesystem`] said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FilesystemId(pub u8);

/// What a node is.
#[derive(Debug)]
pub enum Node<F, S> {
    /// Names.
    Directory(Directory),
    /// Bytes.
    File(F),
    /// Another path.
    Symlink(Box<[u8]>),
    /// Something that the kernel knows: a device, a text made on demand, a socket.
    Special(S),
}

/// A name's value in its directory.
#[derive(Clone, Copy, Debug)]
struct Link {
    id: NodeId,
    /// The entry's place in the listing, never used twice in one directory.
    cookie: u64,
}

/// The names in a directory, and the directory that it is in.
#[derive(Debug)]
pub struct Directory {
    links: BTreeMap<Box<[u8]>, Link>,
    /// Names by cookie, so that a listing that is read in pieces neither skips nor repeats an entry
    /// when others come and go.
    order: BTreeMap<u64, Box<[u8]>>,
    next_cookie: u64,
    parent: NodeId,
    /// False once the directory itself has been removed: nothing can be made in it.
    is_linked: bool,
}

/// Owner, permissions, times (nanoseconds since 1970).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// The lower twelve bits of `st_mode`.
    pub permissions: u16,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Last read, in nanoseconds since 1970 as all times here; before it they are negative.
    pub accessed_ns: i128,
    /// Last change of the content.
    pub modified_ns: i128,
    /// Last change of the node.
    pub changed_ns: i128,
    /// When it was made.
    pub born_ns: i128,
}

impl Attributes {
    /// Owned by root, of 1970.
    pub const fn with_permissions(permissions: u16) -> Self {
        Self::new(permissions, 0)
    }

    /// The same, owned by somebody.
    #[must_use]
    pub const fn owned_by(self, (user, group): (u32, u32)) -> Self {
        Self { user, group, ..self }
    }

    /// Owned by root, made at `now_ns`.
    pub const fn new(permissions: u16, now_ns: u64) -> Self {
        let now_ns = now_ns as i128;
        Self {
            permissions,
            user: 0,
            group: 0,
            accessed_ns: now_ns,
            modified_ns: now_ns,
            changed_ns: now_ns,
            born_ns: now_ns,
        }
    }
}

/// One line of a directory listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'t> {
    /// The name.
    pub name: &'t [u8],
    /// What it names.
    pub id: NodeId,
    /// Where the listing goes on after this line.
    pub next: u64,
}

#[derive(Debug)]
struct Slot<F, S> {
    node: Node<F, S>,
    attributes: Attributes,
    inode: u64,
    /// Names of the node; a directory has one or, once removed, none.
    names: u32,
    /// How often it is open.
    opens: u32,
    /// It was made without a name, and may get one.
    is_nameable: bool,
    filesystem: FilesystemId,
}

/// A tree of files.
#[derive(Debug)]
pub struct Tree<F, S> {
    slots: Vec<Option<Slot<F, S>>>,
    free: Vec<NodeId>,
    next_inode: u64,
}

/// Cookies of `.` and `..`, and of the first name.
const SELF_COOKIE: u64 = 0;
const PARENT_COOKIE: u64 = 1;
const FIRST_COOKIE: u64 = 2;

impl<F, S> Tree<F, S> {
    /// Makes a tree with an empty root.
    pub fn new() -> Self {
        let root = Slot {
            node: Node::Directory(Directory::new(NodeId::ROOT)),
            attributes: Attributes::with_permissions(DIRECTORY_PERMISSIONS),
            inode: 1,
            names: 1,
            opens: 0,
            is_nameable: false,
            filesystem: FilesystemId::default(),
        };
        Self { slots: alloc::vec![Some(root)], free: Vec::new(), next_inode: 2 }
    }

    /// How many nodes there are, the root included.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True if there is only the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    fn slot(&self, id: NodeId) -> &Slot<F, S> {
        self.slots[id.0 as usize].as_ref().expect("the id of a node that lives")
    }

    fn slot_mut(&mut self, id: NodeId) -> &mut Slot<F, S> {
        self.slots[id.0 as usize].as_mut().expect("the id of a node that lives")
    }

    /// True for a directory.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id), Node::Directory(_))
    }

    /// What a node is.
    pub fn node(&self, id: NodeId) -> &Node<F, S> {
        &self.slot(id).node
    }

    /// A number that no other node of the tree has or had.
    pub fn inode(&self, id: NodeId) -> u64 {
        self.slot(id).inode
    }

    /// The filesystem that a node is in.
    pub fn filesystem(&self, id: NodeId) -> FilesystemId {
        self.slot(id).filesystem
    }

    /// Makes a directory, with all that is in it, a filesystem of its own. Names are neither moved nor linked from
    /// one to another.
    pub fn set_filesystem(&mut self, root: NodeId, filesystem: FilesystemId) {
        let mut pending = alloc::vec![root];
        while let Some(id) = pending.pop() {
            self.slot_mut(id).filesystem = filesystem;
            if let Node::Directory(directory) = self.node(id) {
                pending.extend(directory.links.values().map(|link| link.id));
            }
        }
    }

    /// True for a directory with which a filesystem begins.
    pub fn is_filesystem_root(&self, id: NodeId) -> bool {
        match self.node(id) {
            Node::Directory(directory) => {
                id == NodeId::ROOT || self.filesystem(id) != self.filesystem(directory.parent)
            }
            _ => false,
        }
    }

    /// The same without a copy.
    pub(crate) fn attributes_of(&self, id: NodeId) -> &Attributes {
        &self.slot(id).attributes
    }

    /// A node's owner, permissions and times.
    pub fn attributes(&self, id: NodeId) -> Attributes {
        self.slot(id).attributes
    }

    /// The same, to be changed.
    pub fn attributes_mut(&mut self, id: NodeId) -> &mut Attributes {
        &mut self.slot_mut(id).attributes
    }

    /// How many names a node has. A directory has its own, `.`, and the `..` of each directory
    /// in it.
    pub fn links(&self, id: NodeId) -> u32 {
        let slot = self.slot(id);
        match &slot.node {
            Node::Directory(directory) if directory.is_linked => {
                let is_directory = |link: &&Link| matches!(self.node(link.id), Node::Directory(_));
                2 + directory.links.values().filter(is_directory).count() as u32
            }
            _ => slot.names,
        }
    }

    /// Keeps a node alive until [`Self::close`], whatever becomes of its names.
    pub fn open(&mut self, id: NodeId) {
        self.slot_mut(id).opens += 1;
    }

    /// Undoes one [`Self::open`]. Answers the node if that was the last that kept it alive.
    #[must_use = "the node may hold what must be dropped elsewhere"]
    pub fn close(&mut self, id: NodeId) -> Option<Node<F, S>> {
        self.slot_mut(id).opens -= 1;
        self.reclaim(id)
    }

    /// Takes a node out if nothing keeps it alive.
    fn reclaim(&mut self, id: NodeId) -> Option<Node<F, S>> {
        let slot = self.slot(id);
        if slot.names > 0 || slot.opens > 0 {
            return None;
        }
        self.free.push(id);
        self.slots[id.0 as usize].take().map(|slot| slot.node)
    }

    /// Puts in a node without a name.
    fn insert(
        &mut self,
        node: Node<F, S>,
        attributes: Attributes,
        filesystem: FilesystemId,
    ) -> Result<NodeId, EditError> {
        if self.free.is_empty() {
            // Room for its end too, which cannot fail.
            self.slots.try_reserve(1).map_err(|_| EditError::OutOfMemory)?;
            self.free.try_reserve(self.slots.len() + 1).map_err(|_| EditError::OutOfMemory)?;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let slot = Some(Slot { node, attributes, inode, names: 0, opens: 0, is_nameable: false, filesystem });
        if let Some(id) = self.free.pop() {
            self.slots[id.0 as usize] = slot;
            return Ok(id);
        }
        self.slots.push(slot);
        Ok(NodeId(self.slots.len() as u32 - 1))
    }

    /// The listing of a directory from a position on ([`Entry::next`]; it begins at 0): `.`, `..`,
    /// then the names, oldest first. `None` if the node is not a directory.
    pub fn list(&self, id: NodeId, position: u64) -> Option<impl Iterator<Item = Entry<'_>>> {
        let Node::Directory(directory) = self.node(id) else { return None };
        let dots = [
            Entry { name: b".", id, next: SELF_COOKIE + 1 },
            Entry { name: b"..", id: directory.parent, next: PARENT_COOKIE + 1 },
        ];
        let named = directory.order.range(position.max(FIRST_COOKIE)..).map(|(&cookie, name)| Entry {
            name,
            id: directory.links[name].id,
            next: cookie + 1,
        });
        Some(dots.into_iter().filter(move |dot| dot.next > position).chain(named))
    }

    /// The absolute path of a directory; `None` if the node is not one, or has been removed.
    pub fn path_of(&self, id: NodeId) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let Node::Directory(directory) = self.node(at) else { return None };
            let Node::Directory(parent) = self.node(directory.parent) else { return None };
            names.push(parent.links.iter().find(|(_, link)| link.id == at)?.0);
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
}

impl<F, S> Default for Tree<F, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory {
    fn new(parent: NodeId) -> Self {
        Self {
            links: BTreeMap::new(),
            order: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
            parent,
            is_linked: true,
        }
    }

    /// What a name in it leads to; `.` and `..` are not looked at here.
    pub fn get(&self, name: &[u8]) -> Option<NodeId> {
        self.links.get(name).map(|link| link.id)
    }

    /// The directory that it is in; the root is in itself.
    pub const fn parent(&self) -> NodeId {
        self.parent
    }

    /// Makes a name lead to `id`, in the place of what it led to before.
    fn set(&mut self, name: &[u8], id: NodeId) {
        if let Some(link) = self.links.get_mut(name) {
            link.id = id;
            return;
        }
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.links.insert(name.into(), Link { id, cookie });
        self.order.insert(cookie, name.into());
    }

    fn remove(&mut self, name: &[u8]) -> Option<NodeId> {
        let link = self.links.remove(name)?;
        self.order.remove(&link.cookie);
        Some(link.id)
    }
}
