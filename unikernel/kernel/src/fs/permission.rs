//! Who may do what with files: the questions that operations ask, of nodes of the tree and of inodes alike. `unikernel_vfs::access`
//! answers them; of inodes `crate::vfs` knows what it needs for that (`vfs::permission`).
//!
//! As long as all may do everything, each question is one branch ([`credentials::restricted`]).

use alloc::sync::Arc;

use linux_raw_sys::general::{S_IFDIR, S_IFMT};
use unikernel_fs::{Attributes, Node};
use unikernel_vfs::access::{self, Object, ProgramFile, Refusal, Wanted};

use super::{FileTree, Located, NodeId, mounts, tree};
use crate::abi::Errno;
use crate::file::{File, Metadata};
use crate::platform::time;
use crate::task::credentials::{self, Credentials};
use crate::vfs;

/// The owner of what tells of the process, in `/proc`: whoever that is just then. No file can be given to this number (chown(2)).
pub(super) const PROCESS: u32 = u32::MAX;
/// What everybody may list and search.
const PUBLIC_DIRECTORY: u16 = 0o555;

/// Who searches directories on a walk.
pub(crate) struct Searcher(Option<Arc<Credentials>>);

impl Searcher {
    /// The running thread.
    pub(crate) fn new() -> Self {
        Self(credentials::restricted())
    }

    /// Whether a directory of the tree may be searched.
    #[inline]
    pub(crate) fn may_search(&self, directory: &Attributes) -> bool {
        match &self.0 {
            None => true,
            Some(who) => may_search(who, directory),
        }
    }
}

fn may_search(who: &Credentials, directory: &Attributes) -> bool {
    // The process may always look at itself (Linux: `proc_fd_permission`).
    directory.user == PROCESS || access::check(who, &object_of(directory, true), Wanted::EXECUTE).is_ok()
}

/// Owner and group of a node, as they are now.
pub(super) fn owner_of(attributes: &Attributes, is_directory: bool) -> (u32, u32) {
    if attributes.user == PROCESS {
        return credentials::owner_of_process(is_directory && attributes.permissions == PUBLIC_DIRECTORY);
    }
    (attributes.user, attributes.group)
}

fn object_of(attributes: &Attributes, is_directory: bool) -> Object<'static> {
    let (user, group) = owner_of(attributes, is_directory);
    Object { is_directory, user, group, permissions: attributes.permissions, acl: None }
}

/// What is known of a node.
pub(crate) fn object(tree: &FileTree, id: NodeId) -> Object<'static> {
    object_of(&tree.attributes(id), tree.is_directory(id))
}

fn of_metadata(metadata: &Metadata) -> Object<'static> {
    Object {
        is_directory: metadata.mode & S_IFMT == S_IFDIR,
        user: metadata.user,
        group: metadata.group,
        permissions: (metadata.mode & 0o7777) as u16,
        acl: None,
    }
}

/// Asks `rule` about a node for the running thread, unless all may do everything.
pub(crate) fn ask_node(
    tree: &FileTree,
    id: NodeId,
    rule: impl FnOnce(&Credentials, &Object<'_>) -> Result<(), Refusal>,
) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    Ok(rule(&who, &object(tree, id))?)
}

/// The same about an open file, which may have no name.
pub(crate) fn ask_opened(
    file: &dyn File,
    rule: impl FnOnce(&Credentials, &Object<'_>) -> Result<(), Refusal>,
) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    match vfs::file::of(file) {
        Some(opened) => Ok(opened.inode.ask(&who, |object| rule(&who, object))??),
        None => Ok(rule(&who, &of_metadata(&file.metadata()))?),
    }
}

/// Whether the running thread may use a node so.
pub(crate) fn check_node(tree: &FileTree, id: NodeId, wanted: Wanted) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    let attributes = tree.attributes(id);
    if attributes.user == PROCESS && tree.is_directory(id) && wanted != Wanted::CHANGE_NAMES {
        return Ok(());
    }
    Ok(access::check(&who, &object(tree, id), wanted)?)
}

/// Whether the running thread may use so what a path led to.
pub(crate) fn check(found: &Located, wanted: Wanted) -> Result<(), Errno> {
    match found {
        Located::Memory(handle) => check_node(&tree(), handle.id, wanted),
        Located::Inode(opened) => opened.inode.check(wanted),
    }
}

/// Whether the running thread may take a name away from a directory that leads to `found`.
pub(crate) fn check_removal(tree: &FileTree, directory: NodeId, found: NodeId) -> Result<(), Errno> {
    let Some(who) = credentials::restricted() else { return Ok(()) };
    let directory = object(tree, directory);
    access::check(&who, &directory, Wanted::CHANGE_NAMES)?;
    Ok(access::check_removal(&who, &directory, object(tree, found).user)?)
}

/// Whether somebody may use so what a path led to, or an open file. These are asked of root, too: what nobody may execute, root
/// may not.
pub(crate) fn check_as(who: &Credentials, found: &Located, wanted: Wanted) -> Result<(), Errno> {
    match found {
        Located::Memory(handle) => Ok(access::check(who, &object(&tree(), handle.id), wanted)?),
        Located::Inode(opened) => opened.inode.check_for(who, wanted),
    }
}

/// The same of an open file.
pub(crate) fn check_opened_as(who: &Credentials, file: &dyn File, wanted: Wanted) -> Result<(), Errno> {
    match vfs::file::of(file) {
        Some(opened) => opened.inode.check_for(who, wanted),
        None => Ok(access::check(who, &of_metadata(&file.metadata()), wanted)?),
    }
}

/// Whether the running thread may execute an open file.
pub(crate) fn check_execute(file: &dyn File) -> Result<(), Errno> {
    if limits_of_opened(file).0 || !file.is_regular() {
        return Err(Errno::EACCES);
    }
    check_opened_as(&credentials::mine(), file, Wanted::EXECUTE)
}

/// Whether the mount of what a path led to is `noexec`, and whether it is read-only.
pub(crate) fn limits_of(found: &Located) -> (bool, bool) {
    match found {
        Located::Memory(handle) => limits_of_node(handle.id),
        Located::Inode(opened) => {
            let mount = opened.inode.mount;
            (mount.options.has_no_programs, mount.is_read_only())
        }
    }
}

/// True if the mount of an open file is `noexec`.
pub(crate) fn has_no_programs(file: &dyn File) -> bool {
    limits_of_opened(file).0
}

/// The same of an open file; what has no name has no limits.
pub(crate) fn limits_of_opened(file: &dyn File) -> (bool, bool) {
    match (vfs::file::of(file), super::node::handle_of(file)) {
        (Some(opened), _) => (opened.inode.mount.options.has_no_programs, opened.inode.mount.is_read_only()),
        (None, Some(handle)) => limits_of_node(handle.id),
        (None, None) => (false, false),
    }
}

fn limits_of_node(id: NodeId) -> (bool, bool) {
    let tree = tree();
    let filesystem = mounts::of(&tree, id);
    (filesystem.options.has_no_programs, filesystem.edits == mounts::Edits::ReadOnly)
}

/// What the file of a program says of whom that runs as.
pub(crate) fn of_program(file: &dyn File) -> Result<ProgramFile, Errno> {
    let metadata = file.metadata();
    let program = ProgramFile {
        user: metadata.user,
        group: metadata.group,
        permissions: (metadata.mode & 0o7777) as u16,
        capabilities: None,
        is_on_nosuid: false,
    };
    Ok(match (vfs::file::of(file), super::node::handle_of(file)) {
        (Some(opened), _) => ProgramFile {
            capabilities: opened.inode.access_attributes()?.capabilities,
            is_on_nosuid: opened.inode.mount.options.has_no_privileges,
            ..program
        },
        (None, Some(handle)) => {
            let is_on_nosuid = mounts::of(&tree(), handle.id).options.has_no_privileges;
            ProgramFile { is_on_nosuid, ..program }
        }
        (None, None) => program,
    })
}

/// Attributes of what the running thread makes in a directory of the tree, if `mode` is asked for.
pub(crate) fn new_attributes(
    tree: &FileTree,
    directory: NodeId,
    is_directory: bool,
    mode: u32,
) -> Attributes {
    let (permissions, now_ns) = (super::masked(mode), time::wall_ns());
    let who = credentials::mine();
    let (group, permissions) =
        access::new_permissions(&who, &object(tree, directory), is_directory, permissions);
    Attributes::new(permissions, now_ns).owned_by((who.user_fs, group))
}

/// The content of a node was changed by the running thread: a program that is changed by who is not privileged loses its
/// privileges.
pub(super) fn drop_privileges(attributes: &mut Attributes, is_file: bool) {
    const PRIVILEGES: u16 = access::SET_USER_ID | access::SET_GROUP_ID;
    if attributes.permissions & PRIVILEGES == 0 || !is_file {
        return;
    }
    if let Some(who) = credentials::restricted()
        && let Some(permissions) = access::without_privileges(&who, attributes.permissions, attributes.group)
    {
        attributes.permissions = permissions;
    }
}

/// Has everything in a directory of the tree be the process's.
pub(super) fn give_to_process(tree: &mut FileTree, root: NodeId) {
    let mut pending = alloc::vec![root];
    while let Some(id) = pending.pop() {
        let attributes = tree.attributes_mut(id);
        (attributes.user, attributes.group) = (PROCESS, PROCESS);
        if let Node::Directory(_) = tree.node(id) {
            pending.extend(tree.list(id, 2).into_iter().flatten().map(|entry| entry.id));
        }
    }
}

/// `EPERM` unless the running thread may keep a file's time of reading as it is (`O_NOATIME`).
pub(crate) fn check_no_access_time(file: &dyn File) -> Result<(), Errno> {
    ask_opened(file, |who, object| access::check_owner(who, object.user))
}
