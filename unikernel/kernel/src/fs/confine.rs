//! Whether a file may be used as it is to be: by the rules of `allow-paths=`, and by those that the calling thread has put upon itself
//! (landlock(7)). Rules give rights below directories, so the way from a file up to the root is climbed, across mounts.

use alloc::string::String;
use alloc::sync::Arc;

use unikernel_cmdline::Shown;
use unikernel_fs::{Node, NodeId, Place};
use unikernel_policy::access::{CannotMove, Domain, FileAccess, FileKey, Side, Walk, may_move};
use unikernel_vfs::FileKind;

use super::{FileTree, Handle, Located, Special, mounts, tree};
use crate::abi::Errno;
use crate::policy::{access, learn, refusals};
use crate::task::confinement;
use crate::vfs;
use crate::vfs::file::Opened;
use crate::vfs::inode::Inode;
use crate::vfs::walk::InodePlace;

/// Directories between a file and the root at most: a damaged disk can lead in a circle.
const MAX_DEPTH: usize = 4096;

/// A file, or where one is to be made.
#[derive(Clone, Copy)]
pub(crate) enum Spot<'a> {
    /// In the tree.
    Memory {
        /// The tree.
        tree: &'a FileTree,
        /// The directory that it is in.
        directory: NodeId,
        /// Its name there.
        name: &'a [u8],
        /// The node.
        found: Option<NodeId>,
    },
    /// On a disk.
    Disk {
        /// The directory that it is in.
        directory: &'a Arc<Inode>,
        /// Its path.
        path: &'a [u8],
        /// The inode.
        found: Option<&'a Arc<Inode>>,
    },
}

/// What else may be done with a file that may be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Granted {
    /// It may be cut off.
    pub may_truncate: bool,
}

impl Granted {
    /// Everything.
    pub(crate) const ALL: Self = Self { may_truncate: true };
}

/// Which inode it is.
pub(crate) fn key_of(located: &Located) -> FileKey {
    match located {
        Located::Memory(handle) => node_key(&tree(), handle.id),
        Located::Inode(opened) => inode_key(&opened.inode),
    }
}

fn node_key(tree: &FileTree, id: NodeId) -> FileKey {
    FileKey { device: mounts::device_number(tree, id), inode: tree.inode(id) }
}

fn inode_key(inode: &Inode) -> FileKey {
    FileKey { device: inode.mount.device_number, inode: inode.number.0 }
}

impl<'a> Spot<'a> {
    /// Where a walk in the tree has ended.
    pub(crate) fn in_memory(tree: &'a FileTree, place: &'a Place) -> Self {
        Self::Memory { tree, directory: place.parent, name: &place.name, found: place.found }
    }

    /// Where a walk on a disk has ended.
    pub(crate) fn on_disk(place: &'a InodePlace) -> Self {
        Self::Disk { directory: &place.parent, path: &place.path, found: place.found.as_ref() }
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Memory { tree, found, .. } => found.is_some_and(|id| tree.is_directory(id)),
            Self::Disk { found, .. } => found.is_some_and(|inode| inode.is_directory()),
        }
    }

    /// The right to make what is here, elsewhere.
    fn making(&self) -> FileAccess {
        match self {
            Self::Memory { found: None, .. } | Self::Disk { found: None, .. } => FileAccess::empty(),
            Self::Memory { tree, found: Some(id), .. } => match tree.node(*id) {
                Node::Directory(_) => FileAccess::MAKE_DIR,
                Node::Symlink(_) => FileAccess::MAKE_SYM,
                Node::Special(Special::Device(_) | Special::Driver(_)) => FileAccess::MAKE_CHAR,
                Node::Special(Special::Socket(_)) => FileAccess::MAKE_SOCK,
                Node::Special(Special::Fifo(_)) => FileAccess::MAKE_FIFO,
                Node::File(_) | Node::Special(Special::Text(_) | Special::Attribute(_) | Special::Image) => {
                    FileAccess::MAKE_REG
                }
            },
            Self::Disk { found: Some(inode), .. } => match inode.kind() {
                FileKind::Directory => FileAccess::MAKE_DIR,
                FileKind::Symlink => FileAccess::MAKE_SYM,
                FileKind::CharacterDevice => FileAccess::MAKE_CHAR,
                FileKind::BlockDevice => FileAccess::MAKE_BLOCK,
                FileKind::Socket => FileAccess::MAKE_SOCK,
                FileKind::Fifo => FileAccess::MAKE_FIFO,
                FileKind::File => FileAccess::MAKE_REG,
            },
        }
    }

    /// The right to remove what is here.
    fn removing(&self) -> FileAccess {
        match self {
            Self::Memory { found: None, .. } | Self::Disk { found: None, .. } => FileAccess::empty(),
            _ if self.is_directory() => FileAccess::REMOVE_DIR,
            _ => FileAccess::REMOVE_FILE,
        }
    }

    /// The file's own key, unless there is none.
    fn own_key(&self) -> Option<FileKey> {
        match self {
            Self::Memory { tree, found, .. } => found.map(|id| node_key(tree, id)),
            Self::Disk { found, .. } => found.map(|inode| inode_key(inode)),
        }
    }

    /// Shows the directory, and all above it.
    fn climb_above(&self, see: &mut dyn FnMut(FileKey)) -> Result<(), Errno> {
        match self {
            Self::Memory { tree, directory, .. } => climb_tree(tree, *directory, see),
            Self::Disk { directory, .. } => climb_disk(directory, see),
        }
    }

    /// Shows the file, its directory, and all above that.
    fn climb(&self, see: &mut dyn FnMut(FileKey)) -> Result<(), Errno> {
        match self {
            // A directory knows what is above it, whatever the path was: `.`, `..` or a root.
            Self::Memory { tree, found: Some(id), .. } if tree.is_directory(*id) => {
                climb_tree(tree, *id, see)
            }
            Self::Disk { found: Some(inode), .. } if inode.is_directory() => climb_disk(inode, see),
            _ => {
                self.own_key().into_iter().for_each(&mut *see);
                self.climb_above(see)
            }
        }
    }

    /// Its path, for people.
    fn path(&self) -> String {
        let path = match self {
            Self::Memory { tree, directory, name, .. } => {
                let mut path = tree.path_of(*directory).unwrap_or_default();
                if !path.ends_with(b"/") && !name.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                path
            }
            Self::Disk { path, .. } => path.to_vec(),
        };
        String::from_utf8_lossy(&path).into_owned()
    }

    /// The path of which a rule has to allow this: the directory's where something is made or removed.
    fn path_for_rule(&self, wanted: FileAccess) -> String {
        if !wanted.intersects(FileAccess::NAMES) && self.own_key().is_some() {
            return self.path();
        }
        let path = match self {
            Self::Memory { tree, directory, .. } => tree.path_of(*directory).unwrap_or_default(),
            Self::Disk { path, .. } => {
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                path[..end.max(1).min(path.len())].to_vec()
            }
        };
        String::from_utf8_lossy(&path).into_owned()
    }
}

fn climb_tree(tree: &FileTree, from: NodeId, see: &mut dyn FnMut(FileKey)) -> Result<(), Errno> {
    let mut at = from;
    for _ in 0..MAX_DEPTH {
        see(node_key(tree, at));
        match tree.node(at) {
            _ if at == NodeId::ROOT => {
                // A disk may be mounted over it.
                if let Some(mount) = vfs::table::on(NodeId::ROOT) {
                    see(FileKey { device: mount.device_number, inode: mount.root.0 });
                }
                return Ok(());
            }
            Node::Directory(directory) => at = directory.parent(),
            _ => return Ok(()),
        }
    }
    Err(Errno::ELOOP)
}

fn climb_disk(from: &Arc<Inode>, see: &mut dyn FnMut(FileKey)) -> Result<(), Errno> {
    let mount = from.mount;
    let mut at = Arc::clone(from);
    for _ in 0..MAX_DEPTH {
        see(inode_key(&at));
        if at.number == mount.root {
            let tree = tree();
            // What the mount covers is seen, too: no rule can be about that.
            return climb_tree(&tree, mount.covered, see);
        }
        at = mount.child(&at, b"..")?.ok_or(Errno::ENOENT)?;
    }
    Err(Errno::ELOOP)
}

/// Whether a file may be used so, by what is asked of the file itself.
pub(crate) fn check(spot: &Spot<'_>, wanted: FileAccess) -> Result<Granted, Errno> {
    if !access::is_on() {
        return Ok(Granted::ALL);
    }
    judge(spot, wanted, |walk| spot.climb(&mut |key| walk.visit(key)))
}

/// Whether something may be made or removed in the directory of a spot.
pub(crate) fn check_directory(spot: &Spot<'_>, wanted: FileAccess) -> Result<(), Errno> {
    if !access::is_on() {
        return Ok(());
    }
    judge(spot, wanted, |walk| spot.climb_above(&mut |key| walk.visit(key))).map(drop)
}

/// Asks both who bind the thread, with a walk that `climb` shows what is on the way.
fn judge(
    spot: &Spot<'_>,
    wanted: FileAccess,
    climb: impl Fn(&mut Walk<'_>) -> Result<(), Errno>,
) -> Result<Granted, Errno> {
    learn::file(wanted, || spot.path_for_rule(wanted));
    let asked = wanted | FileAccess::TRUNCATE;
    let missing = |domain: &Domain| {
        let mut walk = domain.look_for(asked);
        climb(&mut walk)?;
        Ok::<_, Errno>(walk.missing())
    };
    let by_words = access::domain().map_or(Ok(FileAccess::empty()), missing)?;
    if by_words.intersects(wanted) {
        return Err(refuse(spot, by_words & wanted));
    }
    let own = confinement::domain();
    let by_itself = own.as_deref().map_or(Ok(FileAccess::empty()), missing)?;
    if by_itself.intersects(wanted) {
        return Err(Errno::EACCES);
    }
    Ok(Granted { may_truncate: !(by_words | by_itself).contains(FileAccess::TRUNCATE) })
}

#[cold]
fn refuse(spot: &Spot<'_>, missing: FileAccess) -> Errno {
    let path = spot.path();
    refusals::tell(format_args!("policy: {missing:?} of `{}` is not in `allow-paths=`: EPERM", Shown(&path)));
    Errno::EPERM
}

/// How something comes to another place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// It gets a further name.
    Link,
    /// It leaves its old one.
    Rename,
    /// It changes places with what is there.
    Exchange,
}

/// Whether what is at one spot may be moved or linked to another (Linux: `current_check_refer_path`).
pub(crate) fn check_move(from: &Spot<'_>, to: &Spot<'_>, how: Move) -> Result<(), Errno> {
    if !access::is_on() {
        return Ok(());
    }
    let (mut at_source, mut at_target) = (FileAccess::empty(), from.making());
    if how == Move::Exchange {
        at_source |= to.making();
    }
    if how != Move::Link {
        at_source |= from.removing();
        at_target |= to.removing();
    }
    if is_same_directory(from, to) {
        return check_directory(to, at_source | at_target);
    }
    learn::file(at_source | FileAccess::REFER, || from.path_for_rule(FileAccess::REFER));
    learn::file(at_target | FileAccess::REFER, || to.path_for_rule(FileAccess::REFER));
    let needed = (at_source, at_target);
    if let Some(domain) = access::domain() {
        may_refer(domain, (from, to), needed, how)?.map_err(|_| refuse(to, at_target | FileAccess::REFER))?;
    }
    let Some(own) = confinement::domain() else { return Ok(()) };
    may_refer(&own, (from, to), needed, how)?.map_err(|error| match error {
        CannotMove::Denied => Errno::EACCES,
        CannotMove::Elsewhere => Errno::EXDEV,
    })
}

fn is_same_directory(from: &Spot<'_>, to: &Spot<'_>) -> bool {
    match (from, to) {
        (Spot::Memory { directory: from, .. }, Spot::Memory { directory: to, .. }) => from == to,
        (Spot::Disk { directory: from, .. }, Spot::Disk { directory: to, .. }) => {
            inode_key(from) == inode_key(to)
        }
        _ => false,
    }
}

fn may_refer(
    domain: &Domain,
    (from, to): (&Spot<'_>, &Spot<'_>),
    (at_source, at_target): (FileAccess, FileAccess),
    how: Move,
) -> Result<Result<(), CannotMove>, Errno> {
    let side = |spot: &Spot<'_>, needed, leaves: bool| {
        let mut directory = domain.look_for(FileAccess::all());
        spot.climb_above(&mut |key| directory.visit(key))?;
        let moved = leaves.then(|| {
            let mut own = domain.look_for(FileAccess::all());
            spot.own_key().into_iter().for_each(|key| own.visit(key));
            (own, spot.is_directory())
        });
        Ok::<_, Errno>(Side { directory, needed, moved })
    };
    let from = side(from, at_source, true)?;
    let to = side(to, at_target, how == Move::Exchange)?;
    Ok(may_move(&from, &to))
}

/// Whether what was found, or is open, may be used so.
pub(crate) fn check_located(located: &Located, wanted: FileAccess) -> Result<Granted, Errno> {
    if !access::is_on() {
        return Ok(Granted::ALL);
    }
    match located {
        Located::Memory(handle) => check_handle(handle, wanted),
        Located::Inode(opened) => check_opened(opened, wanted),
    }
}

/// The same for a node.
pub(crate) fn check_handle(handle: &Handle, wanted: FileAccess) -> Result<Granted, Errno> {
    let tree = tree();
    match handle.place() {
        // What memfd_create(2) makes is in no directory.
        Some((_, name)) if name.starts_with(b"memfd:") && tree.links(handle.id) == 0 => Ok(Granted::ALL),
        Some((directory, name)) => {
            check(&Spot::Memory { tree: &tree, directory, name, found: Some(handle.id) }, wanted)
        }
        None => check(
            &Spot::Memory { tree: &tree, directory: handle.id, name: b"", found: Some(handle.id) },
            wanted,
        ),
    }
}

/// The same for an inode.
pub(crate) fn check_opened(opened: &Opened, wanted: FileAccess) -> Result<Granted, Errno> {
    if !access::is_on() {
        return Ok(Granted::ALL);
    }
    let directory = match opened.parent {
        Some(parent) => opened.inode.mount.inode(parent)?,
        None => Arc::clone(&opened.inode),
    };
    check(&Spot::Disk { directory: &directory, path: &opened.path, found: Some(&opened.inode) }, wanted)
}

/// Whether a node may be given this name, which is in the same tree.
pub(crate) fn check_link_of_node(handle: &Handle, to: &Spot<'_>) -> Result<(), Errno> {
    let (Spot::Memory { tree, .. }, Some((directory, name))) = (to, handle.place()) else {
        // A file that has no name yet is made where it gets one.
        return check_directory(to, FileAccess::MAKE_REG);
    };
    let from = Spot::Memory { tree, directory, name, found: Some(handle.id) };
    check_move(&from, to, Move::Link)
}

/// The same for an inode.
pub(crate) fn check_link_of_inode(opened: &Opened, to: &Spot<'_>) -> Result<(), Errno> {
    let Some(parent) = opened.parent.filter(|_| access::is_on()) else {
        return check_directory(to, FileAccess::MAKE_REG);
    };
    let directory = opened.inode.mount.inode(parent)?;
    let from = Spot::Disk { directory: &directory, path: &opened.path, found: Some(&opened.inode) };
    check_move(&from, to, Move::Link)
}
