//! Paths as names of `AF_UNIX` sockets (unix(7)): nodes of the tree, or inodes, that lead to a socket while it lives.

use alloc::sync::{Arc, Weak};

use unikernel_fs::{LastLink, Node};
use unikernel_policy::access::FileAccess;
use unikernel_vfs::NewKind;
use unikernel_vfs::access::Wanted;

use super::confine::{self, Spot};
use super::{Located, Special, Walked, mounts, permission};
use crate::abi::Errno;
use crate::net::socket::Socket;
use crate::net::unix::Paths;
use crate::vfs::names;

/// The files of this kernel.
pub(crate) struct SocketNames;

impl Paths for SocketNames {
    fn check(&self, path: &[u8]) -> Result<(), Errno> {
        free_place(path).map(drop)
    }

    fn bind(&self, path: &[u8], socket: &Weak<Socket>) -> Result<(), Errno> {
        let (mut tree, place) = match free_place(path)? {
            Walked::Memory(tree, place) => (tree, place),
            Walked::Inode(place) => {
                confine::check_directory(&Spot::on_disk(&place), FileAccess::MAKE_SOCK)?;
                names::create(&place, NewKind::Socket, super::mode(0o777))?.bind(socket);
                return Ok(());
            }
            Walked::Descriptor(_) => return Err(Errno::EADDRINUSE),
        };
        mounts::check_create(&tree, place.parent)?;
        permission::check_node(&tree, place.parent, Wanted::CHANGE_NAMES)?;
        confine::check_directory(&Spot::in_memory(&tree, &place), FileAccess::MAKE_SOCK)?;
        let attributes = permission::new_attributes(&tree, place.parent, false, 0o777);
        let node = Node::Special(Special::Socket(Weak::clone(socket)));
        tree.create(place.parent, &place.name, node, attributes)?;
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<Option<Arc<Socket>>, Errno> {
        let found = super::find(&super::current_directory(), path, LastLink::Follow)?;
        permission::check(&found, Wanted::WRITE)?;
        Ok(match found {
            Located::Memory(handle) => match super::tree().node(handle.id) {
                Node::Special(Special::Socket(socket)) => socket.upgrade(),
                _ => None,
            },
            Located::Inode(opened) => opened.inode.socket(),
        })
    }
}

/// The place of a node that is to be made: it is free, and no directory's.
fn free_place(path: &[u8]) -> Result<Walked, Errno> {
    let walked = super::walk(&super::current_directory(), path, LastLink::Keep)?;
    let (is_taken, wants_directory) = match &walked {
        Walked::Memory(_, place) => (place.found.is_some(), place.wants_directory),
        Walked::Inode(place) => (place.found.is_some(), place.wants_directory),
        Walked::Descriptor(_) => (true, false),
    };
    match walked {
        _ if is_taken => Err(Errno::EADDRINUSE),
        // As for every node that is no directory (Linux: `filename_create`).
        _ if wants_directory => Err(Errno::ENOENT),
        walked => Ok(walked),
    }
}
